"""lightly's own example with STAR in it, run as it stands on a folder of images."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLE = Path(__file__).parents[2] / "examples/lightly_simclr.py"


@pytest.mark.slow
def test_runs_and_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "my/cute/cats/dataset"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for i in range(48):
        pixels = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 48)).save(folder / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLE))
    losses = [float(line.removeprefix("loss: ")) for line in capsys.readouterr().out.splitlines()]
    assert len(losses) == 10
    assert np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
