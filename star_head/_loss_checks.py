"""Checks of the losses that STARLoss is made of."""

import warnings
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from star_head._checks import describe
from star_head._gather import rank, world_size

TWO_TENSORS = "; NTXentLoss and lightly's losses compare two tensors"


def check_loss(name: str, loss: Any) -> None:
    """Raise a TypeError unless ``loss`` can be called, or is None."""
    if loss is not None and (isinstance(loss, type) or not callable(loss)):
        raise TypeError(f"{name}: expected a module on two tensors, got {describe(loss)}")


def check_tensor(name: str, loss: Any) -> Tensor:
    """Raise a TypeError unless what a loss gave is a tensor; give it back."""
    if not isinstance(loss, Tensor):
        raise TypeError(f"{name}: expected a loss that gives one tensor, got {describe(loss)}")
    return loss


def warn_of_separate_processes(losses: Iterable[Any], batch_size: int) -> None:
    """Warn, on the first process, of losses that see one process's samples alone.

    Args:
        losses: In use.
        batch_size: Images in a process's batch.
    """
    modules = [m for loss in losses if isinstance(loss, nn.Module) for m in loss.modules()]
    alone = sorted({type(module).__name__ for module in modules if _sees_one_process(module)})
    if alone and rank() == 0:
        warnings.warn(
            f"loss: {', '.join(alone)} compares the {batch_size} images of each of {world_size()} "
            f"processes among themselves, not all {batch_size * world_size()}; "
            f"gather_distributed=True, which STARLoss and most of lightly's losses take, gathers "
            f"them",
            stacklevel=4,
        )


def _sees_one_process(loss: nn.Module) -> bool:
    """Whether it could gather from all processes, by an argument of lightly's, and does not."""
    given = [value for name, value in vars(loss).items() if name.endswith("gather_distributed")]
    return bool(given) and not any(given)
