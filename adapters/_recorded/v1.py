"""torchvision.transforms, the first generation: draws by ``get_params``, here in v2's form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import functional as F

from . import kinds
from .canvas import shape_of
from .operation import Known, Operation
from .v2 import FIXED

Draw = Callable[[Any, Any], Any]


def _maybe(draw: Draw, apply: Callable[[Any, Any, Any], Any], kind: kinds.Kind) -> Operation:
    def sometimes(operation: Any, image: Any) -> Any:
        return draw(operation, image) if torch.rand(1) < operation.p else None

    return Operation(sometimes, apply, probability=lambda operation: operation.p, **kind)


def _flag(apply: Callable[[Any, Any], Any], kind: kinds.Kind) -> Operation:
    return _maybe(lambda op, image: (), lambda op, image, drawn: apply(op, image), kind)


def _fill(operation: Any, image: Any) -> Any:
    """The filling of a warp's outside, one number for each channel of a tensor."""
    if not isinstance(image, Tensor):
        return operation.fill
    if isinstance(operation.fill, int | float):
        return [float(operation.fill)] * shape_of(image)[0]
    return [float(value) for value in operation.fill]


def _draw_jitter(operation: Any, image: Any) -> Any:
    keys = ("fn_idx", "brightness_factor", "contrast_factor", "saturation_factor", "hue_factor")
    drawn = operation.get_params(
        operation.brightness, operation.contrast, operation.saturation, operation.hue
    )
    return dict(zip(keys, drawn, strict=True))


_ADJUST = (
    (F.adjust_brightness, "brightness_factor"),
    (F.adjust_contrast, "contrast_factor"),
    (F.adjust_saturation, "saturation_factor"),
    (F.adjust_hue, "hue_factor"),
)


def _jitter(operation: Any, image: Any, drawn: Any) -> Any:
    for index in drawn["fn_idx"].tolist():
        adjust, key = _ADJUST[index]
        if drawn[key] is not None:
            image = adjust(image, drawn[key])
    return image


def _draw_resized_crop(operation: Any, image: Any) -> Any:
    box = operation.get_params(image, operation.scale, operation.ratio)
    return dict(zip(("top", "left", "height", "width"), box, strict=True))


def _resized_crop(operation: Any, image: Any, drawn: Any) -> Any:
    return F.resized_crop(
        image,
        **drawn,
        size=operation.size,
        interpolation=operation.interpolation,
        antialias=operation.antialias,
    )


def _paddings(operation: Any, height: int, width: int) -> list[list[int]]:
    """What a random crop pads, one after another: left, top, right and bottom of each."""
    paddings = []
    if operation.padding is not None:
        padding = operation.padding
        padding = [padding] if isinstance(padding, int) else list(padding)
        paddings.append((padding * 4)[:4])
        height += paddings[0][1] + paddings[0][3]
        width += paddings[0][0] + paddings[0][2]
    if operation.pad_if_needed:
        missing = operation.size[0] - height, operation.size[1] - width
        paddings += [[missing[1], 0, missing[1], 0]] if missing[1] > 0 else []
        paddings += [[0, missing[0], 0, missing[0]]] if missing[0] > 0 else []
    return paddings


def _draw_crop(operation: Any, image: Any) -> Any:
    _, height, width = shape_of(image)
    padding = [
        sum(side) for side in zip([0] * 4, *_paddings(operation, height, width), strict=True)
    ]
    padded = torch.zeros(()).expand(
        1, height + padding[1] + padding[3], width + padding[0] + padding[2]
    )
    box = operation.get_params(padded, operation.size)
    return dict(zip(("top", "left", "height", "width"), box, strict=True), padding=padding)


def _crop(operation: Any, image: Any, drawn: Any) -> Any:
    for padding in _paddings(operation, *shape_of(image)[1:]):
        image = F.pad(image, padding, operation.fill, operation.padding_mode)
    return F.crop(image, drawn["top"], drawn["left"], drawn["height"], drawn["width"])


def _rotate(operation: Any, image: Any, drawn: Any) -> Any:
    fill = _fill(operation, image)
    return F.rotate(
        image, drawn["angle"], operation.interpolation, operation.expand, operation.center, fill
    )


