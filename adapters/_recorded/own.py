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
    return drawn  # type: ignore[no-any-return]


KNOWN: dict[str, Known] = {
    "GaussianBlur": Operation(
        _draw_blur,
        _blur,
        **{
            **kinds.BLUR,
            "recorded": lambda op, varies: kinds.varying(*op.sigmas, 0.0, varies),
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
