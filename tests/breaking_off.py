"""A callback for --trainer.callbacks that breaks a run off at a step."""

import os
import signal
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class BreakOff(Callback):
    """Sends a signal to this process, or to it and its workers alike."""

    def __init__(self, step: int, name: str, to_group: bool = False) -> None:
        self.step, self.signal, self.to_group = step, signal.Signals[name], to_group

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.step:
            if self.to_group:
                os.killpg(0, self.signal)
            else:
                os.kill(os.getpid(), self.signal)
