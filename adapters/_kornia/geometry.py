"""kornia's augmentations that move pixels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from star_head.augmentation import ParameterSpec

from .._recorded import kinds
from .canvas import Canvas, CroppedCanvas
from .known import Known, Params, Values, always, bounds, fixed, flag, uniform

_ROTATION, _SINE, _COSINE = kinds.ROTATION["numbers"]


def _turned(angle: Tensor) -> Values:
    radians = torch.deg2rad(angle)
    return {
        _ROTATION.name: angle,
        _SINE.name: torch.sin(radians),
        _COSINE.name: torch.cos(radians),
    }


def _rotation_names(between: tuple[float, float], varies: bool) -> list[str]:
    low, high = between
    if high - low > 180:  # its ends are nearer to each other the other way round
        return [_SINE.name, _COSINE.name]
    return [_ROTATION.name] if kinds.varying(between, 0.0, varies) else []


def _rotation(key: str, degrees: float, rounded: bool) -> Known:
    """A rotation by ``degrees`` times what kornia keeps."""

    def read(operation: Any, params: Params, canvas: Canvas) -> Values:
        return _turned(degrees * (params[key].round() if rounded else params[key]))

    def recorded(operation: Any, varies: bool) -> list[str]:
        low, high = bounds(operation, key)  # type: ignore[misc]
        return _rotation_names((degrees * low, degrees * high), varies)

    return Known(kinds.ROTATION["numbers"], read, recorded)


_SHIFTS = (ParameterSpec("shift x", "pixels", 0.0), ParameterSpec("shift y", "pixels", 0.0))
_SCALES = (ParameterSpec("scale x", "factor", 1.0), ParameterSpec("scale y", "factor", 1.0))
_SCALE = ParameterSpec("scale", "factor", 1.0)
_SHEARS = (ParameterSpec("shear x", "degrees", 0.0), ParameterSpec("shear y", "degrees", 0.0))


def _affine_names(operation: Any, varies: bool) -> list[str]:
    names = _rotation_names(bounds(operation, "degree"), varies)  # type: ignore[arg-type]
    each = bounds(operation, "scale_4") is not None  # of either axis its own
    scales = zip(_SCALES if each else (_SCALE,), ("scale_2", "scale_4"), strict=False)
    others = (
        *zip(_SHIFTS, ("translate_x", "translate_y"), strict=True),
        *scales,
        *zip(_SHEARS, ("shear_x", "shear_y"), strict=True),
    )
    for number, key in others:
        between = bounds(operation, key)
        if between is not None and kinds.varying(between, float(number.neutral), varies):
            names.append(number.name)
    return names


def _affine(operation: Any, params: Params, canvas: Canvas) -> Values:
    shifts, scales = params["translations"], params["scale"]
    return {
        **_turned(params["angle"]),
        **{number.name: shifts[:, i] for i, number in enumerate(_SHIFTS)},
        _SCALE.name: scales[:, 0],
        **{number.name: scales[:, i] for i, number in enumerate(_SCALES)},
        **{
            number.name: params[f"shear_{axis}"] for number, axis in zip(_SHEARS, "xy", strict=True)
        },
    }


def _corners(operation: Any, params: Params, canvas: Canvas) -> Values:
    moved = (params["end_points"] - params["start_points"]).flatten(1)
    numbers = kinds.PERSPECTIVE["numbers"]
    return {number.name: moved[:, i] for i, number in enumerate(numbers)}


# Crops and sizes.


def _box(operation: Any, params: Params, canvas: Canvas) -> CroppedCanvas:
    corners = params["src"].float()
    left, top = corners[:, 0].unbind(1)
    width, height = (corners[:, 2] - corners[:, 0] + 1).unbind(1)
    if hasattr(operation, "compute_padding"):
        shape = (len(corners), 1, canvas.height, canvas.width)
        padded_left, _, padded_top, _ = operation.compute_padding(shape)
        top, left = top - padded_top, left - padded_left
    return canvas.cropped(top, left, height, width)


def _crop_values(operation: Any, params: Params, canvas: Canvas) -> Values:
    box = _box(operation, params, canvas).box()
    return {number.name: value for number, value in zip(kinds.CROP["numbers"], box, strict=True)}


def _cropped(operation: Any, params: Params, canvas: Canvas, applied: Tensor) -> Canvas:
    if not bool(applied.any()):
        return canvas
    return _box(operation, params, canvas).resized(*_output_size(params))


def _output_size(params: Params) -> tuple[int, int]:
    height, width = params["output_size"][0].tolist()
    return int(height), int(width)


def _center(operation: Any, images: Tensor) -> Tensor:
    """The shorter side resized to the crop's size, the centre cut out."""
    height, width = operation.flags["size"]
    scale = max(height / images.shape[-2], width / images.shape[-1])
    sides = [
        max(new, int(scale * old))
        for new, old in zip((height, width), images.shape[-2:], strict=True)
    ]
    resized = torch.nn.functional.interpolate(images, sides, mode="bilinear", antialias=True)
    top, left = round((sides[0] - height) / 2), round((sides[1] - width) / 2)
    return resized[..., top : top + height, left : left + width]


_CROP = Known(kinds.CROP["numbers"], _crop_values, always(kinds.CROP["numbers"]), _cropped, _center)


def _resized(operation: Any, params: Params, canvas: Canvas, applied: Tensor) -> Canvas:
    whole = [torch.full_like(canvas.top, side) for side in canvas[:2]]
    nowhere = torch.zeros_like(canvas.top)
    return canvas.cropped(nowhere, nowhere, *whole).resized(*_output_size(params))


def _padded(operation: Any, params: Params, canvas: Canvas, applied: Tensor) -> Canvas:
    height, width = operation.flags["size"]  # added, or cut off, at the bottom and on the right
    return canvas._replace(height=int(height), width=int(width))


GEOMETRY: dict[str, Known] = {
    "CenterCrop": fixed("center crop", _cropped),
    "LongestMaxSize": fixed("resize", _resized),
    "PadTo": fixed("pad", _padded),
    "RandomAffine": Known(
        (*kinds.ROTATION["numbers"], *_SHIFTS, _SCALE, *_SCALES, *_SHEARS), _affine, _affine_names
    ),
    "RandomCrop": _CROP,
    "RandomHorizontalFlip": flag(
        kinds.FLIP, lambda operation, params, canvas, applied: canvas.mirrored(applied)
    ),
    "RandomPerspective": Known(
        kinds.PERSPECTIVE["numbers"],
        _corners,
        lambda operation, varies: [
            number.name
            for number in kinds.PERSPECTIVE["numbers"]
            if float(operation._param_generator.distortion_scale) > 0
        ],
    ),
    "RandomResizedCrop": _CROP,
    "RandomRotation": _rotation("degrees", 1.0, rounded=False),
    "RandomRotation90": _rotation("times", 90.0, rounded=True),
    "RandomShear": uniform(
        *((n, f"shear_{axis}", None) for n, axis in zip(_SHEARS, "xy", strict=True))
    ),
    "RandomTranslate": uniform(
        *((n, f"translate_{axis}", None) for n, axis in zip(_SHIFTS, "xy", strict=True))
    ),
    "RandomVerticalFlip": flag(
        kinds.VERTICAL_FLIP,
        lambda operation, params, canvas, applied: canvas.mirrored(applied, vertically=True),
    ),
    "Resize": fixed("resize", _resized),
    "SmallestMaxSize": fixed("resize", _resized),
}
