"""Image files read as RGB, and leaving out those that cannot be read."""

import contextlib
import functools
import os
import struct
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from star_head._processors import available_processors
from star_head.adapters._images import Color, check_size, to_rgb
from star_head.adapters._pixel_range import PixelRange, PixelRangeError, check_loading
from star_head.examples.data.image_folder import fingerprint

Item = TypeVar("Item")
Result = TypeVar("Result")

# The orientations of EXIF that swap height and width.
_SIDEWAYS = (5, 6, 7, 8)


class Conversion(NamedTuple):
    """How files become 8-bit RGB images where they are not: see ``adapters.lightly``.

    Attributes:
        pixel_range: The pixel values that become black and white, where a file has more than 8
            bits; such a file is an error without.
        background: The colour under transparent pixels; default: those that are stored there.
    """

    pixel_range: PixelRange | None = None
    background: Color | None = None

    def fingerprint(self) -> str:
        """Differs where images would; empty where nothing is said."""
        return "" if self == Conversion() else repr(tuple(self))


PLAIN = Conversion()


class _WithPillowsLimit:
    """Takes Pillow's limit of pixels, as the user set it, to processes that are not forked."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "limit": Image.MAX_IMAGE_PIXELS}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Image.MAX_IMAGE_PIXELS = state.pop("limit")
        self.__dict__.update(state)


class ImageFiles(_WithPillowsLimit):
    """Image files, read when they are asked for."""

    def __init__(self, paths: Sequence[Path], conversion: Conversion = PLAIN) -> None:
        self.conversion = conversion
        # One array of bytes: loader processes share it as it is, which they would not the
        # reference counts of a million strings.
        self._paths = np.array([os.fsencode(path) for path in paths])
        self._fingerprint: str | None = None

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Image.Image:
        return read_image(self._path(index), self.conversion)

    def fingerprint(self) -> str:
        """Differs where the files or what is made of them do; the files' state when first asked."""
        if self._fingerprint is None:  # seconds, of a million files
            files = fingerprint([self._path(index) for index in range(len(self))])
            self._fingerprint = files + self.conversion.fingerprint()
        return self._fingerprint

    def sizes(self, indices: np.ndarray) -> list[tuple[int, int]]:
        """(height, width) from the headers, but of files whose header cannot be read."""
        found = []
        for index in indices:
            with contextlib.suppress(ValueError):
                found.append(read_size(self._path(index)))
        return found

    def _path(self, index: int) -> Path:
        return Path(os.fsdecode(self._paths[index]))


def read_image(path: Path, conversion: Conversion = PLAIN) -> Image.Image:
    """Read an image file as RGB, upright.

    Raises:
        ValueError: If it cannot be read whole; the error names the file and says why.
    """
    with naming(path), Image.open(path) as image:
        check_loading(image, conversion.pixel_range)
        image.load()
        orientation = _orientation(image)
        rgb = to_rgb(image, *conversion)
        # Of the metadata the orientation alone: the rest may be broken beside good pixels.
        rgb.info.clear()
        rgb.getexif()[ExifTags.Base.Orientation] = orientation
        ImageOps.exif_transpose(rgb, in_place=True)
        return rgb


def read_size(path: Path) -> tuple[int, int]:
    """(height, width) that :func:`read_image` gives, from the file's header.

    Raises:
        ValueError: If the header cannot be read.
    """
    with naming(path), Image.open(path) as image:
        if image.format == "PNG" and _has_metadata_behind_pixels(path):
            image.load()
        # Of TIFF files, Pillow gives the upright size itself.
        sideways = image.format != "TIFF" and _orientation(image) in _SIDEWAYS
        height, width = image.size if sideways else image.size[::-1]
        check_size(height, width)
        return height, width


def try_read(path: Path, conversion: Conversion = PLAIN) -> Image.Image | str:
    """What :func:`read_image` gives, or why the file cannot be read."""
    try:
        return read_image(path, conversion)
    except ValueError as error:
        return reason_of(path, error.__cause__)


def why_unreadable(path: Path, conversion: Conversion = PLAIN) -> str | None:
    """Why an image file cannot be read, or None if it can."""
    result = try_read(path, conversion)
    return result if isinstance(result, str) else None


class Remediable(str):
    """Why an image file cannot be read, with what to do about it: the file itself is whole."""


