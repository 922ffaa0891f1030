"""Features and labels at the door of what measures them; needs torch and NumPy only."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from star_head._checks import describe

# Numbers that are looked at a time.
_CHUNK = 2**22

Array: TypeAlias = np.ndarray | Tensor


class Features(NamedTuple):
    """What an encoder makes of images.

    Attributes:
        features: (n, D); memory-mapped where a cache holds them. float32, or float16 if halved.
        labels: (n,), integers; -1 where an image has none.
    """

    features: np.ndarray
    labels: np.ndarray


Labelled: TypeAlias = Features | tuple[Array, Array]
"""Features (n, D) and a label for each, (n,), as arrays or tensors."""


def check_features(name: str, given: Labelled) -> Features:
    """Take features with a class for each, or say what is wrong with them.

    Returns:
        The same as arrays, labels in int64. Features on the CPU are not copied.

    Raises:
        TypeError: If they are no pair, or not of floating point and of integers.
        ValueError: If there are none, shapes do not fit, a feature is not finite, or a label is
            negative.
    """
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise TypeError(
            f"{name}: expected features (n, D) and labels (n,) as a pair, got {describe(given)}; "
            f"extract_features gives them"
        )
    features = check_matrix(f"{name}.features", given[0])
    labels = _array(f"{name}.labels", given[1])
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(
            f"{name}.labels: expected integers, got {labels.dtype}; number the classes from 0"
        )
    if labels.shape != features.shape[:1]:
        raise ValueError(
            f"{name}.labels: expected shape ({len(features)},), a class for each row of features, "
            f"got {labels.shape}"
        )
    if labels.min() < 0:
        raise ValueError(
            f"{name}.labels: expected classes from 0, got {labels.min()} among them; leave "
            f"{int((labels < 0).sum())} samples without a class out"
        )
    return Features(features, np.array(labels, np.int64))


def check_matrix(name: str, given: Array) -> np.ndarray:
    """Take features (n, D), finite and of floating point, or say what is wrong with them."""
    features = _array(name, given)
    if features.dtype not in (np.float16, np.float32, np.float64):
        raise TypeError(f"{name}: expected floating point, got {features.dtype}")
    if features.ndim != 2 or not features.size:
        raise ValueError(f"{name}: expected shape (n, D), not empty, got {features.shape}")
    rows = max(1, _CHUNK // features.shape[1])
    for start in range(0, len(features), rows):
        finite = np.isfinite(features[start : start + rows]).all(axis=1)
        if not finite.all():
            raise ValueError(
                f"{name}: expected finite numbers, got nan or inf in row {start + finite.argmin()}"
            )
    return features


def check_widths(**parts: Features) -> None:
    """Raise unless all parts have features of the first one's width."""
    (first, of_first), *others = parts.items()
    width = of_first.features.shape[1]
    for name, part in others:
        if part.features.shape[1] != width:
            raise ValueError(
                f"{name}.features: expected width {width}, as {first}'s, got "
                f"{part.features.shape[1]}; all parts are to be of one encoder"
            )


def count_classes(train: Features, **others: Features) -> int:
    """How many classes there are in training features.

    Raises:
        ValueError: If it has fewer than two, lacks one below the highest, or another part has one
            that it lacks.
    """
    present = np.unique(train.labels)
    count = int(present[-1]) + 1
    if count < 2:
        raise ValueError("train.labels: expected at least 2 classes, got all of class 0")
    if len(present) < count:
        there = set(present.tolist())
        absent = list(itertools.islice((c for c in range(count) if c not in there), 11))
        raise ValueError(
            f"train.labels: expected all of the classes 0 to {count - 1}, got none of "
            f"{shorten(absent)}; number those that there are without gaps"
        )
    for name, part in others.items():
        unknown = np.unique(part.labels[part.labels >= count])
        if len(unknown):
            raise ValueError(
                f"{name}.labels: expected classes of the training images, 0 to {count - 1}, got "
                f"{shorten(unknown)}; number the classes alike in all parts"
            )
    return count


def shorten(numbers: Sequence[int] | np.ndarray) -> str:
    """Some numbers as a list of at most ten."""
    shown = ", ".join(str(number) for number in list(numbers)[:10])
    return f"[{shown}{', ...' if len(numbers) > 10 else ''}]"


def device_of(given: Labelled) -> torch.device:
    """Where features lie, if they are a tensor; else the CPU."""
    features = given[0]
    return features.device if isinstance(features, Tensor) else torch.device("cpu")


class Joined:
    """Arrays of rows one after another, never copied as a whole.

    Args:
        parts: Arrays (n, D) of one width; n may differ.
    """

    def __init__(self, *parts: np.ndarray) -> None:
        self.parts = parts
        self.dtype = np.result_type(*parts)
        self.ndim = 2
        self.shape = (sum(map(len, parts)), parts[0].shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(len(self))
        return np.concatenate(list(self._pieces(start, stop)), dtype=self.dtype)

    def _pieces(self, start: int, stop: int) -> Iterator[np.ndarray]:
        for part in self.parts:
            yield part[max(0, start) : max(0, min(stop, len(part)))]
            start, stop = start - len(part), stop - len(part)


def _array(name: str, given: Any) -> np.ndarray:
    if isinstance(given, Tensor):
        tensor = given.detach().cpu()
        return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    if isinstance(given, np.ndarray):
        return given
    raise TypeError(f"{name}: expected an array or a tensor, got {describe(given)}")
