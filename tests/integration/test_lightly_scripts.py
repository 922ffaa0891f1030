"""Scripts as lightly's users write them, and the same with README's recipe in them."""

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
README = Path(__file__).parents[2] / "README.md"
NAMES = ("simclr_plain", "simclr_lightning", "simclr_distributed")

pytestmark = pytest.mark.parametrize("name", NAMES)


def read(name: str) -> list[str]:
    """A script's lines, less its title."""
    return (SCRIPTS / f"{name}.py").read_text().splitlines()[1:]


def words(lines: list[str]) -> set[str]:
    return set(re.findall(r"\w+|\"\w+\"", "\n".join(lines)))


def changed(diff: list[str], sign: str) -> list[str]:
    lines = [line[1:] for line in diff if line.startswith(sign)]
    return [line for line in lines if line.strip()]


def test_only_the_recipe_changes_a_script(name: str) -> None:
    original, ours = read(name), read(f"{name}_star")
    diff = list(difflib.unified_diff(original, ours, lineterm="", n=0))[2:]
    ((recipe),) = re.findall(r"```diff\n(.*?)```", README.read_text(), re.DOTALL)
    for sign in "-+":
        shown = changed(recipe.splitlines(), sign)
        found = changed(diff, sign)
        assert len(found) <= len(shown)
        # Nothing is in a changed line that the recipe does not show and the script did not have.
        assert words(found) <= words(shown) | words(original)
    changed_script = "\n".join(ours)
    assert not re.search("lightly.*(SimCLRProjectionHead|NTXent)", changed_script)
    # The transform stays lightly's, with its arguments, within ours.
    (before,) = re.findall(r"^transform = (.*)$", "\n".join(original), re.MULTILINE)
    assert f"\ntransform = RecordedTransform({before})\n" in changed_script


@pytest.mark.slow
def test_the_changed_script_learns(name: str, tmp_path: Path) -> None:
    digits = load_digits()
    for i in range(96):
        folder = tmp_path / "images" / str(digits.target[i])
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray((digits.images[i] * 255 / 16).astype(np.uint8))
        image.resize((160, 120), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / f"{name}_star.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    if name == "simclr_plain":
        losses = [float(loss) for loss in re.findall(r"loss: (\S+)", done.stdout)]
    else:
        (table,) = tmp_path.glob("logs/**/metrics.csv")
        with open(table) as file:
            losses = [float(row["train_loss"]) for row in csv.DictReader(file)]
    if name == "simclr_distributed":
        assert "2 processes" in done.stderr + done.stdout
    assert len(losses) == 3
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0] - 0.3
