"""Draw the long runs' curves and write the tables of docs/redundancy.md.

    python -m benchmarks.redundancy.report

Reads what collect.py wrote; what is in the page was made from results/ beside this file.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from benchmarks.page_blocks import fill_page, table
from benchmarks.redundancy.collect import RESULTS
from benchmarks.redundancy.runs import CHANGES, METHODS
from star_head.examples.command_line import run

CORRELATION = "canonical correlation"
OF_VIEWS = "canonical correlation of views"
READOUTS = "canonical correlation of random readouts"
# By what the points hold: title, factor and digits behind the point.
_MEASURES: dict[str, tuple[str, float, int]] = {
    CORRELATION: ("canonical correlation", 1, 3),
    OF_VIEWS: ("the same over views", 1, 3),
    READOUTS: ("the same of random readouts", 1, 3),
    "divergence": ("divergence of the routings", 1, 2),
    "1-NN": ("1-NN, %", 100, 1),
    "linear": ("linear, %", 100, 1),
    "MRR": ("mean reciprocal rank", 1, 3),
}
_PANELS = (CORRELATION, OF_VIEWS, "divergence", "1-NN", "linear")
# What the correlation is taken over.
_TAKEN_OVER: dict[str, str] = {
    CORRELATION: "drawings held out",
    "canonical correlation of directions": "their embeddings divided by their norms",
    OF_VIEWS: "views of 100 of them",
    "canonical correlation of training drawings": "drawings trained on",
}
_COLORS = {
    "separate": "#d1495b",
    **dict(
        zip(
            ("mmoe2", "mmoe4", "mmoe8", "mmoe16"),
            ("#b5de2b", "#35b779", "#31688e", "#440154"),
            strict=True,
        )
    ),
}


class Curves(NamedTuple):
    """Runs of one length and one setting that was changed.

    Attributes:
        epochs: Passes over the drawings.
        change: Of ``CHANGES``.
        runs: Points of each run, by method and then by seed; methods in the order of ``METHODS``.
    """

    epochs: int
    change: str
    runs: dict[str, dict[int, list[Mapping[str, float]]]]

    @property
    def steps(self) -> list[int]:
        """Of the points."""
        return [int(point["step"]) for point in next(iter(next(iter(self.runs.values())).values()))]

    def values(self, method: str, name: str) -> list[list[float]]:
        """A measure at each step: a list of seeds' values."""
        runs = self.runs[method].values()
        return [[points[i][name] for points in runs] for i in range(len(self.steps))]

    @property
    def title(self) -> str:
        """Of its tables and row of panels."""
        return f"{self.steps[-1]:,} steps"


def read_curves(folder: Path) -> list[Curves]:
    """All runs of a folder by what was changed, in the order of ``CHANGES``; long ones first.

    Raises:
        FileNotFoundError: If there are none.
        ValueError: If runs of one length and change have points at other steps, as of another
            ``--kept``.
    """
    found: dict[tuple[int, int], dict[str, dict[int, list[Mapping[str, float]]]]] = {}
    names = list(CHANGES)
    for path in sorted(folder.glob("*.json")):
        of: dict[str, Any] = json.loads(path.read_text())
        runs = found.setdefault((names.index(of["change"]), -of["epochs"]), {})
        runs.setdefault(of["method"], {})[of["seed"]] = of["points"]
    if not found:
        raise FileNotFoundError(f"folder: expected results of collect.py in {folder}, found none")
    for runs in found.values():
        lines = [points for of_seed in runs.values() for points in of_seed.values()]
        if len({tuple(point["step"] for point in points) for points in lines}) > 1:
            raise ValueError(
                f"folder: expected points at the same steps of all runs of one length in {folder}, "
                f"got {sorted({len(points) for points in lines})} points, the last at "
                f"{sorted({points[-1]['step'] for points in lines})}"
            )
    return [
        Curves(-epochs, names[change], {name: runs[name] for name in METHODS if name in runs})
        for (change, epochs), runs in sorted(found.items())
    ]


def main(folder: Path = RESULTS, page: Path = Path("docs/redundancy.md")) -> None:
    """Draw the curves beside the page, fill in its tables and print them.

    Args:
        folder: Folder of the runs' JSON files.
        page: The Markdown file.
    """
    curves = read_curves(folder)
    draw(unchanged(curves), page.with_name("redundancy_curves.png"))
    fill_page(page, blocks(curves))


def unchanged(curves: Sequence[Curves]) -> list[Curves]:
    """Those with all settings as they are, the longest first."""
    return [each for each in curves if each.change == "none"]


