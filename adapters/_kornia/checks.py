"""What is asked of the arguments of star_head.adapters.kornia."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from kornia import augmentation as kornias
from torch import Tensor

from star_head._checks import describe
from star_head.augmentation import STARViews

from .._recorded.views import number_of_copies
from ..torchvision import RecordedTransform
from .tree import Tree

_OVERSHOOT = 0.25  # more than a bicubic resize makes at an edge


def check_copies(copies: int | None, after: Any) -> int:
    """How many views are made, or raise."""
    if after is not None:
        if not isinstance(after, RecordedTransform):
            raise TypeError(
                f"after: expected a RecordedTransform of star_head.adapters.torchvision, got "
                f"{describe(after)}"
            )
        if copies is not None:
            raise ValueError(
                f"copies: after= makes {len(after.recorded)} views itself; expected None, "
                f"got {copies}"
            )
        if any(view.size is None for view in after.recorded):
            raise ValueError(
                "after: expected views of one size, to be batched; end it with a crop or a resize "
                "to (height, width)"
            )
        return len(after.recorded)
    return number_of_copies(copies)


def check_pixels(after: RecordedTransform, tree: Tree) -> None:
    """Raise where colours would be cut to [0, 1] that are not in it."""
    normalises = any("Normalize" in part for view in after.recorded for part in view.parts)
    colors = _cutting(tree)
    if normalises and colors:
        raise ValueError(
            f"after: expected pixels in [0, 1], to which kornia's {colors[0]} cuts them, got views "
            f"that are normalised already; let kornia's Normalize come last instead"
        )


def check_images(name: str, images: Any) -> Tensor:
    """The images, or raise unless they are a batch as kornia takes it."""
    if not isinstance(images, Tensor):
        raise TypeError(f"{name}: expected a batch (B, C, H, W), got {describe(images)}")
    if images.ndim != 4 or math.prod(images.shape) == 0:
        raise ValueError(f"{name}: expected shape (B, C, H, W), got {tuple(images.shape)}")
    if not images.is_floating_point():
        raise TypeError(
            f"{name}: expected floating-point pixels in [0, 1], got {images.dtype}; "
            f"ToDtype(torch.float32, scale=True) makes them"
        )
    return images


def check_views(views: Any, after: RecordedTransform) -> STARViews:
    """The views, or raise unless they are such as ``after`` makes, batched."""
    if not isinstance(views, STARViews):
        raise TypeError(
            f"images: expected the STARViews that after= made, batched, got {describe(views)}"
        )
    widths = [tuple(p.shape[1:]) for p in views.params]
    expected = [(len(after.parameters),)] * len(after.recorded)
    if widths != expected:
        raise ValueError(
            f"images: expected STARViews of {len(expected)} views with parameters (B, "
            f"{len(after.parameters)}), as after= makes them, got parameters of shapes "
            f"{[tuple(p.shape) for p in views.params]}"
        )
    for view in (views.original, *views.views):
        check_images("images", view)
    return views


def check_size(size: Any) -> tuple[int, int]:
    """A size, or raise unless it is (height, width) in pixels."""
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(f"images: expected (height, width) in pixels, got {size!r}")
    height, width = size
    return height, width


def check_container(augmentation: Any) -> None:
    """Raise unless it is a container of kornia's, on images alone."""
    if type(augmentation) not in (kornias.AugmentationSequential, kornias.ImageSequential):
        raise TypeError(
            f"augmentation: expected kornia's AugmentationSequential or ImageSequential, got "
            f"{describe(augmentation)}; put kornia's augmentations into one: "
            f"AugmentationSequential(...)"
        )
    keys = [key.name for key in getattr(augmentation, "data_keys", None) or ()]
    if keys not in ([], ["INPUT"], ["IMAGE"]):
        raise ValueError(
            f"augmentation: expected data_keys=['input'], since views are images alone, got {keys}"
        )


def check_range(batches: Sequence[Tensor], tree: Tree) -> None:
    """Raise where pixels lie far outside [0, 1], to which colours would be cut in silence."""
    colors = _cutting(tree)
    if not colors:
        return
    for images in batches:
        low, high = (float(end) for end in images.detach().aminmax())
        if low < -_OVERSHOOT or high > 1 + _OVERSHOOT:
            raise ValueError(
                f"images: expected pixels in [0, 1], to which kornia's {colors[0]} cuts them, got "
                f"{low:.4g} to {high:.4g}; ToDtype(torch.float32, scale=True) makes them of uint8, "
                f"and kornia's Normalize comes last"
            )


def _cutting(tree: Tree) -> list[str]:
    """The names of augmentations that take pixels to be in [0, 1]."""
    return [
        type(leaf.operation).__name__
        for leaf in tree.leaves()
        if isinstance(leaf.operation, kornias.IntensityAugmentationBase2D)
        and not isinstance(leaf.operation, kornias.Normalize | kornias.RandomErasing)
    ]
