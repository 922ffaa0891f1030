"""The table that ``make gpu`` prints."""

from collections.abc import Sequence

from benchmarks.gpu.cases import Row
from benchmarks.gpu.promises import judge


def table_of(rows: Sequence[Row], full_size: bool) -> str:
    """A line for each figure, with the promise about it and whether it was kept.

    Args:
        rows: What was measured.
        full_size: Whether promises about speed and memory are judged.
    """
    lines = [("part", "case", "figure", "value", "promised", "")]
    for row in rows:
        verdicts = {verdict.promise.figure: verdict for verdict in judge(row, full_size)}
        place = (row.part, row.case)
        if row.left_out is not None:
            lines.append((*place, f"left out: {row.left_out}", "", "", ""))
        if row.failed is not None:
            lines.append((*place, f"FAILED: {row.failed}", "", "", ""))
        for name, value in row.figures.items():
            promised = kept = ""
            if name in verdicts:
                promised = verdicts[name].promise.bar()
                kept = "kept" if verdicts[name].kept else "BROKEN"
            lines.append((*place, name, written(value), promised, kept))
            place = ("", "")
    widths = [max(len(line[i]) for line in lines if fits(line)) for i in range(6)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def fits(line: Sequence[str]) -> bool:
    """Whether a line has a figure; an error may run past the columns."""
    return bool(line[3])


def written(value: float | None) -> str:
    """Four significant digits, whole numbers from 100 on; an exponent where it is more readable."""
    if value is None:
        return "out of memory"
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"
    return f"{value:.1e}"
