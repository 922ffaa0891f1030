"""Reading what users pass as an image: a PIL image of any mode or a uint8 tensor."""

from PIL import Image
from torch import Tensor, uint8


def to_rgb(image: Image.Image | Tensor) -> Image.Image:
    """Make an RGB image of what a data set yields.

    Sixteen-bit grey ("I;16" modes, and "I" with values above 255, which is how some readers give
    it) is scaled to 8 bits, where Pillow's own conversion would clip it to white. Transparency is
    dropped, as torchvision's loaders do.

    Args:
        image: A PIL image of any mode, or a uint8 tensor (C, H, W) of 1 or 3 channels.

    Raises:
        TypeError: If it is neither.
        ValueError: If a tensor has another shape, or a side is shorter than 2 pixels.
    """
    if isinstance(image, Tensor):
        image = _from_tensor(image)
    elif not isinstance(image, Image.Image):
        raise TypeError(
            f"image: expected a PIL image or a uint8 tensor, got {type(image).__name__}"
        )
    check_size(image.height, image.width)
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16") or (image.mode == "I" and image.getextrema()[1] > 255):  # type: ignore[operator]
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if image.mode == "La":
        image = image.convert("LA")  # the only way that Pillow knows
    return image.convert("RGB")


def resize_and_center_crop(
    image: Image.Image, size: int, resample: Image.Resampling
) -> Image.Image:
    """Resize the shorter side to ``size`` pixels and cut out the centre square."""
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


def _from_tensor(image: Tensor) -> Image.Image:
    if image.dtype != uint8:
        raise TypeError(f"image: expected a tensor of torch.uint8, got {image.dtype}")
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ValueError(
            f"image: expected a tensor of shape (1 or 3, H, W), got {tuple(image.shape)}"
        )
    return Image.fromarray(image.expand(3, -1, -1).permute(1, 2, 0).cpu().contiguous().numpy())
