"""Torchvision's colour operations on PIL images, as a record says."""

import numpy as np
from PIL import Image

from star_head.augmentation import AugmentationRecord, ColorOperation

_HUE_CIRCLE = [value % 256 for value in range(512)]


def adjust_brightness(image: Image.Image, record: AugmentationRecord) -> Image.Image:
    """Blend with black."""
    if record.brightness == 1:
        return image
    return Image.blend(Image.new("RGB", image.size), image, record.brightness)


def adjust_contrast(image: Image.Image, record: AugmentationRecord) -> Image.Image:
    """Blend with the mean luma, rounded."""
    if record.contrast == 1:
        return image
    mean = int(np.asarray(image.convert("L")).mean() + 0.5)
    return Image.blend(Image.new("RGB", image.size, (mean,) * 3), image, record.contrast)


def adjust_saturation(image: Image.Image, record: AugmentationRecord) -> Image.Image:
    """Blend with the luma."""
    if record.saturation == 1:
        return image
    return Image.blend(image.convert("L").convert("RGB"), image, record.saturation)


def adjust_hue(image: Image.Image, record: AugmentationRecord) -> Image.Image:
    """Turn the hue in steps of 1/255."""
    shift = int(record.hue * 255) % 256
    if shift == 0:
        return image
    hue, saturation, value = image.convert("HSV").split()
    hue = hue.point(_HUE_CIRCLE[shift : shift + 256])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


COLOR_OPERATIONS = {
    ColorOperation.BRIGHTNESS: adjust_brightness,
    ColorOperation.CONTRAST: adjust_contrast,
    ColorOperation.SATURATION: adjust_saturation,
    ColorOperation.HUE: adjust_hue,
}
