"""Checkpoints that are whole or not there, and that run no code when they are read."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO

from star_head._checkpoint_files import read_checkpoint, require_training
from star_head._whole_files import replacing


class SafeCheckpointIO(CheckpointIO):
    """Writes a checkpoint beside its place and moves it there; reads tensors and plain values.

    Lightning's own goes through the system's folder for temporary files, from where moving to
    another disk is copying: a process that is killed then leaves half a file.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write a checkpoint, replacing what is at ``path`` only when all is on the disk.

        Raises:
            OSError: If it cannot be written, on a full disk say.
        """
        with replacing(Path(path)) as scratch, open(scratch, "wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                # What PyTorch says over the system's error names neither file nor cause.
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise

    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: Any = "cpu",
        weights_only: bool | None = True,
    ) -> dict[str, Any]:
        """Read a checkpoint, always with ``weights_only=True``."""
        return load_training_checkpoint(path)

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Remove a checkpoint."""
        Path(path).unlink(missing_ok=True)


def load_training_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what a Lightning run saved, on the CPU, without running anything in it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If :func:`read_checkpoint` refuses it, or it is not of a Lightning run.
    """
    return require_training(read_checkpoint(path), path)
