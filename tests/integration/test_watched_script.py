"""lightly's own Lightning example, watched by three added lines, as docs/watching.md shows them."""

import csv
import difflib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

SCRIPTS = Path(__file__).parent / "scripts"
PAGE = Path(__file__).parents[2] / "docs/watching.md"


def read(name: str) -> list[str]:
    """A script's lines, less its title."""
    return (SCRIPTS / f"{name}.py").read_text().splitlines()[1:]


def test_three_lines_are_added_and_shown() -> None:
    original, ours = read("simclr_lightning"), read("simclr_lightning_watched")
    diff = list(difflib.unified_diff(original, ours, lineterm="", n=1))[2:]
    (shown,) = re.findall(r"```diff\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert shown.splitlines() == diff
    added = [line[1:] for line in diff if line.startswith("+") and line[1:].strip()]
    assert len(added) == 3
    assert not [line for line in diff if line.startswith("-")]


@pytest.mark.slow
def test_the_watched_script_trains_and_logs(tmp_path: Path) -> None:
    digits = load_digits()
    for folder, part in (("images", range(96)), ("held_out", range(96, 160))):
        for i in part:
            path = tmp_path / folder / str(digits.target[i]) / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = Image.fromarray((digits.images[i] * 255 / 16).astype(np.uint8))
            image.resize((40, 40), Image.Resampling.BICUBIC).save(path)
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "simclr_lightning_watched.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "left out" not in done.stderr
    (table,) = tmp_path.glob("logs/**/metrics.csv")
    with open(table) as file:
        rows = list(csv.DictReader(file))
    found = {name: [float(row[name]) for row in rows if row[name]] for name in rows[0]}
    assert len(found["train_loss"]) == 3
    for name, times in (
        ("knn_accuracy", 4),  # and once before training
        ("probe_accuracy", 3),
        ("effective_rank", 3),
        ("embedding_spread", 3),
        ("mean_r2", 4),
        ("mean_r2_chance", 4),
        ("r2/crop_top", 4),
    ):
        assert len(found[name]) == times, name
        assert np.isfinite(found[name]).all(), name
    assert 0.2 < found["knn_accuracy"][-1] <= 1
    # Nine steps from no seed in particular: features may tell less than chance does.
    assert max(found["mean_r2"]) <= 1
