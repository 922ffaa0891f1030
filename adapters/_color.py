"""Pillow's colour operations on batches, each image with a parameter and an order of its own.

The operations take float images (B, 3, H, W) that hold whole numbers in [0, 255], which they may
overwrite, and a parameter (B, 1, 1, 1) for each. The result is Pillow's before it is cut to
[0, 255] and the fraction dropped.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from star_head._devices import to_device
from star_head.augmentation import ColorOperation


def luma(images: Tensor) -> Tensor:
    """ITU-R 601-2 luma, rounded: (B, 1, H, W)."""
    red, green, blue = torch.split(images, 1, dim=1)
    # Pillow's weights in 1/65536; float32 holds every sum exactly.
    weighted = (red * 19595).add_(green, alpha=38470).add_(blue, alpha=7471)
    return weighted.add_(32768).div_(65536).floor_()


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with black."""
    return images.mul_(factor)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the mean luma, rounded."""
    return _blend(images, luma(images).mean((1, 2, 3), keepdim=True).add_(0.5).floor_(), factor)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the luma."""
    return _blend(images, luma(images), factor)


def hue_steps(hue: Tensor) -> Tensor:
    """Turns as the steps by which Pillow shifts a hue: whole numbers in [0, 255]."""
    return (hue * 255).trunc().remainder(256)


def adjust_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue by ``shift`` steps, of which Pillow counts 256 though a turn has 255.

    To HSV and back. With the value v = max(R, G, B), the chroma c = v - min(R, G, B) and the
    distances r, g, b = (v - R) / c, ... of the channels from the value, in chromas, the hue is,
    in sixths of a turn from red,

        b - g where R is largest,   2 + r - b where G is,   4 + g - r where B is,

    and the saturation is c / v. Back, the channel whose own hue is k = 0, 2 or 4 sixths is

        v - c min(max(2 - | |hue - k| - 3 |, 0), 1),

    v within a sixth of its own hue and v - c within a sixth of the opposite one.
    """
    red, green, blue = torch.split(images, 1, dim=1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    # Each step rounds as Pillow's does, and hue and saturation are cut to whole 255ths: the last
    # bit could become a step of hue. Without chroma, red is largest and the hue is 0.
    r, g, b = torch.split(value.sub(images).div_(chroma.clamp(min=1)), 1, dim=1)
    sixths = torch.where(
        red == value, b - g, torch.where(green == value, (r - b).add_(2), (g - r).add_(4))
    )
    hue = sixths.div_(6).remainder_(1).mul_(255).floor_().add_(shift).remainder_(256)
    saturation = chroma.mul_(255).div_(value.clamp(min=1)).floor_()
    own = torch.arange(0, 6, 2, device=images.device).view(3, 1, 1)
    below = (hue.mul_(6 / 255) - own).abs_().sub_(3).abs_().sub_(2).clamp_(-1, 0)
    return torch.addcmul(value, below, saturation.mul_(value).div_(255)).add_(0.5)


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return images.sub_(other).mul_(factor).add_(other)


COLOR_OPERATIONS: dict[ColorOperation, Callable[[Tensor, Tensor], Tensor]] = {
    ColorOperation.BRIGHTNESS: adjust_brightness,
    ColorOperation.CONTRAST: adjust_contrast,
    ColorOperation.SATURATION: adjust_saturation,
    ColorOperation.HUE: adjust_hue,
}
# Of brightness, contrast, saturation, hue, grayscale, blur: what changes nothing.
_NEUTRAL = (1.0, 1.0, 1.0, 0.0, 0.0, 0.0)


def schedule(values: Tensor, color_order: Tensor, device: torch.device) -> Sequence[Tensor]:
    """Which images each operation changes, planned on the CPU: no GPU is waited for.

    Args:
        values: Factors of brightness, contrast and saturation, hue, grayscale and blur, (B, 6).
        color_order: The order of the first four for each image, (B, 4).
        device: Where the result goes.

    Returns:
        Indices of images: the four colour operations at the first turn, at the second, third and
        fourth; grayscale; blur. 18 tensors.
    """
    last = torch.tensor([4, 5]).expand(len(values), 2)
    operations = torch.cat([color_order, last], dim=1)
    places = operations + torch.tensor([0, 4, 8, 12, 12, 12])
    changes = (values != torch.tensor(_NEUTRAL)).gather(1, operations)
    places = places.masked_fill(~changes, 18).flatten()
    images = to_device(places.argsort(stable=True) // operations.shape[1], device)
    return torch.split(images, places.bincount(minlength=19).tolist())[:18]
