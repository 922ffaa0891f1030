"""How a transform prepares the images that an encoder is trained on, in timm's terms."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple


class Preparation(NamedTuple):
    """What timm notes of the images that a model takes.

    Attributes:
        input_size: Side of the square images in pixels.
        mean: Mean of the pixels in [0, 1], a number for each channel.
        std: Standard deviation of each channel, in the same form.
        interpolation: How images are resized.
        crop_pct: Side of the central crop relative to the shorter side of the resized image.
    """

    input_size: int
    mean: list[float]
    std: list[float]
    interpolation: str
    crop_pct: float


def read_preparation(transform: Any) -> Preparation:
    """Read size, pixel statistics, interpolation and crop from a transform.

    Args:
        transform: One of the house's, or one of torchvision's or lightly's; of one that makes
            several views, the first counts.

    Raises:
        TypeError: If it does not say the size of the images that it gives.
        ValueError: If these are no squares.
    """
    steps = list(_steps(transform))
    sizes = [(type(step).__name__, size) for step in steps if (size := _size(step))]
    if not sizes:
        raise TypeError(
            "transform: expected one that says the size of its images, such as STARTransform or "
            f"torchvision's with a crop, got {type(transform).__name__}"
        )
    (name, size), *others = sizes
    crop_pct = 1.0
    if name == "Resize" and others and others[0][0].endswith("Crop"):
        crop_pct, size = others[0][1] / size, others[0][1]
    statistics, interpolation = _pixels(steps)
    mean, std = statistics or ([0.0] * 3, [1.0] * 3)
    return Preparation(size, mean, std, interpolation, crop_pct)


def read_pixels(transform: Any) -> tuple[tuple[list[float], list[float]] | None, str]:
    """Mean and standard deviation of the pixels, if it has any, and how it resizes images."""
    return _pixels(list(_steps(transform)))


def _pixels(steps: Sequence[Any]) -> tuple[tuple[list[float], list[float]] | None, str]:
    normalize = next((n for step in steps if (n := _normalize(step))), None)
    interpolation = next((i for step in steps if (i := _interpolation(step))), "bilinear")
    return normalize, interpolation


def _steps(transform: Any) -> Iterator[Any]:
    """The transforms that one is made of, in order."""
    if hasattr(transform, "__iter__"):
        for part in transform:
            yield from _steps(part)
        return
    if hasattr(transform, "input_size") and hasattr(transform, "normalize"):  # it says so itself
        yield transform
        return
    for inside in ("transform", "recorded", "transforms"):
        made_of = getattr(transform, inside, None)
        if made_of is not None and not inspect.ismethod(made_of):
            yield from _steps(made_of)
            return
    yield transform


def _size(step: Any) -> int | None:
    """Side of the images that a step gives, if it says so."""
    size = getattr(step, "input_size", getattr(step, "size", None))
    sides = {size} if isinstance(size, int) else set(size) if size is not None else set()
    if len(sides) > 1:
        raise ValueError(f"transform: expected square images, got {type(step).__name__} of {size}")
    return next(iter(sides), None)


def _normalize(step: Any) -> tuple[list[float], list[float]] | None:
    own = getattr(step, "normalize", None)
    if isinstance(own, Mapping):
        return list(map(float, own["mean"])), list(map(float, own["std"]))
    if type(step).__name__ == "Normalize":
        return list(map(float, step.mean)), list(map(float, step.std))
    return None


def _interpolation(step: Any) -> str | None:
    mode = getattr(step, "interpolation", None)
    name = getattr(mode, "value", mode)
    return name if _size(step) and isinstance(name, str) else None
