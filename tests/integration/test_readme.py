"""README's ten lines for a reader's own images, run as they stand but for their size."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

ROOT = Path(__file__).parents[2]
# What a test cannot wait for, and what it runs instead.
SMALLER = {
    "max_epochs=200": "max_epochs=1, logger=False, enable_checkpointing=False",
    "batch_size=256": "batch_size=8",
    "num_workers=8": "num_workers=0",
    "input_size=96": "input_size=32",
}


def block() -> str:
    codes = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (found,) = (code for code in codes if "estimate_statistics(" in code)
    return found


def test_the_ten_lines_train_on_a_folder_of_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = block()
    lines = [line for line in code.splitlines() if line and "import" not in line]
    assert len(lines) <= 10
    for shown, smaller in SMALLER.items():
        assert shown in code
        code = code.replace(shown, smaller)
    rng = np.random.default_rng(0)
    for i in range(20):
        folder = tmp_path / "photos/train" / ("cats", "dogs")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (40, 60 + i, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)

    assert names["head"].predictor.mean[2:4].lt(torch.tensor([40.0, 80.0])).all()  # of these sizes
    encoder = timm.create_model("local-dir:encoder", pretrained=True).eval()
    trained = names["backbone"].eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(encoder(x), trained(x))
    assert {v.isfinite().all().item() for v in trained.state_dict().values()} == {True}


def test_every_page_that_readme_names_is_there() -> None:
    readme = (ROOT / "README.md").read_text()
    targets = re.findall(r"\]\((?!\w+:|#)([^)#]+)", readme)
    assert len(targets) > 15
    for target in targets:
        assert (ROOT / target).exists(), target
