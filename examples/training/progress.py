"""The progress bar of a training."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar

# The log's version, and what the logs have beside what one looks at.
_LEFT_OUT = {
    "v_num",
    "weighted_knn_accuracy",
    "probe_top5_accuracy",
    "mean_canonical_correlation_chance",
}


class ProgressBar(TQDMProgressBar):
    """Lightning's with what one looks at: loss, speed, the last accuracies and redundancy."""

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> Any:
        """What stands behind the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        return {name: value for name, value in metrics.items() if name not in _LEFT_OUT}
