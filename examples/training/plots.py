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


def draw_training(logs: Mapping[str, Mapping[int, float]], path: Path) -> None:
    """Draw losses, 1-nearest-neighbour accuracy and redundancy against the training step.

    Args:
        logs: Values by step, by the names that ``STARModule`` logs them by.
        path: Path of the PNG file.
    """
    panels = {
        "loss": {
            "train_loss_invariant": ("invariant part", _INVARIANT),
            "train_loss_equivariant": ("equivariant part", _EQUIVARIANT),
        },
        "1-NN accuracy": {"knn_accuracy": ("held-out images", "#3a7d44")},
        "canonical correlation, divergence": {
            "mean_canonical_correlation": ("mean canonical correlation", "#7b4ea3"),
            "routing_divergence": ("divergence of the two routings", "#888888"),
        },
    }
    figure, axes = plt.subplots(
        1, len(panels), figsize=(4.2 * len(panels), 3.4), sharex=True, layout="constrained"
    )
    for axis, (label, curves) in zip(axes, panels.items(), strict=True):
        for name, (legend, color) in curves.items():
            values = logs.get(name, {})
            marker = "o" if len(values) < 40 else None
            axis.plot(*_by_step(values), color=color, label=legend, marker=marker, markersize=3)
        axis.set_xlabel("step")
        axis.set_title(label, fontsize=10)
        axis.legend(frameon=False, fontsize=8)
        axis.grid(alpha=0.25)
    accuracy = logs.get("knn_accuracy", {})
    if accuracy:
        axes[1].set_title(f"1-NN accuracy, {accuracy[max(accuracy)]:.3f} at the end", fontsize=10)
    figure.savefig(path.expanduser(), dpi=130)
    plt.close(figure)


def _by_step(values: Mapping[int, float]) -> tuple[list[int], list[float]]:
    steps = sorted(values)
    return steps, [values[step] for step in steps]
