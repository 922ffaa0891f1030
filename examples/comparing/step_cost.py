"""What a training step costs, noted in the run's checkpoints."""

import sys
import time
from collections import deque
from pathlib import Path
from statistics import median
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

# Of the latest steps, so that a checkpoint does not grow with the run.
_STEPS = 1_000


class StepCost(Callback):
    """Times each step's forward and backward pass and update, and notes the most memory taken.

    Reading images and making views is not in it. A checkpoint keeps what was noted, so that a run
    that was interrupted tells of all its parts.
    """

    def __init__(self) -> None:
        self._processor: deque[float] = deque(maxlen=_STEPS)
        self._wall: deque[float] = deque(maxlen=_STEPS)
        self._memory = 0
        self._start = 0.0, 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Look at the clocks."""
        self._start = _clocks(pl_module.device)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Note what went by."""
        processor, wall = _clocks(pl_module.device)
        self._processor.append(processor - self._start[0])
        self._wall.append(wall - self._start[1])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the most memory so far."""
        self._memory = max(self._memory, _most_memory(pl_module.device))

    def state_dict(self) -> dict[str, Any]:
        """What was noted."""
        return {
            "processor": list(self._processor),
            "wall": list(self._wall),
            "memory": self._memory,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what was noted."""
        self._processor.extend(state_dict["processor"])
        self._wall.extend(state_dict["wall"])
        self._memory = state_dict["memory"]


def step_cost(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Median seconds of a step and the most memory in bytes, as a run's checkpoint has them."""
    (noted,) = (
        state for name, state in checkpoint["callbacks"].items() if StepCost.__name__ in name
    )
    return {
        "processor seconds": median(noted["processor"]),
        "wall seconds": median(noted["wall"]),
        "memory": noted["memory"],
    }


def _clocks(device: torch.device) -> tuple[float, float]:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.process_time(), time.perf_counter()


def _most_memory(device: torch.device) -> int:
    """In bytes: of tensors on a GPU, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage counts what the process was forked from
        lines = status.read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    import resource  # which Windows lacks

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
