"""The tables of docs/compare.md."""

import json
from pathlib import Path

from benchmarks import comparison_tables

PAGE = Path(__file__).parents[2] / "docs/compare.md"


def write_run(folder: Path, method: str, seed: int, linear: float) -> None:
    run = {
        "dataset": folder.name,
        "method": method,
        "seed": seed,
        "epochs": 3,
        "steps": 1504,
        "linear": linear,
        "linear elsewhere": {"photos": linear / 2},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{method}_{seed}.json").write_text(json.dumps(run))


def test_the_page_is_filled_from_the_runs(tmp_path: Path) -> None:
    page = tmp_path / "compare.md"
    page.write_text(PAGE.read_text())
    for seed, level in ((0, 0.5), (3, 0.52)):
        write_run(tmp_path / "results/openclipart", "untrained", seed, 0.3)
        write_run(tmp_path / "results/openclipart", "simclr", seed, level)
        write_run(tmp_path / "results/openclipart", "star-mmoe-4", seed, level + 0.1 + seed / 100)
    comparison_tables.main(tmp_path / "results", page)
    text = page.read_text().replace("\u00a0", " ")
    assert "**Trained on openclipart, 3 epochs**, 1,504 steps, 2 seeds:" in text
    assert "| untrained | 30.0 ± 0.0 |\n" in text
    # Differences 10 and 13: 11.5, and 12.706 x 2.1213 / sqrt(2) to either side.
    assert "| STAR-MMoE, 4 experts | 62.5 ± 3.5 (+11.5 ± 19.1) |\n" in text
    once = page.read_text()
    comparison_tables.main(tmp_path / "results", page)
    assert page.read_text() == once
    (tmp_path / "results/openclipart/simclr_0.json").unlink()  # not done yet
    comparison_tables.main(tmp_path / "results", page)
    assert "| STAR-MMoE, 4 experts | 62.5 ± 3.5 (+13.0) |" in page.read_text().replace(
        "\u00a0", " "
    )


def test_the_page_tells_what_its_results_say(tmp_path: Path) -> None:
    """Those in the repository: nobody has written into its tables, or forgotten to."""
    page = tmp_path / PAGE.name
    page.write_text(PAGE.read_text())
    comparison_tables.main(page=page)
    assert page.read_text() == PAGE.read_text()
