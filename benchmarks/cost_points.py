"""Points of a curve: measured one by one, kept in a JSON file, and not measured twice.

Time is that of runs after the first. Memory is the most that PyTorch's allocator held during a run
above what it held before, on a GPU by its own count, on CPU as the profiler records each
allocation: the same on a busy machine as on an idle one, and the same quantity on both. What
libraries take without PyTorch, and what the C library keeps of what was freed, are not in it.
"""

import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

import star_head
from star_head._whole_files import write_json

Settings = Mapping[str, Any]
"""What tells a point from others."""

Shape = tuple[int, ...]

# Runs that are timed: at least the first number, then until they took so many seconds, or so many.
FEWEST, SECONDS, MOST = 3, 1.0, 15


class Points:
    """Measured points in a file, which is replaced whole after each.

    Args:
        path: Path of the file; goes on with what is in it.
        device: What is measured on.
        precision: That of the matrix products.

    Raises:
        ValueError: If the file's points were measured on something else.
    """

    def __init__(self, path: Path, device: str, precision: str = "float32") -> None:
        self.path = path
        self.device = torch.device(device)
        self.machine = describe_machine(self.device, precision)
        self.points: list[dict[str, Any]] = []
        if path.exists():
            saved = read_points(path)
            changed = {
                name: (value, self.machine[name])
                for name, value in saved["machine"].items()
                if value != self.machine[name]
            }
            if changed:
                told = ", ".join(f"{name} {old}, now {new}" for name, (old, new) in changed.items())
                raise ValueError(f"output: {path} was measured with {told}; name another file")
            self.points = saved["points"]

    def __contains__(self, settings: Settings) -> bool:
        return any(point["settings"] == settings for point in self.points)

    def measure(
        self,
        settings: Settings,
        run: Callable[[], Mapping[str, Any] | None],
        on: str | None = None,
    ) -> None:
        """Measure a run's time and memory and write them.

        Args:
            settings: Of the point.
            run: What is measured; leaves no more memory held than it found. What it returns is
                written as well.
            on: The device on which it runs; that of the points unless given.
        """
        device = self.device if on is None else torch.device(on)
        noted: Mapping[str, Any] | None = None

        def once() -> None:
            nonlocal noted
            noted = run()

        peak, seconds = peak_bytes(once, device), time_runs(once, device)
        self.add(settings, seconds, peak, noted or {})

    def add(
        self, settings: Settings, seconds: list[float], peak: int, noted: Mapping[str, Any]
    ) -> None:
        """Write what was measured elsewhere."""
        point = {"settings": dict(settings), "seconds": seconds, "peak_bytes": peak}
        self.points.append({**point, **noted})
        write_json(self.path, {"machine": self.machine, "points": self.points}, allow_nan=False)


def read_points(path: Path) -> dict[str, Any]:
    """The ``machine`` and the ``points`` of a file.

    Raises:
        FileNotFoundError: If there is none.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no measured points; `make cost` measures them")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def describe_machine(device: torch.device, precision: str) -> dict[str, Any]:
    """What a measurement depends on, apart from its settings."""
    return {
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "precision": precision,
        "huge pages": os.environ.get("THP_MEM_ALLOC_ENABLE") == "1",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": importlib.metadata.version("timm"),
        "star-head": star_head.__version__,
    }


def device_name(device: torch.device) -> str:
    """As its maker calls it, where that can be found."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def count_products(run: Callable[[], object]) -> int:
    """Operations of a run's matrix products and convolutions, 2 for each multiplication."""

    def addmm(out: Shape, a: Shape, b: Shape, *args: object, **kwargs: object) -> int:
        return 2 * a[0] * a[1] * b[1]

    # PyTorch counts addmm, but not where it adds in place.
    in_place = {torch.ops.aten.addmm_: addmm}
    with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
        run()
    return counter.get_total_flops()


def time_runs(run: Callable[[], object], device: torch.device) -> list[float]:
    """Seconds of each of some runs."""
    seconds: list[float] = []
    while len(seconds) < FEWEST or (sum(seconds) < SECONDS and len(seconds) < MOST):
        begun = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - begun)
    return seconds


def peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """Most bytes held at once during a run above those held before; the run warms up as well."""
    if device.type == "cuda":
        run()  # what libraries take for good at their first call is held before
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    events = recorded.profiler.kineto_results.events()
    changes = sorted(
        (event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"
    )
    held = most = 0
    for _, change in changes:
        held += change
        most = max(most, held)
    return most
