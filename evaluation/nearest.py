"""How well features tell classes apart without anything being trained.

A test image takes the class for which its k nearest training images vote, by cosine similarity s,
with the weight exp(s / temperature): the classifier of Wu et al. 2018 (InstDisc, arXiv 1805.01978),
whose k = 200 and temperature 0.1 lightly has too.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from star_head._checks import check_count
from star_head._nearest import nearest
from star_head._voting import accuracies_of_votes, nearest_neighbour_accuracy, rank_truth
from star_head.evaluation._labelled import (
    Features,
    Labelled,
    check_features,
    check_widths,
    device_of,
    shorten,
)
from star_head.evaluation._progress import counting

# Training images that are compared at a time.
_CHUNK = 1_024

__all__ = [
    "NearestNeighbours",
    "nearest_neighbour_accuracy",
    "nearest_neighbours",
    "rank_truth",
    "vote_of_each",
]


class NearestNeighbours(NamedTuple):
    """What nearest neighbours give.

    Attributes:
        top1: Share of test images whose class is found.
        top5: Share of those whose class is among the five likeliest; ``None`` for five classes
            or fewer.
    """

    top1: float
    top5: float | None


def nearest_neighbours(
    train: Labelled,
    test: Labelled,
    k: int = 20,
    *,
    temperature: float = 0.1,
    device: torch.device | str | None = None,
) -> NearestNeighbours:
    """Classify by a weighted vote of the k nearest training images, by cosine similarity.

    Args:
        train: Features (n, D) and their classes (n,) as a pair of arrays or tensors, or what
            :func:`~star_head.evaluation.extract_features` gives. They are read a part at a time.
        test: The same for the images to measure on.
        k: How many neighbours vote.
        temperature: The smaller, the more the nearest outvote the others.
        device: Where neighbours are found; default: where the training features are.

    Raises:
        TypeError: If features are not of floating point, or classes or ``k`` are not integers.
        ValueError: If shapes or widths do not fit, a feature is not finite, all training images
            have the same features, or there are fewer than ``k`` of them.

    Example:
        >>> x, y = torch.randn(60, 5), torch.arange(60) % 3
        >>> nearest_neighbours((x, y), (x, y), k=1)
        NearestNeighbours(top1=1.0, top5=None)
    """
    return vote_of_each(train, test, [k], temperature=temperature, device=device)[k]


def vote_of_each(
    train: Labelled,
    test: Labelled,
    counts: Sequence[int],
    *,
    temperature: float = 0.1,
    device: torch.device | str | None = None,
) -> dict[int, NearestNeighbours]:
    """As :func:`nearest_neighbours` for several ``k``, which cost no more than the largest."""
    if not temperature > 0:
        raise ValueError(f"temperature: expected more than 0, got {temperature}")
    device = device_of(train) if device is None else device
    train, test = check_features("train", train), check_features("test", test)
    check_widths(train=train, test=test)
    if len(unknown := np.setdiff1d(test.labels, train.labels)):
        raise ValueError(
            f"test.labels: expected classes of the training images, got {shorten(unknown)}; number "
            f"the classes alike in both parts"
        )
    for k in counts:
        check_count("k", k)
        if k > len(train.features):
            raise ValueError(
                f"k: expected at most the {len(train.features)} training images, got {k}"
            )
    _check_unlike(train)
    with counting(len(train.features), "Neighbours") as progress:
        found = nearest(train.features, test.features, max(counts), device, progress=progress)
    num_classes = 1 + int(max(train.labels.max(), test.labels.max()))
    votes = torch.from_numpy(train.labels).to(device)[found.indices]  # (n, k)
    truth = torch.from_numpy(test.labels).to(device)
    results = {
        k: NearestNeighbours(*shares)
        for k, shares in accuracies_of_votes(
            found.similarities, votes, truth, counts, num_classes, temperature
        ).items()
    }
    return results


def _check_unlike(train: Features) -> None:
    """Raise where a collapsed encoder would be judged by the order of images alone."""
    first = train.features[0]
    for start in range(0, len(train.features), _CHUNK):
        if (train.features[start : start + _CHUNK] != first).any():
            return
    raise ValueError(
        f"train.features: all {len(train.features)} training images have the same features"
    )
