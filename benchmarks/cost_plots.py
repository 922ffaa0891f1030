"""Curves of the measured points."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.cost_counts import head_step
from benchmarks.cost_fit import Point, Share, fit_head, head_sizes, least_seconds, of_part

SHARES = (0.1, 0.5)
MIB = 2**20


def draw_head(points: Sequence[Point], path: Path) -> None:
    """Draw time and memory of the head against experts, batch and width, and the fitted law.

    Args:
        points: Of cost_head.py.
        path: Path of the PNG file.
    """
    heads = of_part(points, "head")
    fit = fit_head(points)
    middle_batch, middle_width = middle(heads, "batch", "width"), middle(heads, "width", "batch")
    figure, axes = plt.subplots(2, 3, figsize=(12, 6.4), layout="constrained")
    panels = (
        ("experts", "batch", {"width": middle_width}),
        ("batch", "experts", {"width": middle_width}),
        ("width", "experts", {"batch": middle_batch}),
    )
    for (x, of, fixed), (above, below) in zip(panels, axes.T, strict=True):
        chosen = [p for p in heads if fixed.items() <= p["settings"].items()]
        values = sorted({p["settings"][of] for p in chosen})
        for value, color in zip(values, shades(len(values)), strict=True):
            curve = [p for p in chosen if p["settings"][of] == value]
            curve.sort(key=lambda p: p["settings"][x])
            at = [p["settings"][x] for p in curve]
            label = f"{of} {value}"
            above.plot(at, [1e3 * least_seconds(p) for p in curve], "o", color=color, markersize=3)
            law = [1e3 * fit.seconds(head_step(head_sizes(p["settings"]))) for p in curve]
            above.plot(at, law, color=color, linewidth=1, label=label)
            below.plot(at, [p["peak_bytes"] / MIB for p in curve], "o-", color=color, markersize=3)
        ticks = sorted({p["settings"][x] for p in chosen})
        finish(above, x, "ms per step; lines: the fitted model", ticks)
        finish(below, x, "MiB at the peak", ticks)
        above.set_title(", ".join(f"{name} {value}" for name, value in fixed.items()), fontsize=10)
        above.legend(frameon=False, fontsize=7)
    save(figure, path)


def draw_shares(shares: Sequence[Share], path: Path) -> None:
    """Draw the head's share of a step against the experts, beside each backbone.

    Args:
        shares: Of ``head_shares``.
        path: Path of the PNG file.
    """
    groups: dict[str, list[Share]] = {}
    for share in shares:
        name = f"{share.settings['backbone']}, {share.settings['size']} pixels"
        groups.setdefault(name, []).append(share)
    figure, axes = plt.subplots(
        1, len(groups), figsize=(3.4 * len(groups), 3.2), sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for (name, group), axis in zip(groups.items(), axes[0], strict=True):
        for share, color in zip(group, shades(len(group)), strict=True):
            label = f"batch {share.settings['batch']}"
            percent = [100 * s for s in share.shares]
            axis.plot(share.experts, percent, "o-", color=color, markersize=3, label=label)
        for level in SHARES:
            axis.axhline(100 * level, color="#888888", linewidth=0.8, linestyle="--")
        axis.set_xscale("log", base=2)
        ticks = group[0].experts
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.set_xlabel("experts")
        axis.set_title(name, fontsize=9)
        axis.grid(alpha=0.25)
        axis.legend(frameon=False, fontsize=7)
    axes[0, 0].set_ylabel("head's share of the step, %")
    save(figure, path)


def draw_evaluation(points: Sequence[Point], path: Path) -> None:
    """Draw time and memory of the path and of the correlations against each size.

    Args:
        points: Of cost_evaluation.py.
        path: Path of the PNG file.
    """
    panels: list[tuple[str, str]] = []
    for part in ("path", "correlations"):
        names = of_part(points, part)[0]["settings"]
        panels += [(part, name) for name in names if name != "part"]
    figure, axes = plt.subplots(
        2, len(panels), figsize=(2.9 * len(panels), 5.2), sharey="row", layout="constrained"
    )
    for (part, x), (above, below) in zip(panels, axes.T, strict=True):
        curve = along(of_part(points, part), x)
        at = [p["settings"][x] for p in curve]
        above.plot(at, [least_seconds(p) for p in curve], "o-", color="#3b6fb6", markersize=4)
        below.plot(at, [p["peak_bytes"] / MIB for p in curve], "o-", color="#d9822b", markersize=4)
        above.set_title(part, fontsize=10)
        finish(above, x, "s" if above is axes[0, 0] else "", at)
        finish(below, x, "MiB at the peak" if below is axes[1, 0] else "", at)
    save(figure, path)


def along(points: Sequence[Point], name: str) -> list[Point]:
    """The points of the curve along one size: the others as most points have them."""
    others = [other for other in points[0]["settings"] if other not in ("part", name)]
    usual = {other: most_common(p["settings"][other] for p in points) for other in others}
    curve = [p for p in points if usual.items() <= p["settings"].items()]
    return sorted(curve, key=lambda p: p["settings"][name])


def middle(points: Sequence[Point], name: str, other: str) -> Any:
    """The value of a size at which most values of another were measured."""
    pairs = {(p["settings"][name], p["settings"][other]) for p in points}
    return most_common(value for value, _ in pairs)


def most_common(values: Iterable[Any]) -> Any:
    """The value that is there most often."""
    found = list(values)
    return max(sorted(set(found)), key=found.count)


def shades(count: int) -> list[Any]:
    """Colours from dark to light."""
    colormap: Callable[[float], Any] = plt.get_cmap("viridis")
    return [colormap(position) for position in np.linspace(0, 0.85, count).tolist()]


def finish(axis: Axes, x: str, y: str, ticks: Sequence[int]) -> None:
    """Logarithmic axes with names."""
    axis.set_xscale("log", base=2)
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.set_yscale("log")
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.grid(alpha=0.25)


def save(figure: Figure, path: Path) -> None:
    """Write a figure and let it go."""
    figure.savefig(path, dpi=100)
    plt.close(figure)
