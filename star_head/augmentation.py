"""What augmentation parameters are: names and units, records and statistics.

Source: STAR (arXiv 2510.27222), whose released program records the 11 numbers of ``Parameter``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import IntEnum
from itertools import cycle
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from star_head._checks import check_count, describe, meant
from star_head._image_sizes import resolve_sizes
from star_head._parts import not_a_tensor
from star_head._seeds import all_seeded


class Parameter(IntEnum):
    """Column of each augmentation parameter in a parameter vector.

    Example:
        >>> params = torch.zeros(4, len(Parameter))
        >>> params[:, Parameter.HUE].shape
        torch.Size([4])
        >>> [p.label for p in Parameter][:2], Parameter.HUE.unit
        (['crop top', 'crop left'], 'turns')
    """

    unit: str

    def __new__(cls, column: int, unit: str) -> Parameter:
        """Make a member that is its column and knows its unit."""
        member = int.__new__(cls, column)
        member._value_ = column
        member.unit = unit
        return member

    CROP_TOP = 0, "pixels"
    CROP_LEFT = 1, "pixels"
    CROP_HEIGHT = 2, "pixels"
    CROP_WIDTH = 3, "pixels"
    FLIP = 4, "0 or 1"
    BRIGHTNESS = 5, "factor"
    CONTRAST = 6, "factor"
    SATURATION = 7, "factor"
    HUE = 8, "turns"
    GRAYSCALE = 9, "0 or 1"
    BLUR_SIGMA = 10, "pixels"

    @property
    def label(self) -> str:
        """The name as a reader would write it, such as ``"crop top"``."""
        return self.name.lower().replace("_", " ")


class ParameterSpec(NamedTuple):
    """A number that tells what was done to a view, of any transform.

    ``star_head.adapters.torchvision`` has a list of these for each transform that it wraps;
    :class:`Parameter` is the list of the paper's own.

    Attributes:
        name: As a reader would write it, such as ``"crop top"``.
        unit: Such as ``"pixels"``.
        neutral: Its value where the operation was not applied, which changes nothing: a number,
            or the source image's height or width.

    Example:
        >>> ParameterSpec("rotation", "degrees", 0.0).label
        'rotation'
    """

    name: str
    unit: str
    neutral: float | Literal["image height", "image width"]

    @property
    def label(self) -> str:
        """The name, as :class:`Parameter` has it."""
        return self.name


class ColorOperation(IntEnum):
    """The four operations of colour jitter, which a view applies in an order of its own."""

    BRIGHTNESS = 0
    CONTRAST = 1
    SATURATION = 2
    HUE = 3


@not_a_tensor("record.vector() makes a tensor of its parameters")
class AugmentationRecord(NamedTuple):
    """What was done to an image to make one view: enough to do it again.

    Crops are in pixels of the source image, the hue shift in turns of the colour circle, the blur
    in pixels of the view. An operation that was not drawn holds the value that changes nothing:
    a factor of 1, a shift or sigma of 0.

    Example:
        >>> record = AugmentationRecord(0, 8, 64, 48, flip=True)
        >>> record.vector()[Parameter.CROP_LEFT].item()
        8.0
    """

    crop_top: int
    crop_left: int
    crop_height: int
    crop_width: int
    flip: bool = False
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0
    grayscale: bool = False
    blur_sigma: float = 0.0
    color_order: tuple[ColorOperation, ...] = tuple(ColorOperation)

    def vector(self) -> Tensor:
        """The 11 parameters in the order of :class:`Parameter`: float32, shape (11,).

        Raises:
            ValueError: If a parameter is not finite.
        """
        values = [float(value) for value in self[: len(Parameter)]]  # type: ignore[arg-type]
        if not all(map(math.isfinite, values)):
            labelled = zip(Parameter, values, strict=True)
            bad = {p.label: value for p, value in labelled if not math.isfinite(value)}
            raise ValueError(f"record: expected finite parameters, got {bad}")
        return torch.tensor(values, dtype=torch.float32)


@not_a_tensor("images are views.original and each of views.views; views.to(device) moves them all")
class STARViews(NamedTuple):
    """An image without random augmentation, its augmented views and what made them.

    PyTorch's default collate makes one of a list of them, with a leading batch dimension, and a
    ``DataLoader(pin_memory=True)`` pins it.

    Attributes:
        original: The image resized, centre-cropped and normalised, (3, S, S) or (B, 3, S, S).
        views: The augmented views, each of the same shape unless a transform makes smaller ones.
        params: The raw, unstandardised parameters of each view, or of the first ones, which were
            recorded; (P,) or (B, P), where the paper's P is 11.
    """

    original: Tensor
    views: Sequence[Tensor]
    params: Sequence[Tensor]

    def to(self, *args: Any, **kwargs: Any) -> STARViews:
        """Move every tensor, as ``Tensor.to`` does; ``params`` change device but not dtype.

        Example:
            >>> image, vector = torch.rand(3, 8, 8), torch.zeros(11)
            >>> views = STARViews(image, (image, image), (vector, vector))
            >>> views.to("cpu", non_blocking=True).original.shape
            torch.Size([3, 8, 8])
        """
        original = self.original.to(*args, **kwargs)
        non_blocking = kwargs.get("non_blocking", False)
        return STARViews(
            original,
            tuple(view.to(*args, **kwargs) for view in self.views),
            tuple(p.to(original.device, non_blocking=non_blocking) for p in self.params),
        )


def check_views(name: str, views: Any) -> None:
    """Raise a TypeError unless ``views`` are STARViews; say where in a batch they lie."""
    if isinstance(views, STARViews):
        return
    held = list(views.values()) if isinstance(views, Mapping) else views
    within = isinstance(held, tuple | list) and any(isinstance(part, STARViews) for part in held)
    raise TypeError(
        f"{name}: expected STARViews (original, views, params), as STARTransform and a loader make "
        f"them, got {describe(views)}"
        + ("; pass the STARViews within: for views, labels in loader" if within else meant(views))
    )


class Statistics(NamedTuple):
    """Mean and standard deviation of each augmentation parameter, in its own unit."""

    mean: Sequence[float]
    std: Sequence[float]


# Of the authors' pretraining runs; ImageNet100's crops are those of images of varying size.
STATISTICS = {
    "stl10": Statistics(
        mean=(
            *(13.0968, 13.1474, 69.8042, 69.7284, 0.4986),
            *(1.0016941, 0.99847072, 0.99962264, -0.000090546833, 0.2066, 0.53592795),
        ),
        std=(
            *(11.503563, 11.360162, 14.589053, 14.54193, 0.49999804),
            *(0.20763062, 0.20504521, 0.20646675, 0.05180895, 0.40486595, 0.65823567),
        ),
    ),
    "imagenet100": Statistics(
        mean=(
            *(55.96519, 85.8532, 292.3404, 298.526, 0.50069067),
            *(1.0005505, 1.0010018, 1.0004101, 0.00011400196, 0.20029363, 0.5294427),
        ),
        std=(
            *(65.29286, 87.91453, 133.99657, 141.05266, 0.49999952),
            *(0.20643362, 0.20659508, 0.20603292, 0.05166076, 0.40022006, 0.65506816),
        ),
    ),
}


class Record(Protocol):
    """What was done to make one view, such as an :class:`AugmentationRecord`."""

    def vector(self) -> Tensor:
        """The parameters, (P,)."""
        ...


class RecordSampler(Protocol):
    """Whatever draws records for an image of a given size: a view transform, for one.

    One that can draw for many images at once has ``sample_vectors`` too, from n sizes to (n, P).
    """

    def sample(self, image: tuple[int, int], /) -> Record:
        """Draw a record for an image of this (height, width)."""
        ...


def estimate_statistics(
    transform: RecordSampler | Any,
    image_sizes: Any,
    num_samples: int = 20_000,
    seed: int = 0,
) -> Statistics:
    """Estimate the parameters' mean and standard deviation by drawing records only.

    No image is decoded where sizes, a folder or a data set of files are given, and the states of
    torch's, NumPy's and Python's generators are left as they were. A parameter that never varies
    gets a standard deviation of 1, so that it standardises to 0.

    Args:
        transform: What draws the records, such as ``star_head.adapters.lightly.STARTransform`` or
            ``star_head.adapters.torchvision.RecordedTransform``; of one that records several views
            by transforms of their own, all of these in turn.
        image_sizes: (height, width) of the data set's images in pixels, or of a sample of them, in
            a sequence, an array or an iterator; one pair where all have one size. Or the data
            set, a loader of it or a folder of images, whose sizes the transform reads, as
            ``star_head.adapters.image_sizes`` says.
        num_samples: Number of records; they are spread evenly over ``image_sizes``.
        seed: Seed of the draws.

    Returns:
        The statistics that ``STARProjectionHead(statistics=...)`` takes.

    Raises:
        TypeError: If ``transform`` records nothing, ``image_sizes`` are of another kind, or
            ``num_samples`` or ``seed`` is no whole number.
        ValueError: If ``image_sizes`` is empty or holds anything but pairs of whole numbers,
            ``num_samples`` is less than 2, or ``seed`` is negative.

    Example:
        >>> class HalfOfTheHeight:
        ...     def sample(self, image):
        ...         height, width = image
        ...         return AugmentationRecord(0, 0, height // 2, width)
        >>> mean, std = estimate_statistics(HalfOfTheHeight(), (96, 64), num_samples=10)
        >>> mean[Parameter.CROP_HEIGHT], mean[Parameter.CROP_WIDTH]
        (48.0, 64.0)
    """
    samplers = _samplers(transform)
    read = getattr(transform, "image_sizes", None) or getattr(samplers[0], "image_sizes", None)
    sizes = resolve_sizes(image_sizes, read)
    check_count("num_samples", num_samples, 2)
    check_count("seed", seed, 0)
    with all_seeded(seed):
        drawn = [sizes[i * len(sizes) // num_samples] for i in range(num_samples)]
        vectors = _vectors(samplers, drawn).double()
    std, mean = torch.std_mean(vectors, dim=0)
    constant = (vectors == vectors[0]).all(dim=0)
    return Statistics(mean.tolist(), std.masked_fill(constant, 1.0).tolist())


def _vectors(samplers: Sequence[Any], sizes: Sequence[tuple[int, int]]) -> Tensor:
    """Parameters (n, P) of images of these sizes, by each sampler in turn."""
    if all(hasattr(sampler, "sample_vectors") for sampler in samplers):  # many at once
        parts = enumerate(samplers)
        return torch.cat([s.sample_vectors(sizes[i :: len(samplers)]) for i, s in parts])
    pairs = zip(cycle(samplers), sizes, strict=False)
    return torch.stack([sampler.sample(size).vector() for sampler, size in pairs])


def _samplers(transform: Any) -> Sequence[RecordSampler]:
    """The transform, if it draws records, or those in it that make the views that it records."""
    several = getattr(transform, "recorded", None)
    samplers = list(several) if isinstance(several, tuple | list) else [transform]
    for sampler in samplers:
        if isinstance(sampler, type) or not callable(getattr(sampler, "sample", None)):
            raise TypeError(
                f"transform: expected one that draws records, as STARTransform does, got "
                f"{describe(sampler)}; star_head.adapters.torchvision.RecordedTransform records "
                f"torchvision's and lightly's transforms"
            )
    return samplers
