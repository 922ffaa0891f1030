"""``make gpu``: what it measures, what breaks it, and a whole run on CPU, tiny."""

import json
import math
import os
import re
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from running import ROOT, own_environment

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import head, loss, stl10
from benchmarks.gpu import page as gpu_page
from benchmarks.gpu.cases import Case, Figures, Row, read_rows, run_cases
from benchmarks.gpu.part import PARTS
from benchmarks.gpu.promises import PROMISES, judge, problems
from benchmarks.gpu.sizes import TOY
from benchmarks.gpu.table import table_of
from star_head import NTXentLoss


def fails() -> Figures:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB\nof very many")


def test_a_case_that_fails_is_named_and_the_next_runs(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    cases = [
        Case("large", fails),
        Case("foreign", fails, needs=("json", "no_such_package")),
        Case("small", lambda: {"ms": 2.0}),
    ]
    run_cases("head", cases, path)
    large, foreign, small = read_rows(path)
    assert large.failed == "OutOfMemoryError: CUDA out of memory. Tried to allocate 9 GiB"
    assert foreign.left_out == "no_such_package not installed"
    assert small == Row("head", "small", {"ms": 2.0})
    assert problems([large, foreign, small], full_size=True) == [
        f"head, large: failed: {large.failed}"
    ]
    with open(path, "a") as file:
        file.write('{"part": "head", "ca')  # killed while it wrote
    assert read_rows(path) == [large, foreign, small]


def test_a_promise_is_kept_or_broken() -> None:
    slow = Row("head", "small", {"loop / ours": 0.5, "loop ms": 1.0})
    (verdict,) = judge(slow, full_size=True)
    assert not verdict.kept
    assert problems([slow], full_size=True) == [
        "head, small: loop / ours is 0.5, promised at least 1 "
        "(docs/gpu.md: not slower than a loop of experts)"
    ]
    assert not problems([slow], full_size=False)  # says nothing at toy sizes
    for apart, kept in ((0.0, True), (1e-10, True), (1e-3, False), (math.nan, False)):
        row = Row("agreement", "head", {"float64 apart": apart})
        assert [verdict.kept for verdict in judge(row, full_size=False)] == [kept]
    unknown = Row("loss", "n = 16,384", {"lightly / ours": None})  # lightly's did not fit
    assert not problems([unknown], full_size=True)
    assert {promise.part for promise in PROMISES} <= PARTS.keys()


def test_all_parts_fit_into_ten_minutes_and_are_on_the_page() -> None:
    assert sum(part.minutes for part in PARTS.values()) <= 10
    page = (ROOT / "docs/gpu.md").read_text().partition("## What is measured")[2]
    assert re.findall(r"^\| `(\w+)` \|", page.partition("\n## ")[0], re.MULTILINE) == list(PARTS)


def test_time_that_a_part_leaves_goes_to_the_later_ones() -> None:
    assert gpu.share(list(PARTS)) == 0.075  # of ten minutes
    assert gpu.share(["step", "views"]) == pytest.approx(2 / 3)
    assert gpu.share(["compiled"]) == 1


def test_the_page_tells_what_was_found(tmp_path: Path) -> None:
    page = tmp_path / "gpu.md"
    page.write_text((ROOT / "docs/gpu.md").read_text())
    gpu_page.main(page=page)
    assert page.read_text() == (ROOT / "docs/gpu.md").read_text()


def test_a_table_for_figures_of_the_same_names() -> None:
    rows = [
        Row("loss", "ours alone", {"ours ms": 1.5}),
        Row("loss", "n = 8", {"ours ms": 2.0, "lightly / ours": 0.5}),
        Row("loss", "n = 9", {"ours ms": 1234.5, "lightly / ours": None}),
        Row("step", "resnet18", left_out="timm not installed"),
    ]
    machine = {"device": "GPU", "processors": 2, "python": "3.12", "torch": "2.11"}
    found = {
        "machine": {**machine, "packages": {"timm": None, "lightly": "1.6"}},
        "full_size": True,
        "minutes": 6.94,
        "rows": [asdict(row) for row in rows],
    }
    assert gpu_page.tables(found) == [
        "**GPU**, 2 processors, Python 3.12, torch 2.11, lightly 1.6; 6.9 minutes. "
        "As promised: 0 of 1 figures. Failed: 0 of 4 cases.",
        "",
        *("| `loss` | ours ms |", "|---|---|", "| ours alone | 1.5 |", ""),
        *("| `loss` | ours ms | lightly / ours |", "|---|---|---|"),
        *("| n = 8 | 2 | 0.5 |", "| n = 9 | 1,234 | out of memory |", ""),
        "`step`, resnet18: timm not installed\n",
    ]


def test_a_process_that_takes_too_long_is_ended() -> None:
    begun = time.perf_counter()
    assert gpu.failure_of([sys.executable, "-c", "import time; time.sleep(60)"], 0.2) == (
        "took more than 0 s"
    )
    assert time.perf_counter() - begun < 20
    assert (
        gpu.failure_of([sys.executable, "-c", "raise SystemExit(3)"], 60)
        == "its process ended with 3"
    )
    assert gpu.failure_of([sys.executable, "-c", ""], 60) is None
    (row,) = gpu.run_part("head", "cpu", full_size=False, seconds=0)
    assert row.failed is not None
    assert "no time was left" in row.failed


def ends_within(seconds: float, process: int) -> bool:
    """Whether a process that is not this one's child is gone, or dead and not yet waited for."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        try:
            state = Path(f"/proc/{process}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state.rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="/proc tells who is alive")
def test_what_a_crashed_process_started_is_ended(tmp_path: Path) -> None:
    """Else a training would go on beside the parts that follow."""
    child = "import sys, time; print(flush=True); time.sleep(60)"
    code = f"""
import os, signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {child!r}], stdout=subprocess.PIPE)
child.stdout.readline()
open({str(tmp_path / "child")!r}, "w").write(str(child.pid))
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert gpu.failure_of([sys.executable, "-c", code], 60) == "its process ended with -9"
    child_process = int((tmp_path / "child").read_text())
    assert ends_within(20, child_process)


