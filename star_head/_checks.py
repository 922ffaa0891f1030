"""Checks at the door: errors that name the argument, what came and what was expected."""

import math
import os
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def check_matrix(name: str, tensor: Tensor, width: int | None = None, remedy: str = "") -> None:
    """Raise unless ``tensor`` is a floating-point tensor of shape (B, width).

    Args:
        name: The argument's.
        tensor: It.
        width: D, if only one is right.
        remedy: What the message ends with where the shape is wrong.
    """
    expected = "(B, D)" if width is None else f"(B, {width})"
    if not isinstance(tensor, Tensor):
        raise TypeError(
            f"{name}: expected a tensor of shape {expected}, got {describe(tensor)}{meant(tensor)}"
        )
    if not tensor.is_floating_point():
        raise TypeError(f"{name}: expected a floating-point tensor, got {tensor.dtype}")
    if tensor.ndim != 2 or (width is not None and tensor.shape[1] != width):
        raise ValueError(f"{name}: expected shape {expected}, got {tuple(tensor.shape)}{remedy}")


def check_pooled(name: str, features: Any) -> Tensor:
    """Take what a module called ``name`` gives as features (B, D), or say why it is none.

    Returns:
        (B, D); trailing axes of length 1 are dropped.
    """
    if not isinstance(features, Tensor):
        raise TypeError(
            f"{name}: expected one tensor of pooled features, (B, D), got "
            f"{describe(features)}; wrap it in a module whose forward returns the one "
            f"that is meant"
        )
    if features.ndim == 4 and features.shape[2:] == (1, 1):
        features = features.flatten(1)
    if features.ndim != 2:
        raise ValueError(
            f"{name}: expected shape (B, D), got {tuple(features.shape)}; pool its features, "
            f"or build it with its own pooling"
        )
    check_matrix(name, features)
    return features


_NAMED = 6  # parts of a container that an error names


def describe(value: Any) -> str:
    """Say what came and what it holds: for an error's "got ..."."""
    kind = type(value).__name__
    if isinstance(value, Tensor):
        return _brief(value)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    fields = getattr(type(value), "_fields", None)
    if isinstance(value, tuple | list) and fields is None:
        held = [_brief(part) for part in value]
        return f"a {kind} of {len(held)} ({_first(held)})" if held else f"an empty {kind}"
    if fields is not None:
        parts = dict(zip(fields, value, strict=True))
    elif isinstance(value, Mapping):
        parts = dict(value)
    else:  # an output object, or anything else
        held_by = {} if isinstance(value, nn.Module) else getattr(value, "__dict__", {})
        parts = {name: part for name, part in held_by.items() if isinstance(part, Tensor)}
    named = [f"{name}: {_brief(part)}" for name, part in parts.items()]
    return f"a {kind} of {_first(named)}" if named else f"a {kind}"


def _brief(part: Any) -> str:
    shape = f"a tensor of shape {tuple(part.shape)}" if isinstance(part, Tensor) else ""
    return shape or ("None" if part is None else type(part).__name__)


def _first(parts: list[str]) -> str:
    return ", ".join(parts[:_NAMED]) + ", ..." * (len(parts) > _NAMED)


def meant(value: Any) -> str:
    """What a named tuple of this package says where a tensor is expected."""
    words = getattr(type(value), "_meant", "")
    return f"; {words}" if words else ""


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


def check_flag(name: str, value: Any) -> None:
    """Raise a TypeError unless the value is True or False; "no" would count as True."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected True or False, got {value!r}")


def check_path(name: str, value: Any) -> Path:
    """Take a path, ``~`` being the user's own folder, or raise a TypeError."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name}: expected a path, got {describe(value)}")
    return Path(value).expanduser()


def check_folder(name: str, value: Any) -> Path:
    """Take the path of a folder that is there or can be made, or say what is wrong with it."""
    path = check_path(name, value)
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{name}: expected a folder, got the file {path}")
    return path


def check_number(name: str, value: Any) -> None:
    """Raise a TypeError unless ``value`` is a real number."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name}: expected a number, got {describe(value)}")


def check_not_negative(name: str, value: float) -> None:
    """Raise unless ``value`` is a finite number of at least 0."""
    check_number(name, value)
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{name}: expected a number of at least 0, got {value}")


def check_batch(name: str, tensor: Tensor, layers: nn.Sequential) -> None:
    """Raise where batch norms among ``layers`` would take the statistics of a single sample."""
    # Not so for SyncBatchNorm, which takes a single sample from each of several processes.
    if (
        len(tensor) == 1
        and layers.training
        and any(isinstance(layer, nn.BatchNorm1d) for layer in layers)
    ):
        raise ValueError(
            f"{name}: batch norm in training mode needs at least 2 samples, got 1; "
            f"use a larger batch, DataLoader(drop_last=True) or norm_layer=nn.LayerNorm"
        )
