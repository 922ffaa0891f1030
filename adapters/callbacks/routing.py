"""Which expert serves which task, while they are trained."""

from typing import Any

from torch import Tensor

from star_head._checks import check_count
from star_head.metrics import expert_usage, routing_divergence, routing_entropy

from ._batches import first_view
from ._monitor import Monitor, as_float, is_step_to_look_at, looking_at
from ._pictures import log_picture
from ._reading import Reading, check_reading, check_there, read

_TWO_TASKS = ("invariant", "equivariant")


class RoutingMonitor(Monitor):
    """Usage of each expert by each task, how far the tasks' routings differ, and their entropy.

    Logs, on the first views of one training batch in so many, ``usage/invariant_00`` and so on,
    ``routing_entropy/invariant`` and so on, and for two tasks ``routing_divergence``; other numbers
    of tasks are ``usage/task0_00`` and so on. Every so many epochs the usage goes as a picture
    ``usage`` to loggers that take pictures: TensorBoard, Weights & Biases, MLflow.

    Args:
        weights: A function of the module and images to routing weights (B, T, E), such as
            ``lambda module, x: module.head.routing_weights(module.backbone(x))``, or the name of
            a part of the module that makes them.
        every_n_steps: How often a training batch is looked at.
        picture_every_n_epochs: How often a picture is drawn.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If a number is out of range.

    Example:
        >>> def weights(module, images):
        ...     return module.head.routing_weights(module.backbone(images))
        >>> callbacks = [RoutingMonitor(weights, every_n_steps=50)]
    """

    def __init__(
        self, weights: Reading, *, every_n_steps: int = 200, picture_every_n_epochs: int = 10
    ) -> None:
        super().__init__()
        check_reading("weights", weights)
        check_count("every_n_steps", every_n_steps)
        check_count("picture_every_n_epochs", picture_every_n_epochs)
        self._weights = weights
        self._every_n_steps = every_n_steps
        self._picture_every_n_epochs = picture_every_n_epochs
        self._last: Tensor | None = None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """See that the module has what is named."""
        check_there("weights", self._weights, pl_module)

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure on one batch in so many, and on the first of an epoch that gets a picture."""
        measured = is_step_to_look_at(trainer, batch_idx, self._every_n_steps)
        pictured = batch_idx == 0 and self._has_picture(trainer)
        if not measured and not pictured:
            return
        parts = None
        with self.left_out("training"):
            images = first_view(batch)
            with looking_at(trainer, pl_module, images) as taken:
                read_off = read("weights", self._weights, pl_module, taken)
                parts = [as_float(read_off, "weights")]
        joined = self.join(parts, pl_module.device)
        if joined is None:
            return
        self._last = joined[0].cpu()
        if measured:
            with self.left_out("measure"):
                self.log_now(trainer, measures(self._last))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Draw the usage."""
        if self._last is not None and self._has_picture(trainer) and trainer.is_global_zero:
            with self.left_out("picture"):
                log_picture(trainer, "usage", self._last)

    def _has_picture(self, trainer: Any) -> bool:
        every = self._picture_every_n_epochs
        has: bool = trainer.current_epoch % every == every - 1
        return has


def measures(weights: Tensor) -> dict[str, float]:
    """Usage, entropy and divergence by the names that they are logged by."""
    usage, entropy = expert_usage(weights).tolist(), routing_entropy(weights).tolist()
    tasks = _TWO_TASKS if len(usage) == 2 else [f"task{index}" for index in range(len(usage))]
    found = {
        f"usage/{task}_{expert:02d}": share
        for task, shares in zip(tasks, usage, strict=True)
        for expert, share in enumerate(shares)
    }
    found |= {f"routing_entropy/{task}": h for task, h in zip(tasks, entropy, strict=True)}
    if len(usage) == 2:
        found["routing_divergence"] = routing_divergence(weights).item()
    return found