def unreadable(path: Path, reason: str) -> ValueError:
    """The error that says that an image file cannot be read."""
    remedy = "" if isinstance(reason, Remediable) else "; restore the file"
    return ValueError(
        f"data_dir: {path} cannot be read: {reason}{remedy}, or, in a new pretraining, "
        f"leave such images out by skip_unreadable"
    )


def readable(paths: Sequence[Path], conversion: Conversion = PLAIN) -> np.ndarray:
    """Indices of the image files that can be read; all are decoded, in several processes.

    Warns of those that cannot.

    Raises:
        ValueError: If none can.
    """
    why = functools.partial(why_unreadable, conversion=conversion)
    return leave_out(paths, list(in_processes(why, paths, "Checking images")))


def leave_out(paths: Sequence[Path], reasons: Sequence[str | None]) -> np.ndarray:
    """Indices of the paths that no reason speaks against; warns of the others.

    Raises:
        ValueError: If there is a reason against every path.
    """
    bad = [
        f"{path} ({reason})"
        for path, reason in zip(paths, reasons, strict=True)
        if reason is not None
    ]
    shown = ", ".join(bad[:5]) + (", ..." if len(bad) > 5 else "")
    if len(bad) == len(paths):
        raise ValueError(f"data_dir: none of {len(paths)} images can be read: {shown}")
    if bad:
        warnings.warn(
            f"{len(bad)} of {len(paths)} images cannot be read and are left out: {shown}",
            stacklevel=2,
        )
    return np.flatnonzero([reason is None for reason in reasons])


def in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], description: str
) -> Generator[Result]:
    """Yield a function's results in order, computed by as many processes as are worth their start.

    A progress bar appears where it takes long.
    """
    # Not concurrent.futures' pool: its processes outlive a program that is killed, and wait for
    # ever, where a loader's look whether it is still there. It also sends each of them the items.
    loader = DataLoader(
        _Mapped(function, items),
        batch_size=16,
        num_workers=min(16, available_processors(), len(items) // 64),
        collate_fn=list,
        # Its own, so that the loader leaves the caller's random numbers alone.
        generator=torch.Generator(),
    )
    with tqdm(total=len(items), desc=description, unit="img", delay=2, mininterval=1) as progress:
        for batch in loader:
            yield from batch
            progress.update(len(batch))


class _Mapped(_WithPillowsLimit, Dataset[Result], Generic[Item, Result]):
    """A function's results as a data set."""

    def __init__(self, function: Callable[[Item], Result], items: Sequence[Item]) -> None:
        self.function = function
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Result:
        return self.function(self.items[index])


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn what goes wrong in reading a file into an error that names it."""
    try:
        yield
    except Exception as error:  # on broken files, Pillow's readers raise almost anything
        raise unreadable(path, reason_of(path, error)) from error


def reason_of(path: Path, error: BaseException | None) -> str:
    """Why a file cannot be read, in words, from what its reader raised."""
    if isinstance(error, PixelRangeError):
        return Remediable(error.reason)
    if isinstance(error, Image.DecompressionBombError):
        return Remediable(
            f"it has more pixels than Pillow takes from files that may be made to fill the memory "
            f"({str(error).partition(',')[0]}); where you trust it, raise the limit, "
            f"PIL.Image.MAX_IMAGE_PIXELS, of which Pillow takes the double, now "
            f"{Image.MAX_IMAGE_PIXELS} (docs/pretraining.md says how for a script), or make the "
            f"image smaller"
        )
    if isinstance(error, UnidentifiedImageError):
        empty = path.stat().st_size == 0
        return "the file is empty" if empty else "its content is no image that Pillow knows"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).rstrip(".") or type(error).__name__


def _orientation(image: Image.Image) -> int:
    try:
        # The base class's, since PngImageFile's own decodes the image first.
        orientation: int = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except Exception:  # broken metadata beside good pixels; what is raised depends on the break
        return 1
    return orientation


def _has_metadata_behind_pixels(path: Path) -> bool:
    """Whether a PNG file has chunks that may hold an orientation where opening it reads none."""
    with open(path, "rb") as file:
        file.seek(8)
        behind = False
        while len(header := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", header)
            if kind == b"IDAT":
                behind = True
            elif behind and kind in (b"eXIf", b"iTXt", b"zTXt"):
                return True
            file.seek(length + 4, os.SEEK_CUR)
    return False