def test_lightlys_loss_may_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lightly")
    measured, forward = loss.peak_bytes, NTXentLoss.forward
    held: list[weakref.ref[torch.Tensor]] = []
    left: list[bool] = []

    def peak_bytes(run: Callable[[], object], device: torch.device) -> int:
        assert measured(run, device) > 0
        similarities = torch.zeros(4)
        held.append(weakref.ref(similarities))
        raise torch.OutOfMemoryError("CUDA out of memory")

    def ours(*inputs: Any) -> torch.Tensor:
        left.extend(reference() is not None for reference in held)
        return forward(*inputs)

    monkeypatch.setattr(loss, "peak_bytes", peak_bytes)
    monkeypatch.setattr(NTXentLoss, "forward", ours)
    figures = loss.compare("cpu", 8, 0)
    assert set(figures.values()) == {None}
    assert left == [False]  # ours had the memory that lightly's could not do with
    assert "out of memory" in table_of([Row("loss", "n = 8", dict(figures))], full_size=True)


def test_what_compiles_for_a_gpu_needs_triton() -> None:
    for device, needs in (("cuda", ("triton",)), ("cpu", ())):
        assert {case.needs for case in head.compiled_cases(device, TOY)} == {needs}


def test_a_gpu_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device, words in (("cuda", "expected cpu, got cuda"), ("cuda:1", "invalid choice")):
        monkeypatch.setattr(sys, "argv", ["gpu", f"--device={device}"])
        with pytest.raises(SystemExit):
            gpu.main()
        assert words in capsys.readouterr().err


