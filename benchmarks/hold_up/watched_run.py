"""Runs of examples/pretrain.py as processes of their own, watched from outside."""

import contextlib
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import lightning
import torch

_ROOT = Path(__file__).parents[2]
_PRETRAIN = _ROOT / "examples" / "pretrain.py"
# Eleven steps an epoch on scikit-learn's 1,437 digits; an epoch takes about a second.
SMALL = (
    "--trainer.accelerator=cpu",
    "--trainer.log_every_n_steps=1",
    "--trainer.enable_progress_bar=false",
    "--model.backbone=test_resnet",
    "--model.num_experts=2",
    "--model.hidden_dim=32",
    "--model.output_dim=16",
    "--data.transform=STARTransform",
    "--data.transform.input_size=16",
    "--data.batch_size=128",
)


class Moment(NamedTuple):
    """What a run was at.

    Attributes:
        time: Since the epoch, in seconds.
        phase: As :class:`progress_report.ProgressReport` writes it; "starting" before that.
        epoch: Counted from 0.
        step: Steps done, over all epochs.
    """

    time: float
    phase: str
    epoch: int
    step: int


class WatchedRun:
    """A run that was started.

    Args:
        folder: Folder of the run; its output and its moments are kept beside the folder.
        arguments: Arguments of the command line.
    """

    def __init__(self, folder: Path, arguments: Sequence[object]) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        self.log = folder.with_name(f"{folder.name}.log")
        self._report = folder.with_name(f"{folder.name}.moments")
        self._report.write_text("")
        command = [
            *(sys.executable, _PRETRAIN, f"--trainer.default_root_dir={folder}", *arguments),
            "--trainer.callbacks=benchmarks.hold_up.progress_report.ProgressReport",
            f"--trainer.callbacks.path={self._report}",
        ]
        paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.started = time.time()
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )

    def moments(self) -> list[Moment]:
        """All that the run has said so far."""
        lines = self._report.read_text().splitlines(keepends=True)
        found = [Moment(self.started, "starting", 0, 0)]
        for line in lines:
            if line.endswith("\n"):
                at, phase, epoch, step = line.split()
                found.append(Moment(float(at), phase, int(epoch), int(step)))
        return found

    def wait_for(self, reached: Callable[[Moment], bool], seconds: float = 600) -> Moment | None:
        """Wait until the run says that it is at such a moment; None if it ends before.

        Raises:
            TimeoutError: If neither happens.
        """
        end, seen = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            ended = self.process.poll() is not None
            if (size := self._report.stat().st_size) > seen:
                seen = size
                if reached(moment := self.moments()[-1]):
                    return moment
            if ended:
                return None
            time.sleep(0.0005)
        raise TimeoutError(f"the run did not get there in {seconds} s: {self.last_lines()}")

    def finish(self, seconds: float = 600) -> int:
        """Wait for the end; the exit status, negative for a signal."""
        return self.process.wait(seconds)

    def last_lines(self, count: int = 12) -> str:
        """The end of what the run printed."""
        return "\n".join(self.log.read_text(errors="replace").rstrip().splitlines()[-count:])


@contextlib.contextmanager
def watched_run(folder: Path, *arguments: object) -> Iterator[WatchedRun]:
    """Start a run, and leave no process of it behind."""
    run = WatchedRun(folder, arguments)
    try:
        yield run
    finally:
        # Loader workers of a killed run may live on for a while.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.process.pid, signal.SIGKILL)
        run.process.wait()


def run_through(folder: Path, *arguments: object) -> WatchedRun:
    """A run from its start, or from where it stopped, to its end.

    Raises:
        RuntimeError: If it fails.
    """
    with watched_run(folder, *arguments, "--ckpt_path=last") as run:
        if code := run.finish():
            raise RuntimeError(f"{folder}: the run ended with {code}:\n{run.last_lines()}")
        return run


def new_folder(folder: Path) -> Path:
    """Make a folder; raise a ValueError if there is one with anything in it."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"output: expected a new or an empty folder, got {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def versions() -> dict[str, str]:
    """Of what the figures hang on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
    }
