"""Somebody else's encoder and images, measured as the pages show it."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightly.transforms.utils import IMAGENET_NORMALIZE
from PIL import Image
from torchvision.transforms import v2

ROOT = Path(__file__).parents[2]
COLOURS = ((200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40), (40, 200, 200))


def block(page: str) -> str:
    """The page's code that measures with ``extract_features``."""
    codes = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    (found,) = (code for code in codes if "= (extract_features(" in code)
    return found


def save_photos(folder: Path) -> None:
    """Noise around a colour for each of five classes."""
    generator = np.random.default_rng(0)
    for part, count in (("train", 5), ("val", 2), ("test", 7)):
        for label, colour in enumerate(COLOURS):
            (folder / part / f"class {label}").mkdir(parents=True)
            for i in range(count):
                pixels = (colour + generator.normal(0, 20, (40, 30, 3))).clip(0, 255)
                image = Image.fromarray(pixels.astype(np.uint8))
                image.save(folder / part / f"class {label}" / f"{i}.png")


def test_the_ten_lines_measure_an_image_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = block("README.md")
    assert block("docs/transfer.md") == code
    lines = [line for line in code.splitlines() if line and "import" not in line]
    assert len(lines) <= 10
    save_photos(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)

    test = names["test"]
    assert test.labels.tolist() == [label for label in range(5) for _ in range(7)]
    # What came out is what the network makes of images prepared by torchvision.
    prepare = v2.Compose(
        [
            v2.Resize(96, v2.InterpolationMode.BICUBIC),
            v2.CenterCrop(96),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(**IMAGENET_NORMALIZE),
        ]
    )
    with torch.no_grad():
        image = prepare(Image.open("photos/test/class 3/4.png").convert("RGB"))
        expected = names["network"].eval()(image[None])[0]
    np.testing.assert_allclose(test.features[3 * 7 + 4], expected, rtol=1e-3, atol=1e-4)
    # The colours are told apart; chance is a fifth.
    printed = capsys.readouterr().out
    for pattern in (r"LinearProbe\(test=(\S+),", r"top1=(\S+),", r"FewShot\(accuracy=(\S+),"):
        (accuracy,) = re.findall(pattern, printed)
        assert float(accuracy) > 0.6
