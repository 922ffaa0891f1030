"""The figures of the report, as data URIs that a page holds within itself."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

try:
    import matplotlib
except ImportError as error:
    raise ImportError(
        'star_head.evaluation.report needs Matplotlib: pip install "star-head[evaluation]"'
    ) from error

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter

from star_head.evaluation.measures import SHARED_BELOW, TASKS

# Told apart by the colour-blind too; the first two are the tasks' everywhere.
_TASK_COLORS = dict(zip(TASKS, ("#3b6fb6", "#d9822b"), strict=True))
_TASK_MAPS = dict(zip(TASKS, ("Blues", "Oranges"), strict=True))
_CHECKPOINT_COLORS = ("#222222", "#0a8f78", "#b5508f", "#7a6a1f", "#4f9bd0", "#9c3d2e")
_LINES = ("-", "--", "-.")
_GREY = "#6b7280"

_INSTALLED = {font.name for font in fontManager.ttflist}
_FONTS = ("Helvetica Neue", "Arial", "Liberation Sans", "DejaVu Sans")
STYLE: Any = {  # of matplotlib, which types each key
    "font.family": next(name for name in _FONTS if name in _INSTALLED),
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9ca3af",
    "axes.labelcolor": "#374151",
    "axes.titlesize": 10,
    "axes.titlecolor": "#111827",
    "axes.titlelocation": "left",
    "xtick.color": "#374151",
    "ytick.color": "#374151",
    "grid.color": "#e5e7eb",
    "legend.frameon": False,
    "legend.labelcolor": "#374151",
    "text.parse_math": False,  # names of runs and classes are taken as they are
    "svg.hashsalt": "star-head",  # else names within the file differ from run to run
}
WIDTH = 8.8  # inches, which a page of 56 rem shows at about that size
_ROW = 0.22  # inches for a parameter's name and marks


def draw_spectra(spectra: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> str:
    """Draw canonical correlations against their rank, dotted those of chance.

    Args:
        spectra: (Measured, by chance) of each checkpoint, largest first.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.5), layout="constrained")
        axis = figure.subplots()
        for i, (name, (measured, chance)) in enumerate(spectra.items()):
            color = _CHECKPOINT_COLORS[i % len(_CHECKPOINT_COLORS)]
            ranks = range(1, len(measured) + 1)
            label = f"{name}: mean {np.mean(measured):.3f}"
            axis.plot(ranks, measured, color=color, label=label, ls=_LINES[i % len(_LINES)], lw=1.8)
            label = f"chance level: mean {np.mean(chance):.3f}"
            axis.plot(range(1, len(chance) + 1), chance, color=color, ls=":", lw=1.1, label=label)
        axis.set_xlabel("rank of the canonical correlation")
        axis.set_ylabel("canonical correlation")
        axis.set_ylim(0, 1.02)
        axis.set_xlim(left=1)
        axis.grid(axis="y")
        axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8.5)
        return as_uri(figure)


def draw_usage(routing: Mapping[str, Any], order: Sequence[int]) -> str:
    """Draw each expert's share in each task, and which of them it serves.

    Args:
        routing: Result of ``measures.routing``.
        order: Experts, in the order in which they are to stand.
    """
    usage = {task: np.array(routing["usage"][task]) for task in TASKS}
    spread = routing["usage's standard deviation over images"]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.75, 1))
        for offset, task in zip((-0.2, 0.2), TASKS, strict=True):
            left.bar(
                np.arange(len(order)) + offset,
                usage[task][order],
                0.38,
                yerr=np.array(spread[task])[order],
                error_kw={"elinewidth": 0.8, "ecolor": "#9ca3af"},
                color=_TASK_COLORS[task],
                label=f"{task} task",
            )
        even = 1 / len(order)
        left.axhline(even, color=_GREY, lw=0.8, ls="--", label=f"even: 1/{len(order)}")
        left.set_xticks(range(len(order)), [str(e) for e in order])
        left.set_xlabel("expert, from the invariant task's own to the equivariant task's")
        left.set_ylabel("share (mean and std over images)")
        left.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        left.margins(y=0.2)
        left.set_ylim(bottom=0)
        left.legend(ncols=3, loc="upper center", fontsize=8.5)
        _draw_roles(right, usage)
        return as_uri(figure)


