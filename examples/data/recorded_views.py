"""Any torchvision or lightly transform as a run's, and how a command line or YAML names one."""

import numbers
from collections.abc import Callable
from typing import Any

import torch
from jsonargparse.typing import register_type

from star_head.adapters._images import Color
from star_head.adapters._pixel_range import PixelRange
from star_head.adapters._recorded_rgb import RecordedRGBTransform
from star_head.adapters.lightly import STARTransform
from star_head.adapters.torchvision import RecordedTransform
from star_head.augmentation import STATISTICS, Parameter, Statistics

AnyTransform = STARTransform | RecordedTransform | Callable[[Any], Any]
"""What jsonargparse takes as ``class_path`` and ``init_args``, nested as deep as transforms are."""


def register_types() -> None:
    """Teach jsonargparse the types of torchvision's arguments that it does not know.

    These are the numbers of ``RandomRotation(degrees)`` and the dtypes of ``ToDtype(dtype)``.
    """
    register_type(numbers.Number, _number, _number, fail_already_registered=False)
    register_type(torch.dtype, str, _dtype, fail_already_registered=False)


def _number(value: Any) -> int | float:
    if isinstance(value, str):
        value = float(value)
        return int(value) if value.is_integer() else value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"expected a number, got {value!r}")
    return value


def _dtype(value: Any) -> torch.dtype:
    found = getattr(torch, str(value).removeprefix("torch."), None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"expected a dtype such as float32, got {value!r}")
    return found


def recorded(
    transform: RecordedTransform | Callable[[Any], Any],
    pixel_range: PixelRange | None,
    background: Color | None,
) -> RecordedRGBTransform:
    """Wrap a transform for a run of pretraining.

    Raises:
        TypeError: If it has operations that are not known, or makes no tensors.
        ValueError: If nothing in it is random, or it does not make two views of one size.
    """
    if not isinstance(transform, RecordedTransform):
        transform = RecordedTransform(transform)
    made = transform.view_count
    if made != 2 or len(transform.recorded) != 2:
        of = type(transform.transform).__name__
        raise ValueError(
            f"transform: expected two views to be recorded, as STAR trains on, got {of}, which "
            f"makes {made}, {len(transform.recorded)} of them recorded; give the transform of one "
            f"view, such as DINOViewTransform for DINOTransform (docs/methods.md trains on more)"
        )
    return RecordedRGBTransform(transform, pixel_range, background)


def statistics_of(name: str, transform: STARTransform | RecordedTransform) -> Statistics:
    """The authors' statistics of a data set, if they are of what the transform records.

    Raises:
        ValueError: If it records other parameters.
    """
    paper = [parameter.label for parameter in Parameter]
    own = [parameter.label for parameter in transform.parameters]
    if own != paper:
        others = [label for label in own if label not in paper]
        missing = [label for label in paper if label not in own]
        raise ValueError(
            f"statistics: {name!r} has those of the paper's {len(paper)} parameters, and the "
            f"transform records {len(own)}, with {', '.join(others) or 'no others'} and without "
            f"{', '.join(missing) or 'none missing'}; leave statistics out, and they are estimated"
        )
    return STATISTICS[name]
