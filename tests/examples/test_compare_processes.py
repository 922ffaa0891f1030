"""Runs of a comparison side by side, and what a step costs, without any training."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from running import run_here

from star_head.examples.comparing.plan import Run
from star_head.examples.comparing.processes import Failed, alone_in, do_all
from star_head.examples.comparing.step_cost import StepCost, step_cost

# In place of Python: -m MODULE OUTPUT METHOD SEED THREADS STARTED.
STAND_IN = """#!/bin/sh
echo "$4_$5" >> "$3/order"
if [ "$4" = essl ]; then echo "loss: nan"; exit 3; fi
mkdir -p "$3/results"
echo "{\\"threads\\": \\"$6 $OMP_NUM_THREADS\\"}" > "$3/results/$4_$5.json"
"""


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    script = tmp_path / "python"
    script.write_text(STAND_IN)
    script.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(script))
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def begun(output: Path) -> list[str]:
    return (output / "order").read_text().split()


def test_a_run_that_fails_stops_no_other(output: Path) -> None:
    runs = [Run(method, seed) for seed in (0, 1) for method in ("simclr", "essl", "equimod")]
    failed = do_all(runs, output, jobs=2, threads=3)
    assert sorted(begun(output)) == sorted(run.name for run in runs)
    assert len(failed) == 2
    log = output / "runs/essl_0.log"
    assert f"essl_0 ended with 3: loss: nan; see {log}" in failed
    for run in runs:
        assert run.result(output).exists() == (run.method != "essl")
    assert Run("simclr", 0).result(output).read_text() == '{"threads": "3 3"}\n'
    (output / "order").unlink()
    assert len(do_all(runs, output, jobs=1, threads=1)) == 2
    assert begun(output) == ["essl_0", "essl_1"]  # the others are done


def test_where_all_is_done_nothing_is_begun(output: Path) -> None:
    runs = [Run("simclr", 0)]
    assert do_all(runs, output, jobs=1, threads=1) == []
    (output / "order").unlink()
    assert do_all(runs, output, jobs=1, threads=1) == []
    assert not (output / "order").exists()


def test_what_is_wrong_with_all_shows_in_the_first(output: Path) -> None:
    with pytest.raises(Failed, match=r"^essl_0 ended with 3: loss: nan; see .*essl_0\.log"):
        do_all([Run("essl", 0), Run("simclr", 0)], output, jobs=2, threads=1)
    assert begun(output) == ["essl_0"]


def test_where_the_first_method_failed_its_own_error_is_told(output: Path) -> None:
    settings = ("--dataset=digits", "--methods=essl,simclr", "--seeds=1", "--jobs=1")
    done = run_here("examples/compare.py", *settings, f"--output={output}")
    assert done.returncode
    assert done.stderr.endswith(
        f"not done: essl_0 ended with 3: loss: nan; see {output}/runs/essl_0.log\n"
    )
    assert begun(output) == ["untrained_0", "essl_0", "simclr_0"]


def test_a_folder_is_one_commands_at_a_time(output: Path) -> None:
    settings = ("--dataset=digits", "--methods=simclr", "--seeds=1", f"--output={output}")
    with alone_in(output):
        done = run_here("examples/compare.py", *settings)
    assert (
        f"output: expected a folder where no other star-head compare is at work, got {output}"
        in (done.stderr)
    )
    assert not (output / "settings.json").exists()
    with alone_in(output):  # the first has ended
        pass


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Python's own answer to SIGINT, which a shell has its background jobs ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("first", [True, False])
def test_an_interrupt_ends_all_runs(output: Path, first: bool) -> None:
    """As by Ctrl-C, while the first is done alone and while two are."""
    lasting = """#!/bin/sh
trap 'kill $!; echo "$4" >> "$3/ended"; exit 1' TERM
sleep 60 &
echo "$4_$5" >> "$3/order"
wait
"""
    Path(sys.executable).write_text(lasting)
    runs = [Run(method, 0) for method in ("simclr", "equimod", "augself", "essl")]
    if not first:
        (output / "results").mkdir()
        runs[0].result(output).write_text("{}")
    expected = {"simclr"} if first else {"equimod", "augself"}

    def interrupt() -> None:
        wait_for(lambda: (output / "order").exists() and len(begun(output)) == len(expected))
        os.kill(os.getpid(), signal.SIGINT)  # which interrupts the main thread

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        do_all(runs, output, jobs=2, threads=1)
    ended = output / "ended"
    wait_for(lambda: ended.exists() and set(ended.read_text().split()) == expected)
    assert len(begun(output)) == len(expected)


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.slow
def test_a_run_ends_with_a_command_that_is_killed() -> None:
    """The command ends without a word to its run, which waits for it in a thread."""
    run = "import threading, time; from star_head.examples.comparing import one_run as o; "
    run += "threading.Thread(target=o.end_with_parent, daemon=True).start(); time.sleep(100)"
    process = subprocess.Popen([sys.executable, "-c", run], stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=90) == 1


def busy(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_the_cost_of_a_step_is_kept_over_interruptions() -> None:
    module: Any = SimpleNamespace(device=torch.device("cpu"))
    trainer: Any = None
    saved: dict[str, Any] = {}
    for steps in ((0.01, 0.05), (0.05,)):
        cost = StepCost()
        if saved:
            cost.load_state_dict(saved)
        for seconds in steps:
            cost.on_train_batch_start(trainer, module)
            busy(seconds)
            cost.on_train_batch_end(trainer, module)
            busy(0.02)  # as reading images takes
        cost.on_train_epoch_end(trainer, module)
        saved = cost.state_dict()
    assert len(saved["wall"]) == 3
    found = step_cost({"callbacks": {"Another": {}, "StepCost": saved}})
    assert found["processor seconds"] == pytest.approx(0.05, abs=0.01)
    assert found["wall seconds"] >= found["processor seconds"] - 1e-3
    assert found["memory"] > 1e8  # PyTorch alone takes as much
