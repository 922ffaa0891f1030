"""Images with a class for each pixel: VOC2012, ADE20K, folders of images and masks, drawings."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from star_head.evaluation.labels import draw
from star_head.examples.data.image_files import (
    Conversion,
    leave_out,
    naming,
    read_image,
    reason_of,
)
from star_head.examples.data.image_folder import find_images, folder_that_is_there, subfolders
from star_head.examples.data.splits import Splits, find_splits, is_companion

MaskName = Literal["voc2012", "ade20k", "folder", "drawings"]

IGNORE = 255
# Of data without a test part, one image of so many is held out.
_HELD_OUT = 5
# More opaque than not.
_DRAWN = 128
_ON_WHITE = Conversion(background=(255, 255, 255))
_VOC = "VOCdevkit/VOC2012"
_ADE = "ADEChallengeData2016"


class MaskedFiles(Dataset[tuple[Image.Image, np.ndarray]]):
    """Image files with a mask file of each, read when they are asked for.

    Args:
        images: Paths.
        masks: Paths, of one channel or a palette.
        first: Value of class 0; what is below it has no class.
    """

    def __init__(self, images: Sequence[Path], masks: Sequence[Path], first: int = 0) -> None:
        self.images = list(images)
        self.masks = list(masks)
        self.first = first

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Image.Image, np.ndarray]:
        return read_image(self.images[index]), self.mask(index)

    def mask(self, index: int) -> np.ndarray:
        """The classes of an image's pixels, (H, W), int64; 255 of those without one."""
        mask = read_mask(self.masks[index])
        if not self.first:
            return mask
        return np.where(mask < self.first, IGNORE, mask - self.first)

    def part(self, indices: np.ndarray) -> "MaskedFiles":
        """Some of them."""
        images, masks = ([paths[i] for i in indices] for paths in (self.images, self.masks))
        return MaskedFiles(images, masks, self.first)


