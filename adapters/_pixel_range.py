"""Images of more than 8 bits, made 8-bit by a range that the user gives and by nothing else."""

import math
import re
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor, float64

PixelRange = tuple[float, float]
"""The pixel values that become black and white."""


class PixelRangeError(ValueError):
    """An image of more than 8 bits a channel came without the range of its pixels."""

    # Of one argument, so that a loader's worker can hand it on.
    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


def _refusal(image: Image.Image, reason: str) -> PixelRangeError:
    return PixelRangeError(f"pixel_range: {_name(image)} {reason}", f"it {reason}")


def check_pixel_range(pixel_range: Sequence[float] | None) -> PixelRange | None:
    """Raise unless ``pixel_range`` is None or two finite numbers, the lower one first.

    Returns:
        The two numbers.
    """
    if pixel_range is None:
        return None
    if not isinstance(pixel_range, Sequence) or isinstance(pixel_range, str):
        raise TypeError(f"pixel_range: expected (low, high), got {pixel_range!r}")
    # Real has NumPy's numbers too, such as an image's own minimum and maximum.
    numbers = [v for v in pixel_range if isinstance(v, Real) and math.isfinite(v)]
    if len(numbers) != 2 or len(pixel_range) != 2 or not numbers[0] < numbers[1]:
        raise ValueError(
            f"pixel_range: expected two finite numbers (low, high), low below high, "
            f"got {pixel_range!r}"
        )
    return float(numbers[0]), float(numbers[1])


def has_wide_pixels(image: Image.Image) -> bool:
    """Whether an image's mode has more than 8 bits a pixel and channel."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def check_loading(image: Image.Image, pixel_range: PixelRange | None) -> None:
    """Raise where loading a file would cut its 16-bit channels to 8 bits other than as wanted.

    Pillow keeps the upper 8 bits of each channel of a colour image, and nothing in what it gives
    says so.

    Raises:
        ValueError: If ``pixel_range`` is anything but that of all 16 bits.
    """
    if pixel_range == (0, 65535) or not _has_deep_channels(image):
        return
    raise _refusal(
        image,
        f"has 16 bits in each channel of mode {image.mode!r}, from 0 to at most 65535, of which "
        f"Pillow reads the upper 8 only; pixel_range=(0, 65535) takes those, and for any other "
        f"range convert the file to 8 bits, got {pixel_range}",
    )


def scale_image(image: Image.Image, pixel_range: PixelRange | None) -> Image.Image:
    """Make an 8-bit grey image of one with wide pixels.

    Raises:
        ValueError: If ``pixel_range`` is None; the error names the file, the mode and the range.
            If a pixel is not a number.
    """
    pixels = np.asarray(image)
    what = f"has mode {image.mode!r}"
    if image.format == "PPM" and image.mode == "I":
        pixel_range = (0, 65535)  # Pillow stretches to it what the file's header says is white
    if pixel_range is None:
        raise _refusal(image, f"{what} and {_range_of(pixels)}")
    return Image.fromarray(_scale(pixels, pixel_range, f"{_name(image)} {what}"))


def scale_tensor(image: Tensor, pixel_range: PixelRange | None) -> np.ndarray:
    """Make uint8 numbers of a tensor of another dtype.

    Raises:
        TypeError: If ``pixel_range`` is None; the error names the dtype and the range. If pixels
            are complex numbers.
        ValueError: If a pixel is not a number.
    """
    if image.is_complex():
        raise TypeError(
            f"image: expected a tensor of real numbers, got {image.dtype}; image.abs() is what "
            f"its magnitude shows"
        )
    pixels = image.detach().cpu().to(float64).numpy()
    if pixel_range is None:
        raise TypeError(
            f"image: expected a tensor of torch.uint8, got {image.dtype} with {_range_of(pixels)}"
        )
    return _scale(pixels, pixel_range, f"the image is a tensor of {image.dtype}")


def _range_of(pixels: np.ndarray) -> str:
    return (
        f"pixels from {pixels.min():g} to {pixels.max():g}, which does not say which values are "
        f"black and white; give them as pixel_range=(low, high), such as (0, 1), (0, 4095) or "
        f"(0, 65535)"
    )


def _scale(pixels: np.ndarray, pixel_range: PixelRange, what: str) -> np.ndarray:
    if np.isnan(pixels).any():
        raise ValueError(f"image: {what} and pixels that are not a number")
    low, high = pixel_range
    levels = (pixels.astype(np.float64) - low) * (255 / (high - low))
    return np.rint(levels.clip(0, 255)).astype(np.uint8)


def _has_deep_channels(image: Image.Image) -> bool:
    """Whether a file's channels have 16 bits and Pillow's, once it is loaded, have 8."""
    if image.mode.startswith("I"):
        return False
    tiles: list[Any] = getattr(image, "tile", None) or []
    # The decoder's arguments: the layout of a pixel in the file, alone or first of several.
    layouts = [tile[3] if isinstance(tile[3], str) else (tile[3] or [""])[0] for tile in tiles]
    # "BGR;16" has 16 bits a pixel.
    return any(isinstance(text, str) and re.search(";16[BLN]", text) for text in layouts)


def _name(image: Image.Image) -> str:
    """The file that an image was opened from, if it still knows it."""
    return str(getattr(image, "filename", "") or "the image")
