"""Measuring, fitting, reporting and predicting costs, on tiny points."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import cost_evaluation, cost_fit, cost_head, cost_predict, cost_report, page_blocks
from benchmarks.cost_counts import Sizes, Work, head_step
from benchmarks.cost_points import Points, peak_bytes, time_runs

ROOT = Path(__file__).parents[2]
PAGE, GPU_PAGE = ROOT / "docs/cost.md", ROOT / "docs/gpu.md"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("cost")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.cost_points.SECONDS", 0.0)
        cost_head.main(quick=True, output=path / "head.json")
        cost_evaluation.main(quick=True, output=path / "evaluation.json")
    return path


def head_point(seconds: float, **settings: int) -> dict:
    return {"settings": {"part": "head", **settings}, "seconds": [seconds], "peak_bytes": 1}


def test_peak_memory_is_what_was_held_at_once() -> None:
    held = torch.zeros(1000)

    def run() -> None:
        a = torch.zeros(5000)
        b = a[:100] + held[:100]
        del a
        torch.zeros(3000).add_(b[0])

    assert peak_bytes(run, CPU) == 4 * 5100 == peak_bytes(run, CPU)


def test_all_runs_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr("benchmarks.cost_points.time.perf_counter", lambda: next(clock) * 0.125)
    runs: list[int] = []
    seconds = time_runs(lambda: runs.append(0), CPU)
    assert seconds == [0.125] * 8  # until a second has passed
    assert len(runs) == 8


def test_points_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "points.json"
    settings = {"part": "head", "batch": 2}
    monkeypatch.setattr("benchmarks.cost_points.SECONDS", math.inf)
    Points(path, "cpu").measure(settings, lambda: {"iterations": 7})
    again = Points(path, "cpu")
    assert settings in again
    assert {**settings, "batch": 3} not in again
    (point,) = json.loads(path.read_text())["points"]
    assert point["settings"] == settings
    assert point["iterations"] == 7
    assert len(point["seconds"]) == 15


def test_points_of_another_machine_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "points.json"
    Points(path, "cpu").measure({"part": "head"}, lambda: None)
    with pytest.raises(ValueError, match=r"^output: .* precision float32, now bf16"):
        Points(path, "cpu", "bf16")


def test_the_model_is_found() -> None:
    generator = np.random.default_rng(0)
    points = []
    for batch, width, experts in generator.integers(2, 200, (30, 3)).tolist():
        work = head_step(Sizes(batch, width, experts))
        seconds = 0.002 + work.operations / 1e11 + 4 * work.numbers / 2e10
        points.append(head_point(seconds, batch=batch, width=width, experts=experts))
    fit = cost_fit.fit_head(points)
    assert fit.overhead == pytest.approx(0.002, rel=1e-6)
    assert fit.rate == pytest.approx(1e11, rel=1e-6)
    assert fit.bandwidth == pytest.approx(2e10, rel=1e-6)
    assert max(map(abs, fit.errors)) < 1e-9
    assert fit.seconds(Work(10**11, 0)) == pytest.approx(1.002)


def test_powers_are_found() -> None:
    n, d = [1.0, 2, 4, 8, 3], [5.0, 1, 2, 9, 7]
    values = [3 * a**1.5 * b**0.25 for a, b in zip(n, d, strict=True)]
    fit = cost_fit.fit_powers({"n": n, "d": d}, values)
    assert fit.factor == pytest.approx(3)
    assert fit.exponents == pytest.approx({"n": 1.5, "d": 0.25})
    off = cost_fit.fit_powers({"n": n, "d": d}, [2 * values[0], *values[1:]])
    assert max(map(abs, off.errors)) > 0.1


def test_where_the_head_begins_to_matter() -> None:
    common: dict = {"backbone": "a", "size": 8, "batch": 4}
    points: list[dict] = [
        {"settings": {"part": "backbone", **common}, "seconds": [9.0, 0.9, 1.1]},
        *(
            {"settings": {"part": "step", **common, "experts": e}, "seconds": [1 + e / 50]}
            for e in (1, 16, 64)
        ),
    ]
    other = {**common, "batch": 8}
    points.append({"settings": {"part": "backbone", **other}, "seconds": [1.0]})  # without steps
    (share,) = cost_fit.head_shares(points)
    assert share.alone == 0.9
    assert share.shares == pytest.approx([1 - 0.9 / (1 + e / 50) for e in (1, 16, 64)])
    assert share.experts_at(0.1) == pytest.approx(0, abs=1e-9)
    assert share.experts_at(0.5) == pytest.approx(40)
    assert share._replace(of_expert=0.0).experts_at(0.5) == float("inf")
    # SimCLR's two passes take two thirds of the backbone's 0.9 s.
    assert cost_report.against_simclr(share) == f"{(1 + 16 / 50) / 0.6:.2f}"
    assert cost_report.against_simclr(share._replace(experts=[1, 8, 64])) == "-"


def test_sizes_vary_one_at_a_time() -> None:
    points = list(cost_evaluation.one_at_a_time((1, 2, 3), (5, 6)))
    assert sorted(points) == [(1, 5), (1, 6), (2, 5), (3, 5)]


def test_steps_without_a_backbone_stay_below_the_limit() -> None:
    points = list(cost_head.heads(cost_head.FULL))
    sizes = [cost_fit.head_sizes(settings) for settings in points]
    assert len(set(sizes)) == len(sizes)
    assert {size.experts for size in sizes} == {1, 2, 4, 8, 16, 32, 64}
    assert {size.batch for size in sizes} == {16, 32, 64, 128, 256, 512, 1024}
    assert {size.width for size in sizes} == {128, 256, 512, 1024, 2048}
    assert max(head_step(size).operations for size in sizes) <= 1.5e12


@pytest.mark.slow
def test_measured_points(folder: Path) -> None:
    saved = json.loads((folder / "head.json").read_text())
    assert saved["machine"]["threads"] == torch.get_num_threads()
    parts = [point["settings"]["part"] for point in saved["points"]]
    assert parts.count("head") == 8
    assert parts.count("backbone") == 2
    assert parts.count("step") == 4
    peaks = {tuple(p["settings"].values()): p["peak_bytes"] for p in saved["points"]}
    assert peaks["head", 8, 16, 4] > peaks["head", 8, 16, 1]
    assert peaks["step", "test_vit", 32, 4, 1] > peaks["backbone", "test_vit", 32, 4]
    evaluation = json.loads((folder / "evaluation.json").read_text())["points"]
    paths = [point for point in evaluation if point["settings"]["part"] == "path"]
    assert len(paths) == 4
    for point in paths:
        n, d, c = (point["settings"][name] for name in ("images", "features", "classes"))
        assert point["converged"] == 45
        assert point["operations"] > point["iterations"] * 4 * n * c * (d + 1)


@pytest.mark.slow
def test_a_second_run_measures_nothing(folder: Path) -> None:
    before = (folder / "head.json").read_text()
    command = ["-m", "benchmarks.cost_head", "--quick=true", f"--output={folder / 'head.json'}"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, env=environment, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert "14 points in" in done.stdout
    assert (folder / "head.json").read_text() == before


@pytest.mark.slow
def test_the_page_is_filled_in(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost_report, "PREDICTED", (("test_vit", 32, 4, 8, (1, 2)),))
    page, gpu_page = tmp_path / "cost.md", tmp_path / "gpu.md"
    page.write_text(PAGE.read_text())
    gpu_page.write_text(GPU_PAGE.read_text())
    cost_report.main(folder, page, gpu_page)
    once = page.read_text()
    outside = re.compile(r"(<!-- \w+: \w+ -->\n).*?(<!-- end -->)", re.DOTALL)
    for written, before in ((page, PAGE), (gpu_page, GPU_PAGE)):
        assert outside.sub(r"\1\2", written.read_text()) == outside.sub(r"\1\2", before.read_text())
    assert re.search(r"^\| `test_vit` \| 32 \| 4 \| 8 \| 2 \|", gpu_page.read_text(), re.MULTILINE)
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", once)
    assert pictures == ["cost_head.png", "cost_backbones.png", "cost_evaluation.png"]
    for picture in pictures:
        with Image.open(tmp_path / picture) as image:
            assert min(image.size) > 200
    head = json.loads((folder / "head.json").read_text())["points"]
    seconds = next(
        sorted(p["seconds"])
        for p in head
        if p["settings"] == {"part": "head", "batch": 4, "width": 16, "experts": 4}
    )
    least = cost_report.digits(1e3 * min(seconds))
    assert re.search(rf"^\| 4 \| {re.escape(least)} \(", once, re.MULTILINE)
    cost_report.main(folder, page, gpu_page)
    assert page.read_text() == once


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^page: expected one block from <!-- cost: head -->"):
        page_blocks.fill("# Cost\n", "cost: head", "|")


def test_a_folder_without_points_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="`make cost` measures them"):
        cost_report.main(tmp_path, PAGE)


def test_predicted_seconds() -> None:
    gpu = cost_predict.GPU({"bf16": 1e12, "float32": 1e11}, 1e9, 1e8)
    sure = cost_predict.Assumed(1.0, 1.0, 1.0, 0.0, 0.5, overlap=False)
    step = cost_predict.Step(operations=2 * 10**12, numbers=5 * 10**8, weights=10**8)
    assert cost_predict.seconds(step, 1, gpu, "bf16", sure) == pytest.approx(2 + 1)
    assert cost_predict.seconds(step, 1, gpu, "float32", sure) == pytest.approx(20 + 2)
    at_once = sure._replace(overlap=True)
    assert cost_predict.seconds(step, 1, gpu, "bf16", at_once) == pytest.approx(2)
    # 4 processes: 1.5 times 400 MB of gradients at 100 MB a second
    assert cost_predict.seconds(step, 4, gpu, "bf16", sure) == pytest.approx(3 + 6)
    assert cost_predict.seconds(step, 4, gpu, "bf16", at_once) == pytest.approx(6)
    launched = step._replace(launches=100)
    slow_launch = sure._replace(launch=0.25)
    assert cost_predict.seconds(launched, 1, gpu, "bf16", slow_launch) == pytest.approx(25)


def test_messages() -> None:
    step = cost_predict.Step(weights=100, norm_channels=30, norms=3, gathered=50, gathers=4)
    sent = cost_predict.count_messages(step, 5)
    assert sent.gradients == pytest.approx(4 * 100 * 8 / 5)
    assert sent.loss == 2 * 4 * 50
    assert sent.norms == pytest.approx(4 * (4 * (60 + 3) + 60 * 8 / 5))
    assert sent.waits == 2 * (3 + 4)
    assert cost_predict.count_messages(step, 1) == (0, 0, 0, 0)


def test_more_experts_are_predicted_to_take_longer() -> None:
    for gpu in cost_predict.GPUS.values():
        for assumed in (cost_predict.FAST, cost_predict.SLOW):
            seconds = [
                cost_predict.seconds(
                    cost_predict.head_step(256, 2048, e, 2), 2, gpu, "bf16", assumed
                )
                for e in (8, 64)
            ]
            assert seconds[0] < seconds[1]


@pytest.mark.slow
def test_a_prediction(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cost_predict.main("test_resnet", 32, experts=4, batch=8, gpus=2, gpu="a100")
    told = capsys.readouterr().out
    low, high = map(float, re.findall(r"a step, ms +([\d.]+) to ([\d.]+)", told)[0])
    assert 0 < low < high
    cost_predict.main("test_resnet", 32, experts=4, batch=4, curves=folder / "head.json")
    low, high = map(float, re.findall(r"([\d.e-]+) to ([\d.e-]+) s", capsys.readouterr().out)[0])
    measured = [
        cost_fit.least_seconds(p)
        for p in json.loads((folder / "head.json").read_text())["points"]
        if p["settings"]["part"] == "backbone" and p["settings"]["backbone"] == "test_resnet"
    ]
    assert low < high
    assert high > measured[0]
    cost_predict.main(check=folder / "head.json", gpu="a100")
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 14 + 3
    assert rows[-1].endswith("of 14 in the range")


@pytest.mark.slow
def test_two_processes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "distributed.json"
    options = ["--device=cpu", "--precision=float32", "--quick=true", f"--output={path}"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"]
    done = subprocess.run(
        [*torchrun, "--standalone", "-m", "benchmarks.cost_distributed", *options],
        capture_output=True,
        text=True,
        env={**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    points = json.loads(path.read_text())["points"]
    assert [p["settings"]["experts"] for p in points] == [1, 4, 1, 4]
    assert all(p["settings"]["processes"] == 2 and len(p["seconds"]) == 10 for p in points)
    cost_predict.main(check=path, gpu="h100")
    assert capsys.readouterr().out.endswith("of 4 in the range\n")


@pytest.mark.slow
def test_the_page_tells_what_its_results_say(tmp_path: Path) -> None:
    page = tmp_path / "cost.md"
    shutil.copy(PAGE, page)
    cost_report.main(PAGE.parents[1] / "benchmarks/results/cost", page)
    assert page.read_text() == PAGE.read_text()
