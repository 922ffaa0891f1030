"""The long runs, short; their curves and tables."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.redundancy import collect, report
from benchmarks.redundancy.measure import of_random_readouts
from benchmarks.redundancy.runs import METHODS, Run, train

PAGE = Path(__file__).parents[2] / "docs/redundancy.md"


def test_random_readouts_meet_by_their_width_alone() -> None:
    white = torch.randn(4000, 32, generator=torch.Generator().manual_seed(1))
    found = [of_random_readouts(white, width) for width in (2, 8, 16)]
    # Of many dimensions, two subspaces of d in D share d / D of their variance; a single direction
    # of 32 correlates by 0.14 on average.
    expected = []
    for width in (2, 8, 16):
        bases = torch.linalg.qr(torch.randn(200, 2, 32, width, dtype=torch.float64)).Q
        cosines = torch.linalg.svdvals(bases[:, 0].mT @ bases[:, 1])
        assert (cosines**2).mean().item() == pytest.approx(width / 32, rel=0.15)
        expected.append(cosines.mean().item())
    assert found == pytest.approx(expected, abs=0.06)
    assert of_random_readouts(white[:, :4], 4) == pytest.approx(1, abs=1e-4)


@pytest.mark.slow
def test_runs_are_trained_and_measured_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawings = tmp_path / "out/data/openclipart"
    rng = np.random.default_rng(0)
    for part, count in (("train", 80), ("val", 50)):
        for index in range(count):
            pixels = rng.integers(0, 255, (30, 30, 3), dtype=np.uint8)
            pixels[..., index % 3] //= 4
            path = drawings / part / f"class{index % 3}" / f"{index:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    results = tmp_path / "results"
    for method in ("separate", "mmoe2"):
        collect.do(Run(method, "width 16", 5, 1), 2, tmp_path / "out", results)
    (curves,) = report.read_curves(results)
    # Every other epoch is kept, and the last is measured too.
    assert (curves.epochs, curves.change, curves.steps) == (5, "width 16", [2, 4, 5])
    assert list(curves.runs) == ["separate", "mmoe2"]
    assert curves.values("separate", "divergence") == [[1], [1], [1]]
    for method in curves.runs:
        for point in curves.runs[method][1]:
            assert 0 < point["canonical correlation by chance"] < 1
            assert 0 < point["canonical correlation"] <= 1
            for other in ("training drawings", "views", "directions"):
                assert 0 < point[f"canonical correlation of {other}"] <= 1
            assert 0 < point["1-NN"] <= 1
            assert 0 < point["linear"] <= 1
            assert 0.1 < point["MRR"] < 0.5  # of hardly trained networks: about chance

    # What has its file is not done again.
    monkeypatch.setattr(collect, "do", None)
    options = {"epochs": 5, "change": "width 16", "output": tmp_path / "out", "results": results}
    collect.main(methods=("separate", "mmoe2"), seeds=(1,), **options)
    with pytest.raises(ValueError, match=r"^methods: expected some of .* got \['byol'\]"):
        collect.main(methods=("byol",), **options)
    with pytest.raises(ValueError, match=r"^change: expected one of .* got 'width 8'"):
        collect.main(**(options | {"change": "width 8"}))


@pytest.mark.slow
def test_a_training_that_fails_is_named(tmp_path: Path) -> None:
    run = Run("mmoe2", "width 16", 1, 0)
    with pytest.raises(RuntimeError, match=r"^mmoe2_width_16_1_0 ended with \d+; see .*\.log"):
        train(run, tmp_path / run.name, tmp_path / "nothing", tmp_path / "decoded", 1)
    assert "data_dir: expected a folder" in (tmp_path / f"{run.name}.log").read_text()


def made_up(method: str, change: str, epochs: int, seed: int) -> dict:
    points = [
        {
            "step": 47 * epochs * (i + 1) // 8,
            "canonical correlation": 0.9 - 0.05 * i - 0.01 * seed,
            "canonical correlation by chance": 0.2,
            "canonical correlation of random readouts": 0.8,
            "canonical correlation of training drawings": 0.7,
            "canonical correlation of views": 0.6,
            "canonical correlation of directions": 0.5,
            "divergence": 0.1 * i,
            "1-NN": 0.5 + 0.01 * i,
            "linear": 0.4 + 0.01 * i,
            "MRR": 0.3,
            "MRR by chance": 0.18,
        }
        for i in range(8)
    ]
    return {**Run(method, change, epochs, seed)._asdict(), "points": points}


def test_a_report_has_every_run(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for method in METHODS:
        for change, epochs, seed in (
            *(("none", 80, 0), ("none", 80, 1)),
            *(("width 16", 80, 0), ("none", 800, 0)),
        ):
            run = made_up(method, change, epochs, seed)
            (tmp_path / f"{method}_{change}_{epochs}_{seed}.json").write_text(json.dumps(run))
    page = tmp_path / "page.md"
    markers = [f"<!-- redundancy: {name} -->" for name in ("runs", "changes", "taken over")]
    page.write_text("before\n" + "".join(f"{marker}\n<!-- end -->\n" for marker in markers))
    report.main(tmp_path, page)
    text = page.read_text()
    assert text.startswith("before\n")
    titles = [line for line in text.splitlines() if line.startswith("**")]
    assert [title.split("**")[1] for title in titles] == ["37,600 steps", "3,760 steps"]
    # Means over seeds, and each seed's figure at the end.
    assert "| STAR-MMoE, 2 experts | 0.895 |" in text
    assert "| STAR-MMoE, 2 experts | 0, 1 | 0.550, 0.540 | 0.600, 0.600 | 0.800, 0.800 |" in text
    # One change at a time beside none, in runs as long.
    assert "| 3,760 | none | STAR-MMoE, 2 experts | 0, 1 | 0.550, 0.540 |" in text
    assert "| 3,760 | width 16 | STAR-MMoE, 2 experts | 0 | 0.550 | 0.600 | 0.800 | 0.70 |" in text
    assert "| 37,600 | none |" not in text
    assert "| 37,600 | STAR-MMoE, 2 experts | 0.550 | 0.500 | 0.600 | 0.700 |" in text
    assert (tmp_path / "redundancy_curves.png").stat().st_size > 10_000
    assert "separate heads" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match=r"^folder: expected results of collect\.py in "):
        report.main(tmp_path / "nothing", page)


def test_curves_have_the_same_steps(tmp_path: Path) -> None:
    for seed in (0, 1):
        run = made_up("mmoe2", "none", 80, seed)
        run["points"] = run["points"][seed:]  # one of a run was not kept
        (tmp_path / f"{seed}.json").write_text(json.dumps(run))
    with pytest.raises(ValueError, match=r"^folder: expected points at the same .* got \[7, 8\]"):
        report.read_curves(tmp_path)


def test_the_page_is_what_the_results_say() -> None:
    text = PAGE.read_text()
    for name, lines in report.blocks(report.read_curves(collect.RESULTS)).items():
        block = text.split(f"<!-- {name} -->\n")[1].split("\n<!-- end -->")[0]
        assert block == "\n".join(lines)