def test_the_table_has_a_line_for_each_figure() -> None:
    rows = [
        Row("head", "width 8", {"loop ms": 1234.5, "loop / ours": 0.5}),
        Row("step", "resnet18", left_out="timm not installed"),
        Row("views", "all", failed="its process ended with -11"),
    ]
    lines = [line.split() for line in table_of(rows, full_size=True).splitlines()]
    assert lines == [
        ["part", "case", "figure", "value", "promised"],
        ["head", "width", "8", "loop", "ms", "1,234"],
        ["loop", "/", "ours", "0.5", "at", "least", "1", "BROKEN"],
        ["step", "resnet18", "left", "out:", "timm", "not", "installed"],
        ["views", "all", "FAILED:", "its", "process", "ended", "with", "-11"],
    ]


def test_the_loaders_share() -> None:
    # Ten steps, a second each, of which the last eight waited 0.25 s; the first two are warm-up.
    figures = stl10.speed([float(i) for i in range(10)], [5.0] * 2 + [0.25] * 8, batch=4)
    assert figures == {"images/s": 4.0, "loader's share": 0.25, "steps": 8}


def test_a_broken_promise_ends_in_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {"differences": 0.0}
    monkeypatch.setattr(gpu, "run_part", lambda part, *_: [Row(part, "digits", dict(found))])
    output = tmp_path / "results.json"
    command = ["gpu", "--device=cpu", "--parts", "resume", f"--output={output}"]
    monkeypatch.setattr(sys, "argv", command)
    gpu.main()
    assert json.loads(output.read_text())["problems"] == []
    found["differences"] = 3.0
    with pytest.raises(SystemExit, match="resume, digits: differences is 3, promised at most 0"):
        gpu.main()
    assert len(json.loads(output.read_text())["problems"]) == 1
    assert "BROKEN" in capsys.readouterr().out


@pytest.mark.slow
def test_all_of_it_at_toy_sizes(tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--device=cpu", f"--output={output}"]
    command += ["--minutes=60"]  # on a busy machine
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=own_environment())
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads(output.read_text())
    assert found["machine"]["torch"] == torch.__version__
    assert not found["full_size"]
    rows = [Row(**row) for row in found["rows"]]
    assert {row.part for row in rows} == PARTS.keys()
    assert not [row for row in rows if row.failed or row.left_out]
    # Every figure that something is promised of was measured.
    measured = {(row.part, name) for row in rows for name in row.figures}
    assert {(promise.part, promise.figure) for promise in PROMISES} <= measured
    figures = {name: value for row in rows for name, value in row.figures.items()}
    assert all(math.isfinite(value) for value in figures.values())
    assert figures["tensors compared"] > 100
    assert 0 <= figures["loader's share"] < 1
    assert all(row.case in done.stdout for row in rows)


@pytest.mark.slow
def test_what_is_not_installed_is_left_out_by_name(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        """
import importlib.util, sys

absent = {"lightly", "timm", "lightning", "kornia"}
find_spec = importlib.util.find_spec


class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Absent())
importlib.util.find_spec = lambda name, *_: None if name in absent else find_spec(name)
"""
    )
    output = tmp_path / "results.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--device=cpu", f"--output={output}"]
    command += ["--minutes=60"]  # on a busy machine
    environment = own_environment()
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), environment["PYTHONPATH"]])
    done = subprocess.run(
        [*command, "--parts", "agreement", "loss", "step", "views", "resume", "stl10"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads(output.read_text())
    left_out = {f"{row['part']}, {row['case']}": row["left_out"] for row in found["rows"]}
    assert left_out["agreement, head and loss, float32"] is None
    assert left_out["loss, n = 32, ours alone"] is None
    assert left_out["loss, n = 32, against lightly's"] == "lightly not installed"
    assert left_out["views, kornia's"] == "lightly and kornia not installed"
    resumed = left_out["resume, test_resnet on digits, deterministic kernels"]
    assert resumed == "lightly and timm and lightning not installed"
    assert all(row["figures"] == {} for row in found["rows"] if row["part"] in ("step", "stl10"))
