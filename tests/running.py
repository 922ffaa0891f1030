"""How tests run a script: in this process, or in one of its own where that is the point."""

import contextlib
import inspect
import io
import logging
import os
import runpy
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parent.parent

Done = subprocess.CompletedProcess[str]


def run_here(
    script: str | Path | Callable[[], None],
    *arguments: object,
    cwd: Path | None = None,
    **environment: str,
) -> Done:
    """Run a script as its command line does, without a wait for imports that are done already.

    One thread computes, as in :func:`run_apart`, so that both give the same numbers.

    Args:
        script: Its path, absolute or from the repository's root. Or its function that reads the
            command line, where the script cannot be run twice in a process.
        *arguments: Of the command line.
        cwd: Working directory; this process's unless given.
        **environment: Variables to set.
    """
    name = inspect.getfile(script) if callable(script) else str(ROOT / script)
    command = [name, *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    with _surroundings(command, cwd, environment), _written_to(out, err):
        code: Any = 0
        try:
            if callable(script):
                script()
            else:
                runpy.run_path(name, run_name="__main__")
        except SystemExit as ended:
            code = ended.code
            if isinstance(code, str):
                err.write(code + "\n")
        except Exception:
            traceback.print_exc(file=err)
            code = 1
    code = code if isinstance(code, int) else int(code is not None)
    return Done(command, code, out.getvalue(), err.getvalue())


def run_apart(
    script: str | Path,
    *arguments: object,
    cwd: Path | None = None,
    launcher: Sequence[str] = (),
    **environment: str,
) -> Done:
    """The same in a process, and a process group, of its own.

    A process of torchrun was once ended by a segmentation fault while the other waited for it in a
    collective of gloo (PyTorch 2.14), which many repetitions did not show again. Such a run is
    repeated once, with a warning that holds the stack; a second fault is a failure.

    Args:
        script: Its path, absolute or from the repository's root.
        *arguments: Of the command line.
        cwd: Working directory; this process's unless given.
        launcher: Between Python and the script: ``["-m", "torch.distributed.run", ...]``.
        **environment: Variables to set.
    """
    command = [sys.executable, *launcher, str(ROOT / script), *map(str, arguments)]

    def run() -> Done:
        return subprocess.run(
            command,
            cwd=cwd,
            capture_output=True,
            text=True,
            env=own_environment(**environment),
            start_new_session=True,
        )

    done = run()
    if "torch.distributed.run" in launcher and "(SIGSEGV)" in done.stderr:
        warnings.warn(f"run again after a segmentation fault:\n{done.stderr}", stacklevel=2)
        done = run()
    return done


def in_one_process_and_in_two(
    folder: Path, *arguments: object, script: str = "tests/examples/two_processes.py"
) -> list[dict[str, Any]]:
    """What a script leaves in ``result.pt``, run by itself and by torchrun.

    Args:
        folder: Where each run has a folder of its own.
        *arguments: Of the script, behind its folder.
        script: Its path, from the repository's root.
    """
    results = []
    for name, launcher in {
        "one": [],
        "two": ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"],
    }.items():
        place = folder / name
        place.mkdir()
        command = (script, place, *arguments)
        output_of(run_apart(*command, launcher=launcher, GLOO_SOCKET_IFNAME="lo"))
        results.append(torch.load(place / "result.pt", weights_only=True))
    return results


def own_environment(**variables: str) -> dict[str, str]:
    """Variables for a process of its own, which finds what lies beside this file."""
    own = {
        "PYTHONPATH": str(Path(__file__).parent),
        "OMP_NUM_THREADS": "1",
        "PYTHONFAULTHANDLER": "1",  # the stack of a process that is ended by a signal
    }
    return {**os.environ, **own, **variables}


def output_of(done: Done) -> str:
    """All that a script wrote, once it has ended well."""
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


@contextlib.contextmanager
def _surroundings(
    command: list[str], cwd: Path | None, environment: dict[str, str]
) -> Iterator[None]:
    """Arguments, folder, variables and threads, and all as it was afterwards."""
    before = sys.argv, Path.cwd(), dict(os.environ), torch.get_num_threads()
    sys.argv = command
    os.environ |= environment
    os.chdir(cwd or before[1])
    torch.set_num_threads(1)
    try:
        yield
    finally:
        sys.argv = before[0]
        os.chdir(before[1])
        os.environ.clear()
        os.environ.update(before[2])
        torch.set_num_threads(before[3])


@contextlib.contextmanager
def _written_to(out: io.StringIO, err: io.StringIO) -> Iterator[None]:
    """What is printed, warned of, and logged by Lightning, which logs past a changed stderr."""
    handler = logging.StreamHandler(err)
    loggers = [
        logging.getLogger(name)
        for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning")
    ]
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        stack.enter_context(warnings.catch_warnings())
        warnings.showwarning = lambda message, category, filename, line, *_: err.write(
            warnings.formatwarning(message, category, filename, line)
        )
        for logger in loggers:
            logger.addHandler(handler)
            stack.callback(logger.removeHandler, handler)
        yield