def _draw_roles(axis: Axes, usage: Mapping[str, np.ndarray]) -> None:
    invariant, equivariant = (usage[task].clip(1e-4, 1) for task in TASKS)
    least = min(invariant.min(), equivariant.min()) / 2.2
    most = max(invariant.max(), equivariant.max()) * 2.2
    ratio = (1 + SHARED_BELOW) / (1 - SHARED_BELOW)
    edge = np.array([least, most])
    for low, high, task in (
        (edge / 1e6, edge / ratio, TASKS[0]),
        (edge * ratio, edge * 1e6, TASKS[1]),
    ):
        axis.fill_between(edge, low, high, color=_TASK_COLORS[task], alpha=0.09, lw=0)
    axis.plot(invariant, equivariant, "o", ms=3.5, color="#111827", zorder=3)
    for expert, (x, y) in enumerate(zip(invariant, equivariant, strict=True)):
        axis.annotate(
            str(expert), (x, y), (3.5, 2.5), textcoords="offset points", fontsize=7.5, color=_GREY
        )
    for x, y, role, side in (
        (0.97, 0.04, "invariant", "right"),
        (0.97, 0.93, "shared", "right"),
        (0.03, 0.93, "equivariant", "left"),
    ):
        color = _TASK_COLORS.get(role, "#374151")
        style: dict[str, Any] = {"fontsize": 8.5, "style": "italic", "color": color}
        axis.text(x, y, role, transform=axis.transAxes, ha=side, **style)
    axis.set(xscale="log", yscale="log", xlim=(least, most), ylim=(least, most))
    for ticks in (axis.xaxis, axis.yaxis):
        ticks.set_major_locator(LogLocator(subs=(1, 2, 5) if most < 200 * least else (1,)))
        ticks.set_major_formatter(lambda share, _: f"{100 * share:g}%")
        ticks.set_minor_formatter(NullFormatter())
    axis.set_xlabel("share in the invariant task")
    axis.set_ylabel("share in the equivariant task")


def draw_class_usage(routing: Mapping[str, Any], order: Sequence[int]) -> str:
    """Draw each expert's share in each task for the images of each class.

    Args:
        routing: Result of ``measures.routing``.
        order: Experts, in the order in which they are to stand.
    """
    by_class = routing["usage by class"]
    shares = {
        task: 100 * np.array([of_class[task] for of_class in by_class.values()])[:, order]
        for task in TASKS
    }
    height = 1.2 + min(0.24 * len(by_class), 11)
    most = max(share.max() for share in shares.values())
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        for axis, (task, share) in zip(axes, shares.items(), strict=True):
            drawn = axis.imshow(share, cmap=_TASK_MAPS[task], vmin=0, vmax=most, aspect="auto")
            if share.size <= 400:
                _write_numbers(axis, share, "{:.0f}", dark=0.6 * most)
            _label_experts(axis, order, f"{task} task")
            bar = figure.colorbar(drawn, ax=axis, location="bottom", shrink=0.6, aspect=40)
            bar.set_label("share (per cent)")
            bar.outline.set_visible(False)
        if len(by_class) <= 60:
            axes[0].set_yticks(range(len(by_class)), list(by_class))
        else:
            axes[0].set_ylabel(f"class, 0 to {len(by_class) - 1} by name")
        return as_uri(figure)


