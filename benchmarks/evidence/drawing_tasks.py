"""Tasks whose labels follow from how a drawing was placed, turned and coloured.

    python -m benchmarks.evidence.drawing_tasks --folder data

Invariance to augmentations is known to hurt where labels are what the augmentations change. Each
task is a folder of images made from those of openclipart, training images from training images
only, an image for each drawing, its label drawn by a fixed seed. ``place``: a copy of a third of
the side, in one of nine places on white. ``quarter-turns``: turned by one of four angles.
``hue-turns``: the hue turned by one of six angles; drawings without colour are left out.
``hue``: the drawing as it is, its dominant hue, of six; that of a drawing is the sixth of the
circle which holds most of its saturation.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import Image

from benchmarks.evidence.data_sets import prepare
from star_head.examples.command_line import run
from star_head.examples.data.image_folder import find_images

TaskName = Literal["place", "quarter-turns", "hue-turns", "hue"]

_HUES = 6
# Mean saturation, of 255, below which a drawing has no colour to speak of.
_LEAST_SATURATION = 12


def main(folder: Path = Path("data")) -> None:
    """Write all tasks beside openclipart's folder, which is written first.

    Args:
        folder: Where the data sets' folders go.
    """
    drawings = prepare("openclipart", folder)
    for name in get_args(TaskName):
        print(prepare_task(name, drawings))


def prepare_task(name: TaskName, drawings: Path) -> Path:
    """Write train/LABEL/*.png and val/LABEL/*.png of a task, unless they are there.

    Args:
        name: Name of the task.
        drawings: The folder of drawings, with ``train`` and ``val``.

    Returns:
        The task's folder, ``openclipart-NAME`` beside that of the drawings.
    """
    place = drawings.with_name(f"openclipart-{name}")
    if place.is_dir():
        return place
    scratch = place.with_name(f".{place.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    generator = np.random.default_rng(0)
    for part in ("train", "val"):
        for index, path in enumerate(sorted(find_images(drawings / part))):
            with Image.open(path) as drawing:
                made = _MAKERS[name](drawing.convert("RGB"), generator)
            if made is not None:
                image, label = made
                target = scratch / part / label / f"{index:05}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                image.save(target)
    scratch.rename(place)
    return place


def placed(image: Image.Image, generator: np.random.Generator) -> tuple[Image.Image, str]:
    """A small copy in one of nine places."""
    row, column = divmod(int(generator.integers(9)), 3)
    side = image.width // 3
    canvas = Image.new("RGB", (3 * side, 3 * side), "white")
    canvas.paste(image.resize((side, side), Image.Resampling.LANCZOS), (column * side, row * side))
    return canvas, f"row {row}, column {column}"


def turned(image: Image.Image, generator: np.random.Generator) -> tuple[Image.Image, str]:
    """Turned by quarters, counter-clockwise."""
    quarters = int(generator.integers(4))
    return image.rotate(90 * quarters), f"{90 * quarters:03} degrees"


def recoloured(
    image: Image.Image, generator: np.random.Generator
) -> tuple[Image.Image, str] | None:
    """The hue turned by a multiple of a sixth of the circle; ``None`` without colour."""
    turns = int(generator.integers(_HUES))
    hsv = np.array(image.convert("HSV"))
    if hsv[..., 1].mean() < _LEAST_SATURATION:
        return None
    # Of 256 steps: what a sixth of the circle is short of a whole one is rounded.
    hsv[..., 0] += np.uint8(round(256 * turns / _HUES))
    return Image.fromarray(hsv, "HSV").convert("RGB"), f"{360 // _HUES * turns:03} degrees"


def as_it_is(image: Image.Image, _: np.random.Generator) -> tuple[Image.Image, str] | None:
    """The dominant hue, the first sixth about red; ``None`` without colour."""
    hue, saturation, _ = np.moveaxis(np.asarray(image.convert("HSV"), np.int64), -1, 0)
    if saturation.mean() < _LEAST_SATURATION:
        return None
    sixth = np.round(hue * _HUES / 256).astype(np.int64) % _HUES
    weight = np.bincount(sixth.ravel(), saturation.ravel(), _HUES)
    return image, f"{360 // _HUES * int(weight.argmax()):03} degrees"


_Maker = Callable[[Image.Image, np.random.Generator], tuple[Image.Image, str] | None]
_MAKERS: dict[TaskName, _Maker] = {
    "place": placed,
    "quarter-turns": turned,
    "hue-turns": recoloured,
    "hue": as_it_is,
}

if __name__ == "__main__":
    run(main)
