"""Tasks made from drawings: that a label says how its image was made."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from benchmarks.evidence import drawing_tasks

SIDE = 30


def drawing(hue: int) -> Image.Image:
    """A coloured mark in the upper left corner, on white."""
    colour = Image.new("HSV", (1, 1), (hue, 255, 255)).convert("RGB").getpixel((0, 0))
    image = Image.new("RGB", (SIDE, SIDE), "white")
    ImageDraw.Draw(image).rectangle((0, 0, 11, 11), fill=colour)
    return image


@pytest.fixture
def drawings(tmp_path: Path) -> Path:
    folder = tmp_path / "openclipart"
    for part, count in (("train", 40), ("val", 12)):
        for index in range(count):
            path = folder / part / ("food", "people")[index % 2] / f"{index:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            drawing(index * 37 % 256).save(path)
    Image.new("RGB", (SIDE, SIDE), "gray").save(folder / "train/food/without_colour.png")
    return folder


def pixels_of(folder: Path) -> list[tuple[str, np.ndarray]]:
    return [
        (path.parent.name, np.asarray(Image.open(path)).astype(int))
        for path in sorted(folder.glob("*/*/*.png"))
    ]


def test_places(drawings: Path) -> None:
    made = pixels_of(drawing_tasks.prepare_task("place", drawings))
    assert len(made) == 53
    assert len({label for label, _ in made}) == 9
    for label, pixels in made:
        rows, columns = np.nonzero((pixels < 250).any(axis=-1))
        if not len(rows):
            continue
        assert label == f"row {rows.min() // 10}, column {columns.min() // 10}"
        assert rows.max() // 10 == rows.min() // 10
        assert columns.max() // 10 == columns.min() // 10


def test_quarter_turns(drawings: Path) -> None:
    corners = {"000 degrees": (0, 0), "090 degrees": (-1, 0), "180 degrees": (-1, -1)}
    corners["270 degrees"] = (0, -1)
    made = pixels_of(drawing_tasks.prepare_task("quarter-turns", drawings))
    assert {label for label, _ in made} == corners.keys()
    for label, pixels in made:
        if (pixels == pixels[0, 0, 0]).all():
            continue  # the grey one
        marked = {corner for corner in corners.values() if (pixels[corner] < 250).any()}
        assert marked == {corners[label]}


@pytest.mark.parametrize("hue", [0, 40, 128, 200])
def test_turned_hues(hue: int) -> None:
    generator, seen = np.random.default_rng(hue), set()
    for _ in range(30):
        made = drawing_tasks.recoloured(drawing(hue), generator)
        assert made is not None
        image, label = made
        angle = int(label.removesuffix(" degrees"))
        found = int(np.asarray(image.convert("HSV"))[0, 0, 0])
        turned = (found - hue - angle * 256 / 360) % 256
        assert min(turned, 256 - turned) <= 3  # of colours in 8 bits
        seen.add(angle)
    assert seen == {0, 60, 120, 180, 240, 300}


def test_no_colour_has_no_hue(drawings: Path) -> None:
    for name in ("hue", "hue-turns"):
        made = pixels_of(drawing_tasks.prepare_task(name, drawings))
        assert len(made) == 52
        assert all((pixels.max(axis=-1) > pixels.min(axis=-1)).any() for _, pixels in made)


@pytest.mark.parametrize(
    ("hue", "label"), [(0, "000"), (250, "000"), (43, "060"), (85, "120"), (213, "300")]
)
def test_the_dominant_hue(hue: int, label: str) -> None:
    found = drawing_tasks.as_it_is(drawing(hue), np.random.default_rng(0))
    assert found is not None
    assert found[1] == f"{label} degrees"


def test_what_is_held_out_stays_so_and_what_is_there_stays(drawings: Path) -> None:
    folder = drawing_tasks.prepare_task("place", drawings)
    assert folder == drawings.with_name("openclipart-place")
    held_out = {path.name for path in folder.glob("val/*/*.png")}
    assert held_out == {f"{index:05}.png" for index in range(12)}
    (folder / "val").rename(folder / "elsewhere")
    assert drawing_tasks.prepare_task("place", drawings) == folder
    assert not (folder / "val").exists()
