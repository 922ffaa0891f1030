"""What all callbacks here do alike: find their parts, leave out what fails, log."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from star_head._checks import describe
from star_head._gather import rank

try:
    from lightning.pytorch import Callback as Callback
except ImportError:
    try:
        # The same under its other name, which lightly brings along.
        from pytorch_lightning import Callback  # type: ignore[assignment]
    except ImportError as error:
        raise ImportError(
            'star_head.adapters.callbacks needs Lightning: pip install "star-head[lightning]"'
        ) from error

from ._processes import gather_rows
from ._untouched import to_module, untouched

Metrics = Mapping[str, float]


class LeftOut(ValueError):
    """Says why a measure is not defined here."""


class Monitor(Callback):
    """A callback that measures: it changes nothing, and never ends a run that trains."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def say_once(self, key: str, words: str) -> None:
        """Warn of something, the first time it happens."""
        if self._said.isdisjoint((key, words)) and rank() == 0:
            warnings.warn(f"{type(self).__name__}: {words}", stacklevel=2)
        self._said.update((key, words))

    @contextlib.contextmanager
    def left_out(self, key: str) -> Iterator[None]:
        """Go on where something in here is not defined, and say so once."""
        try:
            yield
        except Exception as error:
            kind = "" if isinstance(error, LeftOut) else f"{type(error).__name__}: "
            self.say_once(key, f"left out: {kind}{error}")

    def join(self, parts: Sequence[Tensor] | None, device: torch.device) -> list[Tensor] | None:
        """Join the rows of all processes; ``None``, which is said, if one of them has none."""
        joined = gather_rows(parts, device)
        if joined is None and parts is not None:
            self.say_once("elsewhere", "left out: another process had nothing to measure")
        return joined

    def log_now(self, trainer: Any, metrics: Metrics) -> None:
        """Log for this step alone; ``self.log`` would repeat it at every step that it logs."""
        for logger in trainer.loggers if metrics else ():
            logger.log_metrics(dict(metrics), step=trainer.global_step)


def is_step_to_look_at(trainer: Any, batch_idx: int, every_n_steps: int) -> bool:
    """Whether a batch is the first of a step whose number every_n_steps divides."""
    first_of_step: bool = batch_idx % trainer.accumulate_grad_batches == 0
    return first_of_step and trainer.global_step % every_n_steps == 0


@contextlib.contextmanager
def looking_at(trainer: Any, module: Any, images: Tensor) -> Iterator[Tensor]:
    """Yield images as the module takes them, in a context that leaves no trace."""
    with untouched(trainer, module):
        yield to_module(trainer, module, images)


def as_float(tensor: Any, name: str) -> Tensor:
    """A tensor in float32 at least, outside of inference mode's restrictions."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {describe(tensor)}")
    if not tensor.numel():
        raise LeftOut(f"{name}: expected numbers for each image, got shape {tuple(tensor.shape)}")
    return tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32))