def draw_correlations(
    routing: Mapping[str, Any], units: Mapping[str, str], order: Sequence[int]
) -> str:
    """Draw how each expert's routing weight goes with each augmentation parameter.

    Args:
        routing: Result of ``measures.routing``.
        units: The unit of each parameter, by its name.
        order: Experts, in the order in which they are to stand.
    """
    values = routing["correlation with parameters"].values()
    of_task = {
        task: np.array([of_parameter[task] for of_parameter in values], float)[:, order]
        for task in TASKS
    }
    most = max(0.1, *(np.nanmax(np.abs(r), initial=0) for r in of_task.values()))
    colors = matplotlib.colormaps["PRGn"].with_extremes(bad="#e5e7eb")
    with matplotlib.rc_context(STYLE):
        height = 1.88 + _ROW * len(units)
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        for axis, (task, r) in zip(axes, of_task.items(), strict=True):
            drawn = axis.imshow(r, cmap=colors, vmin=-most, vmax=most, aspect="auto")
            form = "{:.2f}" if len(order) <= 8 else "{:.1f}"
            _write_numbers(axis, np.where(np.abs(r) >= 0.1, r, np.nan), form, dark=0.6 * most)
            _label_experts(axis, order, f"{task} task")
        _label_parameters(axes[0], units)
        bar = figure.colorbar(drawn, ax=axes, location="bottom", shrink=0.4, aspect=40)
        bar.set_label("correlation of routing weight and parameter")
        bar.outline.set_visible(False)
        return as_uri(figure)


def _write_numbers(axis: Axes, values: np.ndarray, form: str, dark: float) -> None:
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            text = form.format(value).replace("0.", ".").replace("-", "\N{MINUS SIGN}")
            color = "white" if abs(value) > dark else "#374151"
            axis.text(column, row, text, ha="center", va="center", fontsize=6.5, color=color)


def _label_parameters(axis: Axes, units: Mapping[str, str]) -> None:
    axis.set_yticks(range(len(units)), [f"{name} ({unit})" for name, unit in units.items()])


def _label_experts(axis: Axes, order: Sequence[int], title: str) -> None:
    axis.set_xticks(range(len(order)), [str(e) for e in order])
    axis.set_xlabel("expert")
    axis.set_title(title)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def draw_r2(
    of_checkpoints: Mapping[str, Mapping[str, Mapping[str, float | None]]],
    units: Mapping[str, str],
) -> str:
    """Draw R^2 of each augmentation parameter, a panel for each checkpoint.

    Args:
        of_checkpoints: By checkpoint, by what it was read off, by parameter.
        units: The unit of each parameter, by its name; a checkpoint need not have all.
    """
    marks = {
        "features": ("s", "#111827"),
        "invariant embedding": ("o", _TASK_COLORS["invariant"]),
        "equivariant embedding": ("^", _TASK_COLORS["equivariant"]),
    }
    columns = 2 if len(of_checkpoints) == 4 else min(len(of_checkpoints), 3)
    rows = -(-len(of_checkpoints) // columns)
    with matplotlib.rc_context(STYLE):
        height = (0.98 + _ROW * len(units)) * rows + 0.3
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axis in axes.flat[len(of_checkpoints) :]:
            axis.set_visible(False)
        for axis, (name, r2) in zip(axes.flat, of_checkpoints.items(), strict=False):
            for source, of_parameter in r2.items():
                marker, color = marks[source]
                x = np.array([of_parameter.get(name) for name in units], float).clip(-0.2, 1)
                axis.plot(x, range(len(x)), marker, color=color, ms=5.5, alpha=0.85, label=source)
            axis.axvline(0, color="#9ca3af", lw=0.8)
            axis.set_title(name)
            axis.set_xlabel("R\N{SUPERSCRIPT TWO} on held-out images")
            axis.tick_params(labelbottom=True)
            axis.grid()
            axis.set_axisbelow(True)
            axis.tick_params(length=0)
        _label_parameters(axes[0, 0], units)
        axes[0, 0].set_ylim(len(units) - 0.4, -0.6)
        axes[0, 0].set_xlim(None, 1.03)
        handles = max((axis.get_legend_handles_labels() for axis in axes.flat), key=len)
        figure.legend(*handles, loc="outside upper right", ncols=3, fontsize=8.5)
        return as_uri(figure)


def as_uri(figure: Figure) -> str:
    """The figure as a data URI, the same for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
