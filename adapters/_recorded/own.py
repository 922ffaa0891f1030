"""lightly's own operations, which draw from NumPy's global generator."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import ImageFilter, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from star_head.augmentation import ParameterSpec

from . import kinds
from .canvas import Canvas
from .operation import Fixed, Known, Operation, Values


def _applied(operation: Any, image: Any) -> Any:
    return () if np.random.random_sample() < operation.prob else None  # noqa: NPY002


def _draw_blur(operation: Any, image: Any) -> Any:
    if np.random.random_sample() < operation.prob:  # noqa: NPY002
        return {"sigma": np.random.uniform(*operation.sigmas)}  # noqa: NPY002
    return {"sigma": 0.0}


def _blur(operation: Any, image: Any, drawn: Any) -> Any:
    # A tensor is made a PIL image and back, even where nothing is blurred.
    blurred = F.to_pil_image(image) if isinstance(image, Tensor) else image
    if drawn["sigma"]:
        blurred = blurred.filter(ImageFilter.GaussianBlur(radius=drawn["sigma"]))
    return F.to_tensor(blurred) if isinstance(image, Tensor) else blurred


def _draw_phase(operation: Any, image: Any) -> Any:
    shift = operation.dist.sample()
    if operation.include_negatives and operation.sign_dist.sample() != 1:
        shift = -shift
    return {"phase shift": float(shift)}


def _shift_phase(operation: Any, image: Tensor, drawn: Any) -> Tensor:
    amplitude = torch.sqrt(image.real**2 + image.imag**2)
    phase = torch.atan2(image.imag, image.real) + drawn["phase shift"]
    return torch.complex(amplitude * torch.cos(phase), amplitude * torch.sin(phase))


def _phase_values(operation: Any, drawn: Any, canvas: Canvas) -> Values:
    return drawn


def _draw_grid_crop(operation: Any, image: Any) -> Any:
    crop = operation.resized_crop
    box = crop.get_params(image, crop.scale, crop.ratio)
    flips = (operation.horizontal_flip, operation.vertical_flip)
    return {
        **dict(zip(("top", "left", "height", "width"), box, strict=True)),
        "flips": [bool(torch.rand(1) < flip.p) for flip in flips],
    }


def _grid_crop(operation: Any, image: Any, drawn: Any) -> Any:
    box = [drawn[key] for key in ("top", "left", "height", "width")]
    crop = operation.resized_crop
    image = F.resized_crop(image, *box, crop.size, crop.interpolation)
    for flip, flipped in zip((F.hflip, F.vflip), drawn["flips"], strict=True):
        image = flip(image) if flipped else image
    return image


def _grid_crop_names(operation: Any, varies: bool) -> list[str]:
    flips = {"flip": operation.horizontal_flip.p, "vertical flip": operation.vertical_flip.p}
    names = [number.name for number in kinds.CROP["numbers"]]
    return names + [name for name, p in flips.items() if p and (p < 1 or varies)]


def _grid_crop_values(operation: Any, drawn: Any, canvas: Canvas) -> Values:
    horizontally, vertically = map(float, drawn["flips"])
    values = kinds.CROP["values"](operation, drawn, canvas)
    return {**values, "flip": horizontally, "vertical flip": vertically}


def _after_grid_crop(operation: Any, drawn: Any, canvas: Canvas) -> Canvas:
    canvas = kinds.CROP["after"](operation, drawn, canvas)
    canvas = canvas.resized(*operation.resized_crop.size)
    horizontally, vertically = drawn["flips"]
    canvas = canvas.mirrored() if horizontally else canvas
    return canvas.mirrored(vertically=True) if vertically else canvas


def grid_of(operation: Any, drawn: Any, height: int, width: int) -> Tensor:
    """Where the cells of a view lie in its source image, as VICRegL's crops say it."""
    from lightly.transforms.random_crop_and_flip_with_grid import Location

    box = {key: drawn[key] for key in ("top", "left", "height", "width")}
    location = Location(**box, image_height=height, image_width=width)
    location.horizontal_flip, location.vertical_flip = drawn["flips"]
    return operation.location_to_NxN_grid(location=location)


KNOWN: dict[str, Known] = {
    "GaussianBlur": Operation(
        _draw_blur,
        _blur,
        **{
            **kinds.BLUR,
            "recorded": lambda op, varies: kinds.varying(op.sigmas, 0.0, varies),
            "values": lambda op, drawn, canvas: {"blur sigma": drawn["sigma"]},
        },
        probability=lambda op: op.prob,
    ),
    "IRFFT2DTransform": Fixed(None),
    "PhaseShiftTransform": Operation(
        _draw_phase,
        _shift_phase,
        numbers=(ParameterSpec("phase shift", "radians", 0.0),),
        recorded=lambda op, varies: True,
        values=_phase_values,
    ),
    "RFFT2DTransform": Fixed(None),
    "RandomResizedCropAndFlip": Operation(
        _draw_grid_crop,
        _grid_crop,
        numbers=(*kinds.CROP["numbers"], *kinds.FLIP["numbers"], *kinds.VERTICAL_FLIP["numbers"]),
        recorded=_grid_crop_names,
        values=_grid_crop_values,
        after=_after_grid_crop,
        size=lambda op: tuple(op.resized_crop.size),
        center=lambda op, image: kinds.CROP["center"](op.resized_crop, image),
    ),
    "RandomRotate": Operation(
        _applied,
        lambda op, image, drawn: F.rotate(image, op.angle),
        **kinds.setting("rotation", "degrees", 0.0, "angle"),
        probability=lambda op: op.prob,
    ),
    "RandomSolarization": Operation(
        _applied,
        lambda op, image, drawn: ImageOps.solarize(image, threshold=op.threshold),
        **kinds.flag("solarize"),
        probability=lambda op: op.prob,
    ),
}
