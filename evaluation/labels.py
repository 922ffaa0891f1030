"""Few labels: the same share of every class's labels for every encoder."""

from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from star_head._checks import check_count, check_number, describe

Labels: TypeAlias = np.ndarray | Tensor


def label_part(labels: Labels, share: float, seed: int = 0) -> np.ndarray:
    """Draw a share of each class, to measure with few labels.

    Depends on the labels and the seed alone, and a smaller share's part lies in a larger one's.

    Args:
        labels: (n,), classes from 0.
        share: Share of each class's images, above 0, at most 1; rounded to whole images.
        seed: Seed of the draw.

    Returns:
        Indices, ascending.

    Raises:
        TypeError: If the labels are not integers, or the share is no number.
        ValueError: If the share is out of range, or leaves a class without an image.

    Example:
        >>> labels = np.repeat([0, 1], [40, 10])
        >>> np.bincount(labels[label_part(labels, 0.1)]).tolist()
        [4, 1]
    """
    check_number("share", share)
    check_count("seed", seed, minimum=0)
    if not 0 < share <= 1:
        raise ValueError(f"share: expected above 0 and at most 1, got {share}")
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels: expected integers (n,), got {describe(labels)} {labels.dtype}")
    if len(labels) and labels.min() < 0:
        raise ValueError(f"labels: expected classes from 0, got {labels.min()} among them")
    labels = labels.astype(np.int64)
    sizes = np.bincount(labels)
    counts = (share * sizes + 0.5).astype(np.int64)
    empty = np.flatnonzero((counts < 1) & (sizes > 0))
    if len(empty):
        c = empty[0]
        raise ValueError(
            f"share: {share} of the {sizes[c]} images of class {c} leaves none; take "
            f"{0.5 / sizes[c]:.2g} or more"
        )
    return draw(labels, counts, seed)[0]


def draw(labels: np.ndarray, counts: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw so many of each class.

    Args:
        labels: (n,), classes from 0.
        counts: How many of each class, (classes,).
        seed: Seed of the draw.

    Returns:
        Indices of those drawn and of the rest, each ascending.

    Raises:
        ValueError: If a class has too few.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = np.zeros(len(labels), bool)
    for c, count in enumerate(counts):
        members = np.flatnonzero(labels == c)
        if len(members) < count:
            raise ValueError(f"labels: expected at least {count} of class {c}, got {len(members)}")
        order = torch.randperm(len(members), generator=generator).numpy()
        drawn[members[order[:count]]] = True
    return np.flatnonzero(drawn), np.flatnonzero(~drawn)
