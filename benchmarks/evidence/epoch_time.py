"""A callback for --trainer.callbacks that logs what an epoch costs, however busy the machine is."""

import time

from lightning.pytorch import Callback, LightningModule, Trainer


class EpochTime(Callback):
    """Logs ``epoch_processor_seconds``, which this process computed for in an epoch's steps.

    Loader workers, the monitor and the writing of checkpoints are not in it.
    """

    def __init__(self) -> None:
        self._start = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the clock."""
        self._start = time.process_time()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what went by."""
        pl_module.log("epoch_processor_seconds", time.process_time() - self._start)
