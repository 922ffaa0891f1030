"""What is known of a class of kornia's augmentations."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from star_head.augmentation import ParameterSpec

from .._recorded import kinds
from .canvas import Canvas

Params = Mapping[str, Tensor]
Values = Mapping[str, Tensor]


def same_canvas(operation: Any, params: Params, canvas: Canvas, applied: Tensor) -> Canvas:
    """Of an augmentation that leaves size and place as they are."""
    return canvas


@dataclass(frozen=True)
class Known:
    """How augmentations of one class are recorded.

    Attributes:
        numbers: All numbers that augmentations of the class can have.
        read: From augmentation, the parameters that kornia keeps and the canvas before it to
            (B,) values by name, of all images, whether it is applied to them or not.
        recorded: From augmentation and whether it is applied to some images and not to others
            to the names of the numbers that vary.
        after: From augmentation, parameters, canvas before it and the images (B,) that it is
            applied to to the canvas after it.
        original: What it does to images that are to be changed by nothing random.
        fixed: Whether it does the same to every image that it is applied to.
    """

    numbers: tuple[ParameterSpec, ...] = ()
    read: Callable[[Any, Params, Canvas], Values] = lambda operation, params, canvas: {}
    recorded: Callable[[Any, bool], Collection[str]] = lambda operation, varies: ()
    after: Callable[[Any, Params, Canvas, Tensor], Canvas] = same_canvas
    original: Callable[[Any, Tensor], Tensor] = lambda operation, images: images
    fixed: bool = False


def probability(operation: Any) -> float:
    """How often an augmentation is applied to an image."""
    return float(operation.p * operation.p_batch)


def bounds(operation: Any, key: str) -> tuple[float, float] | None:
    """Between which bounds kornia draws a parameter, or ``None`` where it does not."""
    generator = operation._param_generator
    samplers = getattr(generator, "sampler_dict", None)
    sampler = samplers[key] if samplers is not None else getattr(generator, f"{key}_sampler")
    return None if sampler is None else (float(sampler.low), float(sampler.high))


def uniform(
    *parts: tuple[ParameterSpec, str, str | None],
    read: Callable[[Any, Params], Values] | None = None,
) -> Known:
    """Numbers drawn between bounds.

    Args:
        parts: A tuple for each number: its name, the key of what kornia keeps, and that of its
            sampler (default: the same key).
        read: Where the numbers are not what kornia keeps.
    """
    numbers = tuple(number for number, _, _ in parts)

    def values(operation: Any, params: Params, canvas: Canvas) -> Values:
        if read is not None:
            return read(operation, params)
        return {number.name: params[key] for number, key, _ in parts}

    def recorded(operation: Any, varies: bool) -> list[str]:
        names = []
        for number, key, sampler in parts:
            between = bounds(operation, sampler or key)
            neutral = float(number.neutral)
            if between is not None and kinds.varying(between, neutral, varies):
                names.append(number.name)
        return names

    return Known(numbers, values, recorded)


def flag(kind: kinds.Kind, after: Callable[..., Canvas] = same_canvas) -> Known:
    """Applied or not, with nothing else to tell."""
    (number,) = kind["numbers"]
    return Known(
        kind["numbers"],
        lambda operation, params, canvas: {number.name: torch.ones_like(params["batch_prob"])},
        lambda operation, varies: (number.name,) if varies else (),
        after,
    )


def always(numbers: tuple[ParameterSpec, ...]) -> Callable[[Any, bool], Collection[str]]:
    """All numbers vary."""
    return lambda operation, varies: [number.name for number in numbers]


def fixed(
    label: str, after: Callable[[Any, Params, Canvas, Tensor], Canvas] = same_canvas
) -> Known:
    """The same to every image; where it is applied to some alone, its own number says so."""
    known = flag(kinds.flag(label), after)
    return replace(known, original=lambda operation, images: operation(images), fixed=True)
