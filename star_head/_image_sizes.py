"""What users give as images' sizes: pairs in any container, or something to read them from."""

import os
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import Any

import numpy as np

from star_head._checks import describe

Size = tuple[int, int]
"""(height, width) in pixels."""

_EXPECTED = (
    "image_sizes: expected (height, width) in pixels, one pair or several, or a data set or folder "
    "of images"
)


def resolve_sizes(
    image_sizes: Any, read: Callable[[Any], Iterable[Any]] | None = None
) -> list[Size]:
    """Make a list of pairs.

    Args:
        image_sizes: A pair, or pairs in a sequence, an array, a tensor or an iterator; or what
            ``read`` reads.
        read: Reads the sizes of a folder's or a data set's images.

    Raises:
        TypeError: If it is none of these, or there is no ``read`` for a folder or data set.
        ValueError: If there is no size, or one that is no pair of whole numbers above 0.
    """
    if hasattr(image_sizes, "__array__"):  # arrays, tensors, tables
        array = np.asarray(image_sizes)
        if array.ndim not in (1, 2):
            raise ValueError(f"{_EXPECTED}, got an array of shape {array.shape}")
        image_sizes = array.tolist()
    if isinstance(image_sizes, tuple | list) and all(isinstance(s, Real) for s in image_sizes):
        image_sizes = [image_sizes] if image_sizes else []
    if _is_to_be_read(image_sizes):
        if read is None:
            raise TypeError(
                f"{_EXPECTED}; this transform reads none from {describe(image_sizes)}, but "
                f"star_head.adapters.image_sizes.image_sizes does"
            )
        image_sizes = read(image_sizes)
    if not isinstance(image_sizes, Iterable) or isinstance(image_sizes, dict):
        raise TypeError(f"{_EXPECTED}, got {describe(image_sizes)}")
    sizes = [_pair(size) for size in image_sizes]
    if not sizes:
        raise ValueError("image_sizes: expected at least one (height, width), got none")
    return sizes


def _is_to_be_read(image_sizes: Any) -> bool:
    """Whether it is a folder, a data set or a loader of one, or a list of images."""
    if isinstance(image_sizes, tuple | list):
        return bool(image_sizes) and not _is_pair_like(image_sizes[0])
    if isinstance(image_sizes, dict):
        return False
    map_style = hasattr(image_sizes, "__getitem__") and hasattr(image_sizes, "__len__")
    return (
        isinstance(image_sizes, str | os.PathLike) or map_style or hasattr(image_sizes, "dataset")
    )


def _is_pair_like(size: Any) -> bool:
    """Whether it is of numbers, right ones or not, and so no image."""
    if isinstance(size, Real):
        return True
    if hasattr(size, "__array__"):
        return np.asarray(size).ndim < 2
    return isinstance(size, tuple | list) and all(isinstance(side, Real) for side in size)


def _pair(size: Any) -> Size:
    values = np.asarray(size).tolist() if hasattr(size, "__array__") else size
    if not isinstance(values, tuple | list) or len(values) != 2:
        raise ValueError(f"{_EXPECTED}, got {size!r:.60} for one")
    whole = [int(v) for v in values if _is_whole(v) and v >= 1]
    if len(whole) != 2:
        raise ValueError(f"{_EXPECTED}, whole numbers above 0, got {size!r:.60} for one")
    return whole[0], whole[1]


def _is_whole(value: Any) -> bool:
    if hasattr(value, "item"):
        value = value.item()
    whole = isinstance(value, Integral) or (isinstance(value, float) and value.is_integer())
    return whole and not isinstance(value, bool)
