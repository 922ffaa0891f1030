"""Image files decoded once, to a memory-mapped file that all processes share."""

import contextlib
import functools
import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

from star_head._whole_files import writing
from star_head.examples.data.image_files import (
    PLAIN,
    Conversion,
    in_processes,
    leave_out,
    read_size,
    try_read,
    unreadable,
    why_unreadable,
)
from star_head.examples.data.image_folder import fingerprint

# Raised whenever the same files would be cached otherwise.
_FORMAT = 2
_PIXELS = "pixels.bin"
_INDEX = "index.npy"

# An image file, the offset of its pixels and their number.
_Item = tuple[Path, int, int]


class CachedImages:
    """Decoded images, read from where :func:`cache_images` wrote them.

    Loader processes map the same file, also those that are not forked: what is pickled is the
    folder's name.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.index = _read_index(folder)
        self._pixels = np.memmap(folder / _PIXELS, np.uint8, "r")

    def __reduce__(self) -> tuple[type["CachedImages"], tuple[Path]]:
        return CachedImages, (self._folder,)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int) -> Image.Image:
        offset, height, width = self.index[index].tolist()
        pixels = self._pixels[offset : offset + 3 * height * width]
        return Image.fromarray(pixels.reshape(height, width, 3))

    def fingerprint(self) -> str:
        """Differs where the images do."""
        return self._folder.name

    def sizes(self, indices: np.ndarray) -> list[tuple[int, int]]:
        """(height, width) of the images."""
        return [(height, width) for _, height, width in self.index[indices].tolist()]


def cache_images(
    paths: Sequence[Path],
    folder: Path,
    *,
    skip_unreadable: bool = False,
    conversion: Conversion = PLAIN,
) -> tuple[CachedImages, np.ndarray]:
    """Decode image files into a folder, or open what was decoded before.

    What is found there is used only for the very same files, by path, size and time of change,
    and the same version of Pillow. It appears whole or not at all; several processes may do this
    at once. Caches of other files or earlier states are left alone: delete them when they are no
    longer wanted.

    Args:
        paths: The image files.
        folder: Where the decoded images go; made if missing.
        skip_unreadable: Leave out images that cannot be read and warn of them.
        conversion: How they become 8-bit RGB images where they are not.

    Returns:
        The images, one for each path, and the indices of those that can be read.

    Raises:
        ValueError: If an image cannot be read, or none with ``skip_unreadable``; if ``folder`` is
            a file; or if files change meanwhile.
        OSError: If the disk has no room.
    """
    folder = folder.expanduser()
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"cache: expected a folder, got the file {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / _digest(paths, conversion)
    reasons = _reasons(place, paths, conversion)
    if reasons is None:
        _build(paths, place, skip_unreadable, conversion)
        reasons = _reasons(place, paths, conversion)
    if reasons is None:
        raise OSError(f"cache: {place} was written and cannot be read back")
    if not skip_unreadable:
        for path, reason in zip(paths, reasons, strict=True):
            if reason is not None:
                raise unreadable(path, reason)
    return CachedImages(place), leave_out(paths, reasons)


def _digest(paths: Sequence[Path], conversion: Conversion) -> str:
    """A name for what is made of these files in this state."""
    images = fingerprint(paths) + conversion.fingerprint()
    return hashlib.sha256(f"{_FORMAT} {PIL.__version__} {images}".encode()).hexdigest()


def _reasons(place: Path, paths: Sequence[Path], conversion: Conversion) -> list[str | None] | None:
    """Why images were left out of a cache; None if there is no whole, current cache."""
    try:
        index = _read_index(place)
        size = (place / _PIXELS).stat().st_size
    except (OSError, ValueError):
        return None
    if index.dtype != np.int64 or index.shape != (len(paths), 3) or (index < 0).any():
        return None
    offsets, heights, widths = index.T
    if size == 0 or (offsets + 3 * heights * widths).max() != size:
        return None
    reasons: list[str | None] = [None] * len(paths)
    for i in np.flatnonzero(heights == 0).tolist():
        reasons[i] = why_unreadable(paths[i], conversion)
        if reasons[i] is None:  # then something else than the file kept it from being read
            return None
    return reasons


def _read_index(place: Path) -> np.ndarray:
    """The rows (offset, height, width), zeros for an image that cannot be read."""
    with open(place / _INDEX, "rb") as file:
        index: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    return index


def _build(
    paths: Sequence[Path], place: Path, skip_unreadable: bool, conversion: Conversion
) -> None:
    """Write a cache to a hidden folder and move it to its place.

    The images lie in the file one behind the other, each where the areas that the headers tell
    leave room for it, so that all processes can write at once.
    """
    areas = np.array(list(in_processes(_area, paths, "Reading headers")), np.int64)
    offsets = np.cumsum(3 * areas) - 3 * areas
    needed, free = 3 * int(areas.sum()), shutil.disk_usage(place.parent).free
    if needed > free:
        raise OSError(
            f"cache: the decoded images need {needed} bytes, and {place.parent} has {free} free"
        )
    # A killed process leaves the hidden folder behind, which nothing takes for a cache.
    with tempfile.TemporaryDirectory(
        dir=place.parent, prefix=".", ignore_cleanup_errors=True
    ) as scratch:
        built = Path(scratch, "images")
        built.mkdir()
        with writing(place), open(built / _PIXELS, "wb") as file:
            file.truncate(needed)
        items = list(zip(paths, offsets.tolist(), areas.tolist(), strict=True))
        index = _decode_all(items, built / _PIXELS, skip_unreadable, conversion)
        with writing(place), open(built / _PIXELS, "r+b") as file:
            file.truncate((index[:, 0] + 3 * index[:, 1] * index[:, 2]).max())
            os.fsync(file.fileno())
        with writing(place), open(built / _INDEX, "wb") as file:
            np.save(file, index, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        if _digest(paths, conversion) != place.name:
            raise ValueError("data_dir: images changed while they were being cached; try again")
        _publish(built, place, paths, conversion)


def _decode_all(
    items: Sequence[_Item], file: Path, skip_unreadable: bool, conversion: Conversion
) -> np.ndarray:
    """Write all images to their places in a file; the index.

    Raises:
        ValueError: If an image cannot be read, or none with ``skip_unreadable``.
    """
    index = np.zeros((len(items), 3), np.int64)
    reasons: list[str | None] = [None] * len(items)
    decode = functools.partial(_decode, file, conversion)
    with contextlib.closing(in_processes(decode, items, "Decoding images")) as results:
        for i, ((path, offset, _), result) in enumerate(zip(items, results, strict=True)):
            if not isinstance(result, str):
                index[i] = offset, *result
            elif skip_unreadable:
                reasons[i] = result
            else:
                raise unreadable(path, result)
    if all(reasons):
        leave_out([path for path, _, _ in items], reasons)
    return index


def _area(path: Path) -> int:
    """Pixels of an image by its header, 0 if that cannot be read."""
    try:
        height, width = read_size(path)
    except ValueError:
        return 0
    return height * width


def _decode(file: Path, conversion: Conversion, item: _Item) -> tuple[int, int] | str:
    """Write an image's pixels to their place in the file; its size, or why it cannot be read."""
    path, offset, area = item
    image = try_read(path, conversion)
    if isinstance(image, str):
        return image
    if image.height * image.width != area:
        return f"its header says {area} pixels, and it has {image.height * image.width}"
    with writing(file), open(file, "r+b") as pixels:
        pixels.seek(offset)
        pixels.write(image.tobytes())
    return image.height, image.width


def _publish(built: Path, place: Path, paths: Sequence[Path], conversion: Conversion) -> None:
    """Move a finished cache to its place, unless another process was there first."""
    if os.path.lexists(place) and _reasons(place, paths, conversion) is None:
        os.replace(place, built.parent / "unusable")
    try:
        os.replace(built, place)
    except OSError:
        if _reasons(place, paths, conversion) is None:
            raise