def blocks(curves: Sequence[Curves]) -> dict[str, list[str]]:
    """The page's tables by the names in its markers."""
    plain = unchanged(curves)
    return {
        "redundancy: runs": [line for of in plain for line in (*by_step(of), *at_the_end(of))],
        "redundancy: changes": list(by_change(curves)),
        "redundancy: taken over": list(taken_over(plain)),
    }


def by_step(curves: Curves, columns: int = 6) -> Iterator[str]:
    """The correlation against steps: means over seeds."""
    last = len(curves.steps) - 1
    shown = sorted({round(last * i / (columns - 1)) for i in range(columns)})
    yield f"**{curves.title}**, mean canonical correlation after so many steps:"
    yield ""
    rows = []
    for name in curves.runs:
        for measure, title in ((CORRELATION, METHODS[name].title), (READOUTS, "random readouts")):
            values = curves.values(name, measure)
            rows.append([title, *(f"{mean(values[i]):.3f}" for i in shown)])
    yield from table(["", *(f"{curves.steps[i]:,}" for i in shown)], rows)


def at_the_end(curves: Curves) -> Iterator[str]:
    """All measures after the last step, each seed's."""
    yield "After the last step, a figure for each seed:"
    yield ""
    rows = [[METHODS[name].title, *_measured(curves, name)] for name in curves.runs]
    yield from table(["", *_measured_titles()], rows)


def by_change(curves: Sequence[Curves]) -> Iterator[str]:
    """The same of runs with one setting changed, and of the same runs without a change."""
    changed = {
        (each.epochs, name) for each in curves if each.change != "none" for name in each.runs
    }
    rows = [
        [f"{each.steps[-1]:,}", each.change, METHODS[name].title, *_measured(each, name)]
        for each in curves
        for name in each.runs
        if (each.epochs, name) in changed
    ]
    yield from table(["steps", "changed", "", *_measured_titles()], rows)


def taken_over(curves: Sequence[Curves]) -> Iterator[str]:
    """The correlation over other samples and of other embeddings, after the last step."""
    rows = [
        [
            f"{each.steps[-1]:,}",
            METHODS[name].title,
            *(_figures(each.values(name, measure)[-1], 1, 3) for measure in _TAKEN_OVER),
        ]
        for each in curves
        for name in each.runs
    ]
    yield from table(["steps", "", *_TAKEN_OVER.values()], rows)


def _measured_titles() -> list[str]:
    return ["seeds", *(title for title, _, _ in _MEASURES.values())]


def _measured(curves: Curves, method: str) -> list[str]:
    return [
        ", ".join(map(str, curves.runs[method])),
        *(
            _figures(curves.values(method, name)[-1], factor, digits)
            for name, (_, factor, digits) in _MEASURES.items()
        ),
    ]


def _figures(values: Sequence[float], factor: float, digits: int) -> str:
    return ", ".join(f"{factor * value:.{digits}f}" for value in values)


def draw(curves: Sequence[Curves], path: Path) -> None:
    """Draw each measure against steps: each seed thin, means thick, random readouts dotted.

    Args:
        curves: A row of panels each.
        path: Path of the PNG file.
    """
    figure, axes = plt.subplots(
        len(curves),
        len(_PANELS),
        figsize=(3.2 * len(_PANELS), 3.1 * len(curves)),
        squeeze=False,
        layout="constrained",
    )
    for row, each in zip(axes, curves, strict=True):
        for axis, measure in zip(row, _PANELS, strict=True):
            _draw_panel(axis, each, measure)
        row[0].set_ylabel(each.title, fontsize=9)
    drawn = {name for each in curves for name in each.runs}
    lines = [
        *(Line2D([], [], color=_COLORS[n], label=METHODS[n].title) for n in METHODS if n in drawn),
        Line2D([], [], color="black", linestyle=":", label="random readouts of its features"),
    ]
    figure.legend(handles=lines, loc="outside lower center", ncols=len(lines), fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_panel(axis: Axes, curves: Curves, measure: str) -> None:
    title, factor, _ = _MEASURES[measure]
    for name in curves.runs:
        color = _COLORS[name]
        values = factor * np.array(curves.values(name, measure))
        axis.plot(curves.steps, values, color=color, linewidth=0.6, alpha=0.6)
        axis.plot(curves.steps, values.mean(axis=1), color=color)
        if measure == CORRELATION:
            readouts = np.array(curves.values(name, READOUTS)).mean(axis=1)
            axis.plot(curves.steps, readouts, color=color, linestyle=":")
    axis.set_xlabel("step")
    axis.set_title(title, fontsize=10)
    axis.grid(alpha=0.25)


if __name__ == "__main__":
    run(main)