class Drawings(Dataset[tuple[Image.Image, np.ndarray]]):
    """Images with transparency, on white, and as mask where something is drawn: 1, else 0.

    Args:
        paths: Paths of the images.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Image.Image, np.ndarray]:
        path = self.paths[index]
        with naming(path), Image.open(path) as image:
            opacity = np.asarray(image.convert("RGBA").getchannel("A"))
        return read_image(path, _ON_WHITE), (opacity >= _DRAWN).astype(np.int64)

    def part(self, indices: np.ndarray) -> "Drawings":
        """Some of them."""
        return Drawings([self.paths[i] for i in indices])


class MaskData(NamedTuple):
    """A data set for segmentation.

    Attributes:
        train: (image, mask) to train on.
        test: (image, mask) to measure on.
        num_classes: Values of masks are below it, but for 255, which is no class.
    """

    train: MaskedFiles | Drawings
    test: MaskedFiles | Drawings
    num_classes: int


def load_masks(name: MaskName, data_dir: Path, max_images: int | None = None) -> MaskData:
    """Load a data set with masks.

    Args:
        name: ``"voc2012"``: VOCdevkit/VOC2012 as published, 21 classes; with the augmented list
            (ImageSets/Segmentation/trainaug.txt or train_aug.txt and SegmentationClassAug) where
            it is there. ``"ade20k"``: ADEChallengeData2016 as published, 150 classes, "other"
            being none. ``"folder"``: a folder of images beside one of masks with the same file
            names, such as images and masks; each with folders train and val or test, or these at
            the top with both in each; else a fifth is held out, the same on every call.
            ``"drawings"``: images with transparency, whose mask is what is drawn; a fifth is held
            out.
        data_dir: The folder in which that lies.
        max_images: Take so many training images only, evenly spread.

    Raises:
        ValueError: If it is not there as expected, a mask is missing, or a folder's masks have
            fewer than two classes.
    """
    if name not in get_args(MaskName):
        raise ValueError(f"dataset: expected one of {get_args(MaskName)}, got {name!r}")
    root = folder_that_is_there(data_dir)
    if name == "voc2012":
        data = _voc(root)
    elif name == "ade20k":
        data = _ade(root)
    elif name == "drawings":
        data = _drawings(root)
    else:
        data = _folder(root)
    if max_images is None or max_images >= len(data.train):
        return data
    if max_images < 1:
        raise ValueError(f"max_images: expected at least 1, got {max_images}")
    kept = np.linspace(0, len(data.train) - 1, max_images).astype(int)
    return data._replace(train=data.train.part(kept))


def read_mask(path: Path) -> np.ndarray:
    """A mask's values as they are in the file, int64 (H, W): of a palette, the indices.

    Raises:
        ValueError: If it cannot be read, or has colours in place of classes.
    """
    with naming(path), Image.open(path) as image:
        image.load()
        values = np.asarray(image)
        bands, mode = image.getbands(), image.mode
    if len(bands) > 1 or mode == "F":
        raise ValueError(
            f"data_dir: expected masks of one channel, whose values are classes, got mode {mode} "
            f"in {path}"
        )
    return values.astype(np.int64)


def _voc(root: Path) -> MaskData:
    place = root / _VOC
    lists = place / "ImageSets/Segmentation"
    augmented = [lists / name for name in ("trainaug.txt", "train_aug.txt")]
    wide = next((path for path in augmented if path.is_file()), None)
    if wide is not None and (place / "SegmentationClassAug").is_dir():
        train = _voc_part(place, wide, "SegmentationClassAug")
    else:
        train = _voc_part(place, lists / "train.txt", "SegmentationClass")
    return MaskData(train, _voc_part(place, lists / "val.txt", "SegmentationClass"), 21)


def _voc_part(place: Path, names: Path, masks: str) -> MaskedFiles:
    if not names.is_file():
        raise ValueError(
            f"data_dir: expected {names}; VOCtrainval_11-May-2012.tar, unpacked, has it"
        )
    # Lines of the augmented list may hold both paths; the image's stem says all.
    stems = [Path(line.split()[0]).stem for line in names.read_text().splitlines() if line.strip()]
    return MaskedFiles(
        _there([place / "JPEGImages" / f"{stem}.jpg" for stem in stems]),
        _there([place / masks / f"{stem}.png" for stem in stems]),
    )


def _ade(root: Path) -> MaskData:
    place = root / _ADE
    parts = []
    for part in ("training", "validation"):
        images = place / "images" / part
        if not images.is_dir():
            raise ValueError(f"data_dir: expected {images}; ADEChallengeData2016.zip has it")
        paths = find_images(images)
        masks = [place / "annotations" / part / f"{path.stem}.png" for path in paths]
        parts.append(MaskedFiles(paths, _there(masks), first=1))
    return MaskData(parts[0], parts[1], 150)


def _drawings(root: Path) -> MaskData:
    images = find_images(root)
    found = [_transparency(path) for path in images]
    reasons = [of if isinstance(of, str) else None for of in found]
    kept = leave_out(images, reasons) if images else ()
    paths = [images[index] for index in kept if found[index]]
    if len(paths) < _HELD_OUT:
        raise ValueError(
            f"data_dir: expected at least {_HELD_OUT} images with transparency in {root}, got "
            f"{len(paths)}"
        )
    train, test = _held_out(len(paths))
    drawings = Drawings(paths)
    return MaskData(drawings.part(train), drawings.part(test), 2)


def _transparency(path: Path) -> bool | str:
    """Whether an image has transparent pixels, or why it cannot be opened."""
    try:
        with naming(path), Image.open(path) as image:
            return image.has_transparency_data
    except ValueError as error:
        return reason_of(path, error.__cause__)


def _folder(root: Path) -> MaskData:
    if splits := find_splits(root):
        parts = [_pairs(root / name, *_both(root / name)) for name in _train_and_test(root, splits)]
    else:
        images, masks = _both(root)
        if splits := find_splits(root / images):
            names = _train_and_test(root / images, splits)
            parts = [_pairs(root, f"{images}/{name}", f"{masks}/{name}") for name in names]
        else:
            whole = _pairs(root, images, masks)
            if len(whole) < _HELD_OUT:
                raise ValueError(
                    f"data_dir: expected at least {_HELD_OUT} images to hold one of five out, got "
                    f"{len(whole)} in {root / images}"
                )
            parts = [whole.part(kept) for kept in _held_out(len(whole))]
    train, test = parts
    values = [np.unique(train.mask(index)) for index in range(len(train))]
    num_classes = 1 + max(
        (int(found[found != IGNORE].max()) for found in values if (found != IGNORE).any()),
        default=0,
    )
    if num_classes < 2:
        raise ValueError(f"data_dir: expected masks of two classes or more in {root}")
    return MaskData(train, test, num_classes)


def _train_and_test(root: Path, splits: Splits) -> tuple[str, str]:
    test = splits.test or splits.validation
    if test is None:
        raise ValueError(f"data_dir: {root} has {splits.train} and nothing to measure on")
    return splits.train, test


def _both(root: Path) -> tuple[str, str]:
    """Names of the folder of images and of that of masks."""
    names = subfolders(root)
    masks = [name for name in names if is_companion(name)]
    images = [name for name in names if not is_companion(name)]
    if len(masks) != 1 or len(images) != 1:
        raise ValueError(
            f"data_dir: expected a folder of images and one of masks, such as images and masks, in "
            f"{root}, got {', '.join(names) or 'no folders'}"
        )
    return images[0], masks[0]


def _pairs(root: Path, images: str, masks: str) -> MaskedFiles:
    for place in (root / images, root / masks):
        if not place.is_dir():
            raise ValueError(f"data_dir: expected the folder {place}")
    paths = find_images(root / images)
    if not paths:
        raise ValueError(f"data_dir: expected images in {root / images}, got none")
    known = {
        path.relative_to(root / masks).with_suffix(""): path for path in find_images(root / masks)
    }
    names = [path.relative_to(root / images).with_suffix("") for path in paths]
    missing = [str(name) for name in names if name not in known]
    if missing:
        raise ValueError(
            f"data_dir: {len(missing)} of {len(paths)} images in {root / images} have no mask of "
            f"the same name in {root / masks}: {', '.join(missing[:5])}"
        )
    return MaskedFiles(paths, [known[name] for name in names])


def _there(paths: list[Path]) -> list[Path]:
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise ValueError(f"data_dir: {len(missing)} files are missing, {missing[0]} for one")
    return paths


def _held_out(count: int) -> tuple[np.ndarray, np.ndarray]:
    one_class = np.zeros(count, np.int64)
    test, train = draw(one_class, np.array([max(1, count // _HELD_OUT)]))
    return train, test
