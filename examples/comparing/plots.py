"""The figures of the page on compared methods."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from star_head.evaluation.comparison import half_interval
from star_head.evaluation.report.plots import STYLE, WIDTH, as_uri

_COLORS = ("#222222", "#3b6fb6", "#d9822b", "#0a8f78", "#b5508f", "#7a6a1f", "#4f9bd0", "#9c3d2e")
_TITLE = 30  # characters that fit over one of three panels
_GREY = "#6b7280"


class Column(NamedTuple):
    """One measure of all methods.

    Attributes:
        title: Of the measure.
        values: Of each method, by its title, a value for each seed.
    """

    title: str
    values: Mapping[str, Sequence[float]]


def draw_differences(columns: Sequence[Column], reference: str) -> str:
    """Draw how far each method lies above the reference, a panel for each measure.

    Small points are seeds, large ones their mean, lines its 95% interval.

    Args:
        columns: Differences.
        reference: Title of the method that they are taken from.
    """
    names = list(dict.fromkeys(name for column in columns for name in column.values))
    across = min(3, len(columns))
    down = -(-len(columns) // across)
    with matplotlib.rc_context(STYLE):
        height = down * (0.75 + 0.26 * len(names))
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots(down, across, sharey=True, squeeze=False).ravel()
        for axis, column in zip(axes, columns, strict=False):
            axis.axvline(0, color=_GREY, lw=0.9)
            for row, name in enumerate(names):
                found = list(column.values.get(name, ()))
                if not found:
                    continue
                color = _COLORS[(row + 1) % len(_COLORS)]
                centre = sum(found) / len(found)
                axis.plot(found, [row] * len(found), "o", color=color, ms=3, alpha=0.45, mew=0)
                axis.errorbar(centre, row, xerr=half_interval(found), fmt="o", color=color, lw=1.6)
            axis.set_title("\n".join(textwrap.wrap(column.title, _TITLE)))
            axis.xaxis.set_major_locator(MaxNLocator(4))
            axis.set_yticks(range(len(names)), names)
            axis.set_ylim(len(names) - 0.4, -0.6)
            axis.grid(axis="x")
            axis.tick_params(axis="y", length=0)
        for axis in axes[len(columns) :]:
            axis.set_visible(False)
        figure.supxlabel(f"difference from {reference}", fontsize=9.5, color="#374151")
        return as_uri(figure)


def draw_against(across: Column, up: Column) -> str:
    """Draw one measure against another: small points are seeds, large ones their mean.

    Args:
        across: What lies to the right.
        up: What lies upwards, of the same methods and seeds.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.7), layout="constrained")
        axis = figure.subplots()
        for row, (name, x) in enumerate(across.values.items()):
            y = up.values.get(name, ())
            if not x or len(x) != len(y):
                continue
            color = _COLORS[row % len(_COLORS)]
            axis.plot(x, y, "o", color=color, ms=3.5, alpha=0.45, mew=0)
            mean = sum(x) / len(x), sum(y) / len(y)
            axis.plot(*mean, "o", color=color, ms=8, label=name)
        axis.set_xlabel(across.title)
        axis.set_ylabel(up.title)
        axis.grid()
        axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8.5)
        return as_uri(figure)
