"""A callback for --trainer.callbacks by which a run tells another process what it is at."""

import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class ProgressReport(Callback):
    """Adds a line to a file whenever the run begins with something else, and at each step.

    The line reads "time phase epoch step". The phases are "validation", "training", "saving" and
    "ended".

    Args:
        path: Path of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def _add(self, trainer: Trainer, phase: str) -> None:
        with open(self.path, "a") as file:
            file.write(f"{time.time():.4f} {phase} {trainer.current_epoch} {trainer.global_step}\n")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The monitor, before the first epoch too."""
        self._add(trainer, "validation")

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """A step."""
        self._add(trainer, "training")

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """A checkpoint is about to be written."""
        self._add(trainer, "saving")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Only the encoder is left to write."""
        self._add(trainer, "ended")
