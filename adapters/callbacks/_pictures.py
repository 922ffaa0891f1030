"""Pictures for those loggers that take them."""

from typing import Any

import numpy as np
from torch import Tensor

from star_head.metrics import expert_usage, routing_divergence

from ._monitor import LeftOut


def log_picture(trainer: Any, name: str, weights: Tensor) -> None:
    """Draw the usage of the experts from routing weights (B, 2, E), and log the picture.

    Raises:
        ValueError: If there are not two tasks.
        ImportError: If there is no Matplotlib.
    """
    takers = [taker for logger in trainer.loggers if (taker := _taker(logger)) is not None]
    if not takers:
        return
    if weights.shape[1] != 2:
        raise LeftOut(f"the picture of {weights.shape[1]} tasks; it is of two")
    from star_head.adapters._usage_figure import usage_figure

    spread = weights.std(dim=0, correction=0)
    figure = usage_figure(expert_usage(weights), spread, routing_divergence(weights).item())
    for taker in takers:
        taker(name, figure, trainer.global_step)


def _taker(logger: Any) -> Any:
    """How a logger takes a picture; ``None`` of one that takes none."""
    experiment = logger.experiment
    if hasattr(experiment, "add_figure"):  # TensorBoard
        return lambda name, figure, step: experiment.add_figure(name, figure, step, close=False)
    if hasattr(logger, "log_image"):  # Weights & Biases
        return lambda name, figure, step: logger.log_image(name, [_pixels(figure)], step=step)
    if hasattr(experiment, "log_figure"):  # MLflow
        return lambda name, figure, step: experiment.log_figure(
            logger.run_id, figure, f"{name}/{step:08d}.png"
        )
    return None


def _pixels(figure: Any) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
