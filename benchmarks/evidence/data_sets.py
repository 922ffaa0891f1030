"""Real data sets as folders of images: two from packages of Debian, two fetched.

``fashion-mnist``: the first images of Zalando's Fashion-MNIST, 28 pixels, grey; of the package
dataset-fashion-mnist. ``openclipart``: drawings in colour, of the package openclipart-png, each
set on white and fitted into a square of 48 pixels; of its 22 folders those are taken as classes
that hold enough drawings. Files of more than a megapixel, one in fifty, are left out.
``openclipart-masks``: the same drawings at 96 pixels, with a mask of what is drawn, for
segmentation. ``cifar10`` and ``stl10``: their first labelled images, which torchvision fetches.

    python -m benchmarks.evidence.data_sets    # into data/: the first two
    python -m benchmarks.evidence.data_sets --names '[openclipart-masks]'
"""

import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageOps

from star_head.examples.command_line import run
from star_head.examples.data.image_data import DatasetName, load_images
from star_head.examples.data.image_folder import find_images, subfolders

FetchedName = Literal["cifar10", "stl10"]
DataName = Literal["fashion-mnist", "openclipart", "openclipart-masks", FetchedName]
OFFLINE: tuple[DataName, ...] = ("fashion-mnist", "openclipart")

_SOURCES: dict[DataName, Path] = {
    "fashion-mnist": Path("/usr/share/datasets/fashion-mnist"),
    "openclipart": Path("/usr/share/openclipart/png"),
    "openclipart-masks": Path("/usr/share/openclipart/png"),
}
_FIRST_IMAGES = {"train": 5000, "val": 2000}
_DRAWING_SIDE, _MASKED_SIDE = 48, 96
# More opaque than not.
_DRAWN = 128
# Of a class: fewer are not taken, and of more an evenly spread part.
_LEAST_DRAWINGS, _MOST_DRAWINGS = 300, 600
_MOST_PIXELS = 1_000_000


def main(names: tuple[DataName, ...] = OFFLINE, folder: Path = Path("data")) -> None:
    """Write data sets as folders of images, unless they are there.

    Args:
        names: Which.
        folder: Where their folders go.
    """
    for name in names:
        print(prepare(name, folder))


def prepare(name: DataName, folder: Path, source: Path | None = None) -> Path:
    """Write train/CLASS/*.png and val/CLASS/*.png, unless they are there.

    Of ``openclipart-masks``, images/train/*.png, masks/train/*.png, and both for val.

    Args:
        name: Name of the data set.
        folder: Where its folder goes.
        source: Where the files are, if elsewhere than Debian puts them or than they are fetched to,
            ``folder/downloads``.

    Returns:
        The data set's folder.

    Raises:
        ValueError: If the files are not there.
    """
    place = folder / name
    if place.is_dir():
        return place
    if source is None:
        source = _SOURCES.get(name, folder / "downloads")
    if name in get_args(FetchedName):
        source.mkdir(parents=True, exist_ok=True)
    if not source.is_dir():
        raise ValueError(
            f"source: expected a folder with {name}, got {source}; on Debian, "
            f"apt-get install dataset-fashion-mnist openclipart-png"
        )
    scratch = place.with_name(f".{name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    if name == "openclipart":
        for part, label, file, path in _drawings(source):
            _save(on_white(path, _DRAWING_SIDE), scratch / part / label / file)
    elif name == "openclipart-masks":
        for part, label, file, path in _drawings(source):
            image, mask = with_mask(path, _MASKED_SIDE)
            _save(image, scratch / "images" / part / f"{label}_{file}")
            _save(mask, scratch / "masks" / part / f"{label}_{file}")
    else:
        _write_first(name, source, scratch)
    scratch.rename(place)
    return place


def _write_first(name: DatasetName, source: Path, folder: Path) -> None:
    splits = load_images(name, source)
    for part, images in (("train", splits.train), ("val", splits.test)):
        assert images is not None
        for index in range(min(_FIRST_IMAGES[part], len(images))):
            image, label = images[index]
            _save(image, folder / part / str(label) / f"{index:05}.png")


def _drawings(source: Path) -> Iterator[tuple[str, str, str, Path]]:
    """Part, class, name to be and path of each drawing; every fifth of a class is held out."""
    for label in subfolders(source):
        paths = [path for path in find_images(source / label) if _is_moderate(path)]
        if len(paths) < _LEAST_DRAWINGS:
            continue
        count = min(len(paths), _MOST_DRAWINGS)
        for index, which in enumerate(np.linspace(0, len(paths) - 1, count).astype(int)):
            yield "val" if index % 5 == 0 else "train", label, f"{index:05}.png", paths[which]


def on_white(path: Path, side: int) -> Image.Image:
    """A drawing on white, in a square; dropping its transparency would show hidden colours."""
    return _on_white(_read(path), side)


def with_mask(path: Path, side: int) -> tuple[Image.Image, Image.Image]:
    """A drawing on white, in a square, and where something is drawn: 1, else 0."""
    drawing = _read(path)
    opacity = ImageOps.pad(drawing.getchannel("A"), (side, side), color=0)
    drawn = (np.asarray(opacity) >= _DRAWN).astype(np.uint8)
    return _on_white(drawing, side), Image.fromarray(drawn)


def _read(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGBA")


def _on_white(drawing: Image.Image, side: int) -> Image.Image:
    white = Image.new("RGBA", drawing.size, "white")
    rgb = Image.alpha_composite(white, drawing).convert("RGB")
    return ImageOps.pad(rgb, (side, side), color="white")


def _is_moderate(path: Path) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path) as image:
                return image.width * image.height <= _MOST_PIXELS
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            return False


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


if __name__ == "__main__":
    run(main)
