"""Runs in processes of their own, several at a time."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from types import FrameType
from typing import IO

from tqdm import tqdm

from star_head._whole_files import writing
from star_head.examples.comparing.plan import Run


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other commands out of a folder while this one is at work there.

    The system ends the lock with the process, even one that is killed.

    Raises:
        OSError: If the folder cannot be written to.
        ValueError: If another is at work there.
    """
    path = folder / ".lock"
    with contextlib.ExitStack() as stack:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(path, "w"))
        if _is_taken(file):
            raise ValueError(
                f"output: expected a folder where no other star-head compare is at work, got "
                f"{folder}"
            )
        yield


def _is_taken(file: IO[str]) -> bool:
    """Whether another process has locked a file; else it is locked now."""
    if sys.platform == "win32":  # which has no such locks
        return False
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:  # others than this come of file systems without locks
        return isinstance(error, BlockingIOError)
    return False


class Failed(Exception):
    """A run that ended without its results."""


def do_all(runs: Sequence[Run], output: Path, jobs: int, threads: int) -> list[str]:
    """Do those runs that have no results yet.

    The very first is done alone: what is wrong with the settings shows in each.

    Args:
        runs: The runs, in order.
        output: Folder of the comparison.
        jobs: Runs at a time.
        threads: Threads of each.

    Returns:
        What is to be said of those that failed; the others were done nevertheless.

    Raises:
        Failed: If the very first fails.
    """
    left = [run for run in runs if not run.result(output).exists()]
    failed: list[str] = []
    if not left:
        return failed
    processes = _Processes(output, threads)
    bar = tqdm(total=len(runs), initial=len(runs) - len(left), unit="run")
    with bar, _ending_on_sigterm(), ThreadPoolExecutor(jobs) as pool:
        try:
            if len(left) == len(runs):
                processes.do(left.pop(0))
                bar.update()
            for future in as_completed([pool.submit(processes.do, run) for run in left]):
                try:
                    future.result()
                except Failed as error:
                    failed.append(str(error))
                bar.update()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # or the rest would still be done
            processes.end()
            raise
    return failed


class _Processes:
    """Those that are running."""

    def __init__(self, output: Path, threads: int) -> None:
        self.output = output
        self.threads = threads
        self.running: set[subprocess.Popen[bytes]] = set()
        self.ended = False
        self.lock = threading.Lock()  # no run begins once they are to end

    def do(self, run: Run) -> None:
        """Do one run and wait for it."""
        log = run.log(self.output)
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "star_head.examples.comparing.one_run", str(self.output)]
        command += [run.method, str(run.seed), str(self.threads), str(time.time())]
        with open(log, "wb") as file, self.lock:
            if self.ended:
                raise Failed(f"{run.name} was not begun")
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,  # which ends with this process, and ends the run
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | {"OMP_NUM_THREADS": str(self.threads)},
            )
            self.running.add(process)
        with process:
            code = process.wait()
        self.running.discard(process)
        if code:
            lines = log.read_text(errors="replace").strip().splitlines()
            said = f": {lines[-1]}" if lines else ""
            raise Failed(f"{run.name} ended with {code}{said}; see {log}")

    def end(self) -> None:
        """End all of them; each can be resumed."""
        with self.lock:
            self.ended = True
            for process in list(self.running):
                process.terminate()


@contextlib.contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """Let what a cluster or a user ends take its runs with it."""

    def end(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
