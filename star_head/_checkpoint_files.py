"""Checkpoint files, read without running anything in them."""

import os
import pickle
from collections.abc import Mapping
from typing import Any

import torch


def require_training(checkpoint: dict[str, Any], path: str | os.PathLike[str]) -> dict[str, Any]:
    """Raise a ValueError unless a checkpoint, read from ``path``, is of a Lightning run."""
    missing = [part for part in ("state_dict", "epoch", "global_step") if part not in checkpoint]
    if missing:
        raise ValueError(
            f"checkpoint: {path} is not of a Lightning run: it lacks {', '.join(missing)}"
        )
    return checkpoint


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a dictionary that ``torch.save`` wrote, on the CPU, with ``weights_only=True``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is truncated, or holds more than tensors and plain values.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"checkpoint: {path} is truncated or holds more than tensors and plain values: {error}"
        ) from error
    if not isinstance(checkpoint, Mapping):
        raise ValueError(f"checkpoint: {path} holds a {type(checkpoint).__name__}, no checkpoint")
    return dict(checkpoint)
