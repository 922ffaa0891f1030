"""What the tests' own way to run scripts promises."""

from pathlib import Path

import pytest
from running import run_apart

# Appends a line, and faults while there are no more than so many.
FAULTS = """
import os, signal, sys
with open(sys.argv[1], "a") as file:
    file.write("run\\n")
if len(open(sys.argv[1]).readlines()) <= int(sys.argv[2]):
    os.kill(os.getpid(), signal.SIGSEGV)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("faults", "runs", "code"), [(0, 1, 0), (1, 2, 0), (2, 2, 1)])
def test_a_segmentation_fault_under_torchrun_is_repeated_once(
    tmp_path: Path, faults: int, runs: int, code: int, recwarn: pytest.WarningsRecorder
) -> None:
    script, log = tmp_path / "faults.py", tmp_path / "log"
    script.write_text(FAULTS)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=1"]
    done = run_apart(script, log, faults, launcher=launcher)
    assert done.returncode == code
    assert len(log.read_text().splitlines()) == runs
    stacks = [str(warning.message) for warning in recwarn]
    assert len(stacks) == runs - 1
    assert all("Segmentation fault" in stack and "faults.py" in stack for stack in stacks)


def test_other_faults_are_not_repeated(tmp_path: Path) -> None:
    script, log = tmp_path / "faults.py", tmp_path / "log"
    script.write_text(FAULTS)
    assert run_apart(script, log, 1).returncode == -11
    assert len(log.read_text().splitlines()) == 1
