"""The progress bar of a training."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar


class ProgressBar(TQDMProgressBar):
    """Lightning's, without the number of the log's version: loss, speed and the last accuracy."""

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> Any:
        """What stands behind the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        return {name: value for name, value in metrics.items() if name != "v_num"}
