"""Checkpoint files, read without running anything in them."""

import os
import re
import warnings
from collections.abc import Mapping
from typing import Any

import torch

from star_head._checks import describe


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
        ValueError: If it is another kind of file, is truncated, or holds more than tensors and
            plain values.
    """
    checkpoint = read_tensors(path, "checkpoint")
    if not isinstance(checkpoint, Mapping):
        raise ValueError(f"checkpoint: {path} holds a {type(checkpoint).__name__}, no checkpoint")
    return dict(checkpoint)


def read_tensors(path: str | os.PathLike[str], name: str) -> Any:
    """Read what ``torch.save`` wrote, on the CPU, with ``weights_only=True``.

    What PyTorch says of a file that it refuses is not passed on: it advises to read the file
    without that, which would run what is in it.

    Args:
        path: Path of the file.
        name: Name of the argument, for the errors.

    Raises:
        TypeError: If ``path`` is no path.
        FileNotFoundError: If there is no such file.
        ValueError: As :func:`read_checkpoint`.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{name}: expected the path of a file, got {describe(path)}")
    path = os.path.expanduser(path)
    if os.path.isdir(path):
        raise ValueError(f"{name}: {path} is no readable checkpoint: it is a folder")
    with open(path, "rb") as file:
        start = file.read(4)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of archives and pickles that are then refused
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever is raised at what is no pickle, or half of one
        why = _why_unreadable(start, str(error))
    raise ValueError(f"{name}: {path} is no readable checkpoint: {why}")


def _why_unreadable(start: bytes, said: str) -> str:
    """Why PyTorch refused a file, by its first bytes and by what PyTorch said."""
    if not start:
        return "it is empty"
    if not start.startswith((b"PK", b"\x80")):
        return "it is no file that torch.save wrote"
    if "TorchScript" in said:
        return "it is a TorchScript archive, which is a program; save the module's state_dict"
    unknown = re.search(r"(?:GLOBAL|global|class) ([\w.]+\.\w+)", said)
    if unknown:
        return (
            f"it holds more than tensors and plain values ({unknown.group(1)}), which only running "
            f"what is in it would bring back; save a state_dict instead"
        )
    if start.startswith(b"\x80"):
        return "it is a pickle of more than tensors and plain values, or a damaged one"
    return "it is truncated or damaged, or of another program"
