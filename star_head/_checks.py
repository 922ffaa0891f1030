"""Checks at the door: errors that name the argument, what came and what was expected."""

import torch
from torch import Tensor


def check_matrix(name: str, tensor: Tensor, width: int | None = None) -> None:
    """Raise unless ``tensor`` is a floating-point tensor of shape (B, width)."""
    expected = "(B, D)" if width is None else f"(B, {width})"
    if not isinstance(tensor, Tensor):
        raise TypeError(
            f"{name}: expected a tensor of shape {expected}, got {type(tensor).__name__}"
        )
    if not tensor.is_floating_point():
        raise TypeError(f"{name}: expected a floating-point tensor, got {tensor.dtype}")
    if tensor.ndim != 2 or (width is not None and tensor.shape[1] != width):
        raise ValueError(f"{name}: expected shape {expected}, got {tuple(tensor.shape)}")


def check_dtype(name: str, tensor: Tensor, weight: Tensor) -> None:
    """Raise unless ``tensor`` has the dtype of ``weight`` or autocast will give it that."""
    if tensor.dtype != weight.dtype and not torch.is_autocast_enabled(tensor.device.type):
        raise TypeError(f"{name}: expected {weight.dtype}, as the weights, got {tensor.dtype}")


def check_count(name: str, value: int, minimum: int = 1) -> None:
    """Raise unless ``value`` is an integer of at least ``minimum``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected an integer, got {value!r}")
    if value < minimum:
        raise ValueError(f"{name}: expected at least {minimum}, got {value}")
