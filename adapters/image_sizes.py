"""Heights and widths of images, from a folder or a data set. Needs ``star-head[lightly]``."""

import bisect
import copy
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset

from star_head._checks import check_count, describe

try:
    from PIL import Image
except ImportError as error:
    raise ImportError(
        'star_head.adapters.image_sizes needs Pillow: pip install "star-head[lightly]"'
    ) from error

# Where data sets of files keep their paths: torchvision's folders, then its other data sets.
_PATHS = ("samples", "imgs", "_samples", "_images", "_image_files")


def image_sizes(source: Any, max_count: int = 1000) -> list[tuple[int, int]]:
    """Read (height, width) of a folder's or a data set's images, or of an evenly spread sample.

    Only the headers of image files are read: of a folder and the folders in it, and of data sets
    that name their files, as torchvision's and lightly's do. Sides are as the file has them: images
    that EXIF wants turned are not turned, as torchvision's and lightly's loaders don't. Data sets
    of arrays give their shape; of others, items are asked for, with the data set's transform
    left out. ``estimate_statistics`` calls this.

    Args:
        source: A folder, a map-style data set whose items are images or begin with one, or a
            loader of it.
        max_count: Number of images that are looked at.

    Raises:
        TypeError: If ``source`` is neither, or its items hold no image.
        ValueError: If there is no image in it, or no header can be read.

    Example:
        >>> from torch.utils.data import TensorDataset
        >>> import torch
        >>> image_sizes(TensorDataset(torch.zeros(2, 3, 48, 64)))
        [(48, 64), (48, 64)]
    """
    check_count("max_count", max_count)
    if isinstance(source, str | os.PathLike):
        folder = Path(source).expanduser()
        if not folder.is_dir():
            raise ValueError(f"image_sizes: {folder} is no folder")
        known = Image.registered_extensions()
        source = sorted(path for path in folder.rglob("*") if path.suffix.lower() in known)
        if not source:
            raise ValueError(f"image_sizes: there is no image in {folder}")
    elif not isinstance(source, type) and callable(getattr(source, "image_sizes", None)):
        return list(source.image_sizes())
    elif not _is_map_style(source):
        source = getattr(source, "dataset", source)  # a loader's
    if isinstance(source, type) or not _is_map_style(source):
        raise TypeError(
            f"image_sizes: expected a folder or a map-style data set of images, got "
            f"{describe(source)}"
        )
    if not len(source):
        raise ValueError("image_sizes: expected at least one image, got an empty data set")
    sample = np.linspace(0, len(source) - 1, min(max_count, len(source))).astype(int)
    sizes: list[tuple[int, int]] = []
    unreadable: list[str] = []
    for index in sample.tolist():
        found = _size(source, index)
        if isinstance(found, str):
            unreadable.append(found)
        else:
            sizes.append(found)
    if not sizes:
        raise ValueError(f"image_sizes: none of {len(sample)} images can be read: {unreadable[0]}")
    if unreadable:
        warnings.warn(
            f"image_sizes: {len(unreadable)} of {len(sample)} images are left out, whose header "
            f"cannot be read; the first is {unreadable[0]}",
            stacklevel=2,
        )
    return sizes


def _is_map_style(source: Any) -> bool:
    return hasattr(source, "__getitem__") and hasattr(source, "__len__")


def _size(data_set: Any, index: int) -> Any:
    """(height, width) of one image, or why its file cannot be read."""
    if isinstance(data_set, Subset):
        return _size(data_set.dataset, int(data_set.indices[index]))
    if isinstance(data_set, ConcatDataset):
        ends = data_set.cumulative_sizes
        part = bisect.bisect_right(ends, index)
        return _size(data_set.datasets[part], index - (ends[part - 1] if part else 0))
    within = getattr(data_set, "dataset", None)
    if within is not None and len(within) == len(data_set):  # LightlyDataset is one around another
        return _size(within, index)
    for name in _PATHS:
        kept = getattr(data_set, name, None)
        if isinstance(kept, Sequence) and len(kept) == len(data_set):
            entry = kept[index]
            path = entry[0] if isinstance(entry, tuple | list) else entry
            if isinstance(path, str | os.PathLike):
                return _size_of_file(path)
    if not isinstance(data_set, list):
        data_set = _without_transform(data_set)
    return _size_of_item(data_set[index])


def _without_transform(data_set: Any) -> Any:
    """A data set that shares the other's files and arrays and gives its images as they are."""
    given = [name for name in ("transform", "transforms") if getattr(data_set, name, None)]
    if given:
        data_set = copy.copy(data_set)
        for name in given:
            setattr(data_set, name, None)
    return data_set


def _size_of_item(item: Any) -> Any:
    if isinstance(item, str | os.PathLike):
        return _size_of_file(item)
    if hasattr(item, "color_orders"):  # RecordedImages: the image is there as it was
        item = item.images
    images = _images(item)
    if isinstance(item, tuple | list) and len(item) and not hasattr(item, "params"):
        return _size_of_item(item[0])
    if isinstance(item, Mapping):
        images = [size for part in item.values() for size in _images(part)]
    if len(images) != 1:
        raise TypeError(
            f"image_sizes: expected a data set whose items are images or begin with one, without "
            f"its transform, got items like {describe(item)}; or give (height, width) pairs"
        )
    return images[0]


def _images(part: Any) -> list[tuple[int, int]]:
    """The size of what is an image: PIL, or an array of one or three channels, first or last."""
    if isinstance(part, Image.Image):
        return [(part.height, part.width)]
    if not isinstance(part, Tensor | np.ndarray):
        return []
    shape = tuple(part.shape)
    if len(shape) == 2:
        return [shape]
    if len(shape) != 3 or (shape[0] in (1, 3)) == (shape[2] in (1, 3)):
        return []
    return [shape[1:] if shape[0] in (1, 3) else shape[:2]]


def _size_of_file(path: str | os.PathLike[str]) -> tuple[int, int] | str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # nothing is decoded
            with Image.open(path) as image:
                return image.height, image.width
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        return f"{os.fspath(path)}: {error}"
