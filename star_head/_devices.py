"""Copies to a device that nothing has to wait for, where that is safe."""

from typing import Any, Protocol, TypeVar

import torch


class Movable(Protocol):
    """What moves as tensors do."""

    def to(self, device: torch.device | str | int, /, *, non_blocking: bool) -> Any:
        """A copy on the device."""
        ...


MovableT = TypeVar("MovableT", bound=Movable)


def to_device(data: MovableT, device: torch.device | str | int) -> MovableT:
    """Move data, on a CUDA device without waiting for the copy.

    Other devices wait. On Apple's, memory can be read before it was copied, or used again before
    it was read; on a CPU there is nothing to gain.
    """
    moved: MovableT = data.to(device, non_blocking=torch.device(device).type == "cuda")
    return moved
