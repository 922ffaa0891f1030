"""Pictures of what STAR trains on and of what its routers learned."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from torch import Tensor

from star_head import Parameter, STARViews
from star_head.adapters._usage_figure import EQUIVARIANT as _EQUIVARIANT
from star_head.adapters._usage_figure import INVARIANT as _INVARIANT
from star_head.adapters._usage_figure import usage_figure
from star_head.metrics import expert_usage, routing_divergence


def draw_views(views: STARViews, path: Path) -> None:
    """Draw originals, their views, and under each view the parameters that made it.

    Args:
        views: A batch of a few, with pixels in [0, 1].
        path: Path of the PNG file.
    """
    rows, columns = len(views.original), 1 + len(views.views)
    figure, axes = plt.subplots(
        rows, columns, figsize=(2.9 * columns, 3.1 * rows), squeeze=False, layout="constrained"
    )
    for row, row_axes in enumerate(axes):
        images = [views.original, *views.views]
        captions = ["no random augmentation"] + [_describe(p[row]) for p in views.params]
        for column, (axis, image, caption) in enumerate(
            zip(row_axes, images, captions, strict=True)
        ):
            axis.imshow(image[row].permute(1, 2, 0).clamp(0, 1), interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_xlabel(caption, fontsize=8)
            if row == 0:
                axis.set_title("original $x_0$" if column == 0 else f"view $x_{column}$")
    figure.savefig(path.expanduser(), dpi=110)
    plt.close(figure)


def _describe(params: Tensor) -> str:
    p = Parameter
    value = {parameter: params[parameter].item() for parameter in p}
    return (
        f"crop {value[p.CROP_HEIGHT]:.0f} x {value[p.CROP_WIDTH]:.0f} px "
        f"at ({value[p.CROP_TOP]:.0f}, {value[p.CROP_LEFT]:.0f}), "
        f"{'flipped' if value[p.FLIP] else 'not flipped'}\n"
        f"brightness {value[p.BRIGHTNESS]:.2f}, contrast {value[p.CONTRAST]:.2f}, "
        f"saturation {value[p.SATURATION]:.2f}\n"
        f"hue {value[p.HUE]:+.3f} turns, {'grayscale' if value[p.GRAYSCALE] else 'colour'}, "
        f"blur $\\sigma$ {value[p.BLUR_SIGMA]:.2f} px"
    )


def draw_routing(weights: Tensor, path: Path) -> None:
    """Draw which expert serves which task: mean routing weight and its spread over samples.

    Experts stand in order of preference, those of the invariant task first.

    Args:
        weights: Routing weights, (B, 2, E).
        path: Path of the PNG file.
    """
    draw_usage(expert_usage(weights), weights.std(dim=0), routing_divergence(weights).item(), path)


def draw_usage(usage: Tensor, spread: Tensor, divergence: float, path: Path) -> None:
    """As :func:`draw_routing`, from what the weights come down to.

    Args:
        usage: Mean weight of each expert for each task, (2, E).
        spread: Its standard deviation over samples, (2, E).
        divergence: Divergence of the two tasks' routings.
        path: Path of the PNG file.
    """
    usage_figure(usage, spread, divergence).savefig(path.expanduser(), dpi=130)


# By panel, the names that are logged, with legend, colour and line; a name that ends with a star
# stands for all that begin so.
_CURVES: dict[str, dict[str, tuple[str | None, str, str]]] = {
    "loss": {
        "train_loss_invariant": ("invariant part", _INVARIANT, "-"),
        "train_loss_equivariant": ("equivariant part", _EQUIVARIANT, "--"),
    },
    "1-NN accuracy": {"knn_accuracy": ("held-out images", "#3a7d44", "-")},
    "other accuracies": {
        "weighted_knn_accuracy": ("weighted k-NN", "#3a7d44", "--"),
        "probe_accuracy": ("linear probe, top-1", "#1f8a9e", "-"),
        "probe_top5_accuracy": ("linear probe, top-5", "#1f8a9e", ":"),
    },
    "canonical correlation, divergence": {
        "mean_canonical_correlation": ("mean canonical correlation", "#7b4ea3", "-"),
        "mean_canonical_correlation_chance": ("its chance level", "#7b4ea3", ":"),
        "routing_divergence": ("divergence of the two routings", "#888888", "--"),
    },
    "effective rank": {"effective_rank": ("features", "#7b4ea3", "-")},
    "spread": {"embedding_spread": ("features", "#7b4ea3", "-")},
    "retrieval of views": {
        "mean_reciprocal_rank": ("mean reciprocal rank", _EQUIVARIANT, "-"),
        "mean_reciprocal_rank_chance": ("its chance level", _EQUIVARIANT, ":"),
        "hit_at_1": ("hit rate at 1", "#3a7d44", "--"),
        "hit_at_1_chance": ("its chance level", "#3a7d44", ":"),
    },
    "$R^2$ of augmentation parameters": {
        "r2/*": (None, "#e8c9a5", "-"),
        "mean_r2": ("mean over parameters, thin: each", _EQUIVARIANT, "-"),
        "mean_r2_chance": ("chance level of the mean", _EQUIVARIANT, ":"),
    },
}
_COLUMNS = 4
# Of several runs the colour tells which, and the line what it is.
_RUNS = ("#d9822b", "#3b6fb6", "#3a7d44", "#7b4ea3", "#a33a3a", "#1f8a9e")

Logs = Mapping[str, Mapping[int, float]]


def draw_training(runs: Mapping[str, Logs], path: Path) -> None:
    """Draw losses, and all that monitors and probes logged, against the training step.

    A panel for what was logged, and none for what was not.

    Args:
        runs: Of each run, by its name, values by step, by the names that ``STARModule`` and the
            callbacks of ``star_head.adapters.callbacks`` log them by.
        path: Path of the PNG file.
    """
    panels = {label: _logged(curves, runs) for label, curves in _CURVES.items()}
    panels = {label: curves for label, curves in panels.items() if curves}
    if not panels:
        panels = {"loss": [("train_loss", "loss", _INVARIANT, "-")]}
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(4.2 * columns, 3.4 * rows),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (label, curves) in zip(axes.flat, panels.items(), strict=False):
        for number, (run, logs) in enumerate(runs.items()):
            for name, legend, color, line in curves:
                if not (values := logs.get(name)):
                    continue
                axis.plot(
                    *_by_step(values),
                    color=color if len(runs) == 1 else _RUNS[number % len(_RUNS)],
                    linestyle=line,
                    label=legend if len(runs) == 1 or not legend else f"{run}: {legend}",
                    marker="o" if line != ":" and len(values) < 40 else None,
                    markersize=3 if legend else 2,
                    linewidth=1.5 if legend else 0.8,
                    alpha=None if len(runs) == 1 or legend else 0.25,
                )
        axis.set_xlabel("step")
        axis.xaxis.set_tick_params(labelbottom=True)
        axis.set_title(label, fontsize=10)
        axis.legend(frameon=False, fontsize=8, handlelength=3)
        axis.grid(alpha=0.25)
        accuracies = [logs["knn_accuracy"] for logs in runs.values() if logs.get("knn_accuracy")]
        if accuracies and label == "1-NN accuracy":
            ends = ", ".join(f"{values[max(values)]:.3f}" for values in accuracies)
            axis.set_title(f"{label}, {ends} at the end", fontsize=10)
    figure.savefig(path.expanduser(), dpi=130)
    plt.close(figure)


def _logged(
    curves: Mapping[str, tuple[str | None, str, str]], runs: Mapping[str, Logs]
) -> list[tuple[str, str | None, str, str]]:
    """The curves that there are values of: name, legend, colour and line."""
    there = sorted({name for logs in runs.values() for name in logs if logs[name]})
    found = []
    for pattern, drawn in curves.items():
        prefix = pattern.removesuffix("*")
        several = [name for name in there if name.startswith(prefix)]
        names = [pattern] * (pattern in there) if prefix == pattern else several
        found += [(name, *drawn) for name in names]
    return found


def _by_step(values: Mapping[int, float]) -> tuple[list[int], list[float]]:
    steps = sorted(values)
    return steps, [values[step] for step in steps]
