"""A callback for --trainer.callbacks: when each batch was done, and how long it was waited for."""

import time
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.profilers import SimpleProfiler

from star_head._whole_files import write_json

FETCHING = "[_TrainingEpochLoop].train_dataloader_next"


class BatchTimes(Callback):
    """Writes times at the end of the training. Needs ``--trainer.profiler=simple``.

    A GPU has done its work before the time is taken, so that what is waited for afterwards is the
    loader.

    Args:
        path: Of the JSON: "ends" of the batches, and seconds "waited" for each.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ends: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: object
    ) -> None:
        """Look at the clock once the device is done."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what was seen, and what Lightning's profiler saw of the loader.

        Raises:
            RuntimeError: If Lightning calls the loader by another name.
            TypeError: If the profiler is another.
        """
        profiler = trainer.profiler  # type: ignore[attr-defined]
        if not isinstance(profiler, SimpleProfiler):
            raise TypeError(
                f"profiler: BatchTimes needs --trainer.profiler=simple, got {profiler!r}"
            )
        waited = profiler.recorded_durations.get(FETCHING)
        if not waited:
            raise RuntimeError(f"profiler: expected times of {FETCHING} from Lightning, got none")
        write_json(self.path, {"ends": self.ends, "waited": waited})
