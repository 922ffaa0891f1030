"""Reading what users pass as an image: a PIL image of any mode or a tensor."""

import os
import warnings
from collections.abc import Sequence
from numbers import Integral

from PIL import Image
from torch import Tensor, uint8
from torch.utils.data import get_worker_info

from star_head._checks import describe

from ._pixel_range import (
    PixelRange,
    check_loading,
    has_wide_pixels,
    scale_image,
    scale_tensor,
)

Color = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

# Of images that are longer, only the middle is resized before the centre is cut out.
_LONGEST = 8


def to_rgb(
    image: Image.Image | Tensor,
    pixel_range: PixelRange | None = None,
    background: Color | None = None,
) -> Image.Image:
    """Make an RGB image of what a data set yields.

    Args:
        image: A PIL image of any mode, or a tensor (C, H, W) of 1 or 3 channels.
        pixel_range: The pixel values that become black and white, in images of more than 8 bits
            (modes ``"I"``, ``"I;16"`` and ``"F"``, tensors of other dtypes than uint8); what lies
            outside is cut off. Other images need none.
        background: The colour under transparent pixels. Without it, transparency is dropped,
            as torchvision's loaders do, with one warning.

    Raises:
        TypeError: If it is neither, or a tensor of another dtype comes without ``pixel_range``.
        ValueError: If a tensor has another shape, a side is shorter than 2 pixels, or another
            image of more than 8 bits comes without ``pixel_range``.
    """
    if isinstance(image, Tensor):
        image = _from_tensor(image, pixel_range)
    elif not isinstance(image, Image.Image):
        remedy = ""
        if hasattr(image, "__array__"):
            remedy = "; PIL.Image.fromarray makes one of a uint8 array (H, W, 3)"
        elif isinstance(image, str | os.PathLike):
            remedy = "; PIL.Image.open reads one"
        raise TypeError(
            f"image: expected a PIL image or a uint8 tensor, got {describe(image)}{remedy}"
        )
    check_size(image.height, image.width)
    check_loading(image, pixel_range)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if has_wide_pixels(image):
        image = scale_image(image, pixel_range)
    if image.mode == "La":
        image = image.convert("LA")  # the only way that Pillow knows
    rgb = _without_transparency(image, background).convert("RGB")
    rgb.info.pop("transparency", None)
    return rgb


def resize_and_center_crop(
    image: Image.Image, size: int, resample: Image.Resampling
) -> Image.Image:
    """Resize the shorter side to ``size`` pixels and cut out the centre square."""
    image = cut_long_sides(image)
    short = min(image.size)
    if short != size:
        width, height = (size * side // short for side in image.size)
        image = image.resize((width, height), resample)
    if image.size == (size, size):
        return image
    left, top = (round((side - size) / 2) for side in image.size)
    return image.crop((left, top, left + size, top + size))


def check_size(height: int, width: int) -> None:
    """Raise where an image of this size in pixels leaves nothing to crop from."""
    if min(height, width) < 2:
        raise ValueError(
            f"image: expected sides of at least 2 pixels to crop from, "
            f"got height {height}, width {width}"
        )


def cut_long_sides(image: Image.Image) -> Image.Image:
    """Cut an image that is many times longer than wide down to its middle.

    Its centre square, resized, stays what it was, and the rest is never resized: of 20,000 x 2
    pixels, that would be a picture of 2,240,000 x 224.
    """
    (left, right), (top, bottom) = (
        middle_of_side(side, min(image.size)) for side in (image.width, image.height)
    )
    if (left, top, right, bottom) == (0, 0, image.width, image.height):
        return image
    return image.crop((left, top, right, bottom))


def middle_of_side(side: int, short: int) -> tuple[int, int]:
    """Where the part of a side begins and ends from which a centre square is made."""
    cut = max(0, side - _LONGEST * short) // 2
    return cut, side - cut


def check_background(background: Sequence[int] | None) -> Color | None:
    """Raise a ValueError unless ``background`` is None or a colour of three whole numbers.

    Returns:
        The numbers.
    """
    if background is None:
        return None
    values = tuple(background) if isinstance(background, Sequence) else ()
    whole = [isinstance(value, Integral) and 0 <= value <= 255 for value in values]
    if len(values) != 3 or not all(whole):
        raise ValueError(
            f"background: expected three whole numbers of 0 to 255 for red, green and blue, such "
            f"as (255, 255, 255), got {background!r}"
        )
    red, green, blue = (int(value) for value in values)
    return red, green, blue


def _without_transparency(image: Image.Image, background: Color | None) -> Image.Image:
    if not image.has_transparency_data:
        return image
    rgba = image.convert("RGBA")
    alpha = rgba.getchannel("A")
    if alpha.getextrema()[0] == 255:
        return image
    if background is None:
        _warn_of_transparency()
        return image
    below = Image.new("RGB", image.size, background)
    below.paste(rgba.convert("RGB"), mask=alpha)
    return below


def _warn_of_transparency() -> None:
    """Say it once: of several loader workers, the first one does."""
    worker = get_worker_info()
    if _transparency_was_met or (worker is not None and worker.id > 0):
        return
    _transparency_was_met.append(True)
    warnings.warn(
        "images have transparent pixels; the colours stored under them are shown; "
        "background=(255, 255, 255) puts such images on white instead",
        stacklevel=2,
    )


_transparency_was_met: list[bool] = []


def _from_tensor(image: Tensor, pixel_range: PixelRange | None) -> Image.Image:
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ValueError(
            f"image: expected a tensor of shape (1 or 3, H, W), got {tuple(image.shape)}"
        )
    check_size(*image.shape[1:])
    pixels = image.expand(3, -1, -1).permute(1, 2, 0)
    if image.dtype == uint8:
        return Image.fromarray(pixels.cpu().contiguous().numpy())
    return Image.fromarray(scale_tensor(pixels, pixel_range))