def _draw_affine(operation: Any, image: Any) -> Any:
    _, height, width = shape_of(image)
    drawn = operation.get_params(
        operation.degrees, operation.translate, operation.scale, operation.shear, [width, height]
    )
    return dict(zip(("angle", "translate", "scale", "shear"), drawn, strict=True))


def _affine(operation: Any, image: Any, drawn: Any) -> Any:
    return F.affine(
        image,
        **drawn,
        interpolation=operation.interpolation,
        fill=_fill(operation, image),
        center=operation.center,
    )


def _draw_perspective(operation: Any, image: Any) -> Any:
    _, height, width = shape_of(image)
    start, end = operation.get_params(width, height, operation.distortion_scale)
    return {"startpoints": start, "endpoints": end}


def _perspective(operation: Any, image: Any, drawn: Any) -> Any:
    fill = _fill(operation, image)
    return F.perspective(image, **drawn, interpolation=operation.interpolation, fill=fill)


def _draw_blur(operation: Any, image: Any) -> Any:
    sigma = operation.get_params(operation.sigma[0], operation.sigma[1])
    return {"sigma": [sigma, sigma]}


def _draw_erasing(operation: Any, image: Any) -> Any:
    value = operation.value
    if isinstance(value, int | float):
        value = [float(value)]
    elif isinstance(value, str):
        value = None
    elif isinstance(value, list | tuple):
        value = [float(v) for v in value]
    if value is not None and len(value) not in (1, shape_of(image)[0]):
        raise ValueError(
            f"RandomErasing: expected a value, or one for each of {shape_of(image)[0]} channels, "
            f"got {value}"
        )
    *box, pixels = operation.get_params(image, operation.scale, operation.ratio, value)
    # After ten attempts that did not fit it gives the image itself.
    return dict(zip("ijhw", box, strict=True), v=None if pixels is image else pixels)


def _erase(operation: Any, image: Any, drawn: Any) -> Any:
    return image if drawn["v"] is None else F.erase(image, **drawn, inplace=operation.inplace)


KNOWN: dict[str, Known] = {
    **FIXED,
    "ColorJitter": Operation(_draw_jitter, _jitter, **kinds.JITTER),
    "GaussianBlur": Operation(
        _draw_blur,
        lambda op, image, drawn: F.gaussian_blur(image, op.kernel_size, drawn["sigma"]),
        **kinds.BLUR,
    ),
    "RandomAdjustSharpness": _flag(
        lambda op, image: F.adjust_sharpness(image, op.sharpness_factor),
        kinds.setting("sharpness", "factor", 1.0, "sharpness_factor"),
    ),
    "RandomAffine": Operation(_draw_affine, _affine, **kinds.AFFINE),
    "RandomAutocontrast": _flag(
        lambda op, image: F.autocontrast(image), kinds.flag("autocontrast")
    ),
    "RandomCrop": Operation(_draw_crop, _crop, **kinds.CROP),
    "RandomEqualize": _flag(lambda op, image: F.equalize(image), kinds.flag("equalize")),
    "RandomErasing": _maybe(_draw_erasing, _erase, kinds.ERASING),
    "RandomGrayscale": _flag(
        lambda op, image: F.rgb_to_grayscale(image, num_output_channels=shape_of(image)[0]),
        kinds.GRAYSCALE,
    ),
    "RandomHorizontalFlip": _flag(lambda op, image: F.hflip(image), kinds.FLIP),
    "RandomInvert": _flag(lambda op, image: F.invert(image), kinds.flag("invert")),
    "RandomPerspective": _maybe(_draw_perspective, _perspective, kinds.PERSPECTIVE),
    "RandomPosterize": _flag(
        lambda op, image: F.posterize(image, op.bits),
        kinds.setting("posterize", "bits", 8.0, "bits"),
    ),
    "RandomResizedCrop": Operation(_draw_resized_crop, _resized_crop, **kinds.RESIZED_CROP),
    "RandomRotation": Operation(
        lambda op, image: {"angle": op.get_params(op.degrees)}, _rotate, **kinds.ROTATION
    ),
    "RandomSolarize": _flag(
        lambda op, image: F.solarize(image, op.threshold), kinds.flag("solarize")
    ),
    "RandomVerticalFlip": _flag(lambda op, image: F.vflip(image), kinds.VERTICAL_FLIP),
}
