"""torchvision.transforms.v2: draws by ``make_params``, applies by ``transform``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import PIL.Image
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.functional import _get_perspective_coeffs

from . import kinds
from .canvas import Canvas, shape_of
from .operation import Fixed, Known, Operation


def _make(operation: v2.Transform, image: Any) -> Any:
    return operation.make_params([image])


def _sometimes(operation: Any, image: Any) -> Any:
    return operation.make_params([image]) if torch.rand(1) < operation.p else None


def _perspective(operation: Any, image: Any) -> Any:
    """As ``make_params`` draws, which keeps the warp's coefficients and not the corners."""
    if not torch.rand(1) < operation.p:
        return None
    _, height, width = shape_of(image)
    start, end = operation.get_params(width, height, operation.distortion_scale)
    return {"startpoints": start, "endpoints": end}


def _warp(operation: Any, image: Any, drawn: Any) -> Any:
    return operation.transform(image, {"coefficients": _get_perspective_coeffs(**drawn)})


def _transform(operation: v2.Transform, image: Any, drawn: Any) -> Any:
    return operation.transform(image, drawn)


def _jitter(operation: Any, image: Any) -> Any:
    drawn = operation.make_params([image])
    # transform compares each with numbers, which takes tensors many times as long.
    return {**drawn, "fn_idx": drawn["fn_idx"].tolist()}


# Calling an operation looks for images among its arguments, which takes longer than some of them.


def _of_tensor(operation: v2.Transform, image: Any) -> Any:
    return operation.transform(image, {}) if isinstance(image, Tensor) else operation(image)


def _to_image(operation: v2.Transform, image: Any) -> Any:
    if isinstance(image, PIL.Image.Image) or type(image) is Tensor:
        return operation.transform(image, {})
    return operation(image)


def _always(kind: kinds.Kind) -> Operation:
    return Operation(_make, _transform, **kind)


def _maybe(kind: kinds.Kind) -> Operation:
    return Operation(_sometimes, _transform, probability=lambda operation: operation.p, **kind)


def _pad(operation: Any, canvas: Canvas) -> Canvas:
    padding = operation.padding
    padding = [padding] if isinstance(padding, int) else list(padding)
    left, top, *others = padding * (2 if len(padding) == 1 else 1)
    right, bottom = others or (left, top)
    return canvas.padded(left, top, right, bottom)


def _resize(operation: Any, canvas: Canvas) -> Canvas:
    size = [operation.size] if isinstance(operation.size, int) else operation.size
    return canvas.resized(*kinds.resized_size(canvas, size, operation.max_size))


def _fixed_size(operation: Any) -> tuple[int, int] | None:
    size = operation.size
    return tuple(size) if isinstance(size, list | tuple) and len(size) == 2 else None


# Of both generations, by the class's name.
FIXED: dict[str, Fixed] = {
    "CenterCrop": Fixed(
        "center crop", lambda op, canvas: canvas.centered(*op.size), lambda op: tuple(op.size)
    ),
    "ConvertImageDtype": Fixed(None),
    "Grayscale": Fixed(
        "grayscale", lambda op, canvas: canvas._replace(channels=op.num_output_channels)
    ),
    "Identity": Fixed(None),
    "LinearTransformation": Fixed("linear transformation"),
    "Normalize": Fixed("normalize"),
    "PILToTensor": Fixed(None, lambda op, canvas: canvas._replace(pil=False)),
    "Pad": Fixed("pad", _pad),
    "RGB": Fixed("RGB", lambda op, canvas: canvas._replace(channels=3)),
    "Resize": Fixed("resize", _resize, _fixed_size),
    "ToDtype": Fixed(None),
    "ToImage": Fixed(None, lambda op, canvas: canvas._replace(pil=False)),
    "ToPILImage": Fixed(None, lambda op, canvas: canvas._replace(pil=True)),
    "ToPureTensor": Fixed(None),
    "ToTensor": Fixed(None, lambda op, canvas: canvas._replace(pil=False)),
}

KNOWN: dict[str, Known] = {
    **FIXED,
    "Normalize": replace(FIXED["Normalize"], apply=_of_tensor),
    "ToDtype": replace(FIXED["ToDtype"], apply=_of_tensor),
    "ToImage": replace(FIXED["ToImage"], apply=_to_image),
    "ColorJitter": Operation(_jitter, _transform, **kinds.JITTER),
    "GaussianBlur": _always(kinds.BLUR),
    "JPEG": _always(kinds.JPEG),
    "RandomAdjustSharpness": _maybe(kinds.setting("sharpness", "factor", 1.0, "sharpness_factor")),
    "RandomAffine": _always(kinds.AFFINE),
    "RandomAutocontrast": _maybe(kinds.flag("autocontrast")),
    "RandomCrop": _always(kinds.CROP),
    "RandomEqualize": _maybe(kinds.flag("equalize")),
    "RandomErasing": _maybe(kinds.ERASING),
    "RandomGrayscale": _maybe(kinds.GRAYSCALE),
    "RandomHorizontalFlip": _maybe(kinds.FLIP),
    "RandomInvert": _maybe(kinds.flag("invert")),
    "RandomPerspective": Operation(
        _perspective, _warp, probability=lambda operation: operation.p, **kinds.PERSPECTIVE
    ),
    "RandomPosterize": _maybe(kinds.setting("posterize", "bits", 8.0, "bits")),
    "RandomResize": _always(kinds.RESIZE),
    "RandomResizedCrop": _always(kinds.RESIZED_CROP),
    "RandomRotation": _always(kinds.ROTATION),
    "RandomShortestSize": _always(kinds.RESIZE),
    "RandomSolarize": _maybe(kinds.flag("solarize")),
    "RandomVerticalFlip": _maybe(kinds.VERTICAL_FLIP),
    "RandomZoomOut": _maybe(kinds.ZOOM_OUT),
    "ScaleJitter": _always(kinds.RESIZE),
}
