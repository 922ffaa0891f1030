"""Write the tables of docs/gpu.md from what ``make gpu`` found on GPUs.

    python -m benchmarks.gpu.page

A GPU's file is results/gpu/NAME.json beside this folder; its tables go where the page has the block
"gpu: NAME".
"""

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.gpu.cases import Row
from benchmarks.gpu.promises import judge
from benchmarks.gpu.table import written
from benchmarks.page_blocks import fill_page, table
from star_head.examples.command_line import run

RESULTS = Path(__file__).parents[1] / "results" / "gpu"


def main(folder: Path = RESULTS, page: Path = Path("docs/gpu.md")) -> None:
    """Fill in the page's tables and print them.

    Args:
        folder: Folder of the GPUs' files.
        page: The Markdown file.
    """
    found = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    fill_page(page, {f"gpu: {name}": tables(result) for name, result in found.items()})


def tables(found: dict[str, Any]) -> list[str]:
    """Lines of Markdown: what it ran on, how many figures are as promised, a table for each part.

    They are held against the bars of promises.py as they are now.
    """
    rows = [Row(**row) for row in found["rows"]]
    verdicts = [verdict for row in rows for verdict in judge(row, found["full_size"])]
    kept = sum(verdict.kept for verdict in verdicts)
    machine = found["machine"]
    versions = {"torch": machine["torch"], **machine["packages"]}
    lines = [
        f"**{machine['device']}**, {machine['processors']} processors, Python {machine['python']}, "
        + ", ".join(f"{name} {version}" for name, version in versions.items() if version)
        + f"; {found['minutes']:.1f} minutes. As promised: {kept} of {len(verdicts)} figures. "
        f"Failed: {sum(row.failed is not None for row in rows)} of {len(rows)} cases.",
        "",
    ]
    for part, grouped in groupby(rows, lambda row: row.part):
        of_part = list(grouped)
        for alike in with_like_figures(of_part):
            names = list(alike[0].figures)
            cells = ([row.case, *(written(row.figures[name]) for name in names)] for row in alike)
            lines += table([f"`{part}`", *names], cells)
        lines += [
            f"`{part}`, {row.case}: {row.failed or row.left_out}\n"
            for row in of_part
            if row.failed or row.left_out
        ]
    return lines


def with_like_figures(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows that fit into one table: those with figures of the same names."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if row.figures:
            groups.setdefault(tuple(row.figures), []).append(row)
    return list(groups.values())


if __name__ == "__main__":
    run(main)
