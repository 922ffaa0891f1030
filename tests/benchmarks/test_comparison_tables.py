"""The tables of docs/compare.md."""

import json
from pathlib import Path

from benchmarks import comparison_tables

PAGE, README = (Path(__file__).parents[2] / name for name in ("docs/compare.md", "README.md"))


def write_run(folder: Path, method: str, seed: int, linear: float) -> None:
    run = {
        "dataset": folder.name,
        "method": method,
        "seed": seed,
        "epochs": 3,
        "steps": 1504,
        "linear": linear,
        "canonical correlation": {"measured": 1 - linear, "by chance": 0.1},
        "linear elsewhere": {"fashion-mnist": linear / 2},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{method}_{seed}.json").write_text(json.dumps(run))


def write_others(folder: Path) -> None:
    """What README's table needs beside those of a test."""
    for place in ("fashion-mnist", "openclipart"):
        for seed in (0, 1, 2):
            for number, method in enumerate(("simclr", "equimod", "star-mmoe-2", "star-mmoe")):
                if not (folder / place / f"{method}_{seed}.json").exists():
                    write_run(folder / place, method, seed, 0.4 + 0.1 * number)


def test_the_page_is_filled_from_the_runs(tmp_path: Path) -> None:
    results, page, readme = tmp_path / "results", tmp_path / "compare.md", tmp_path / "README.md"
    page.write_text(PAGE.read_text())
    readme.write_text(README.read_text())
    for seed, level in ((0, 0.5), (3, 0.52)):
        write_run(results / "openclipart", "untrained", seed, 0.3)
        write_run(results / "openclipart", "simclr", seed, level)
        write_run(results / "openclipart", "star-mmoe-4", seed, level + 0.1 + seed / 100)
    write_others(results)
    comparison_tables.main(results, page, readme)
    text = page.read_text().replace("\u00a0", " ")
    assert "**Trained on openclipart, 3 epochs**, 1,504 steps, 4 seeds:" in text
    assert "| untrained | 30.0 ± 0.0 |\n" in text
    # Differences 10 and 13: 11.5, and 12.706 x 2.1213 / sqrt(2) to either side.
    assert "| STAR-MMoE, 4 experts | 62.5 ± 3.5 (+11.5 ± 19.1) |\n" in text
    once = page.read_text(), readme.read_text()
    comparison_tables.main(results, page, readme)
    assert (page.read_text(), readme.read_text()) == once
    (results / "openclipart/simclr_0.json").unlink()  # not done yet
    comparison_tables.main(results, page, readme)
    assert "| STAR-MMoE, 4 experts | 62.5 ± 3.5 (+13.0) |" in page.read_text().replace(
        "\u00a0", " "
    )


def test_the_pages_tell_what_their_results_say(tmp_path: Path) -> None:
    """Those in the repository: nobody has written into their tables, or forgotten to."""
    page, readme = tmp_path / PAGE.name, tmp_path / README.name
    page.write_text(PAGE.read_text())
    readme.write_text(README.read_text())
    comparison_tables.main(page=page, readme=readme)
    assert page.read_text() == PAGE.read_text()
    assert readme.read_text() == README.read_text()
