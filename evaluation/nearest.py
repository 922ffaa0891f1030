"""How well features tell classes apart without anything being trained.

A test image takes the class for which its k nearest training images vote, by cosine similarity s,
with the weight exp(s / temperature): the classifier of Wu et al. 2018 (InstDisc, arXiv 1805.01978),
whose k = 200 and temperature 0.1 lightly has too.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from star_head._checks import check_count
from star_head._nearest import nearest
from star_head.evaluation._labelled import (
    Features,
    Labelled,
    check_features,
    check_widths,
    device_of,
    shorten,
)
from star_head.evaluation._progress import counting

# Test images that are voted on at a time.
_CHUNK = 1_024
# Classes of which one is to be the right one.
_TOP = 5


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
        test: Likewise, of images to measure on.
        k: How many neighbours vote.
        temperature: The smaller, the more the nearest outvote the others.
        device: Where neighbours are found; where the training features lie unless given.

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
    results = {}
    for k in counts:
        ranks = rank_truth(found.similarities[:, :k], votes[:, :k], truth, num_classes, temperature)
        top1, top5 = ((ranks < top).double().mean().item() for top in (1, _TOP))
        results[k] = NearestNeighbours(top1, top5 if num_classes > _TOP else None)
    return results


def nearest_neighbour_accuracy(
    bank: Tensor, bank_labels: np.ndarray, queries: Tensor, labels: np.ndarray
) -> float:
    """Share of queries (n, D) whose nearest in the bank (N, D), by cosine, has their label.

    For curves of a training: an encoder that gives all images the same has a number here too.
    """
    indices = nearest(bank, queries, 1).indices[:, 0].numpy()
    return float((bank_labels[indices] == labels).mean())


def rank_truth(
    similarities: Tensor, votes: Tensor, truth: Tensor, num_classes: int, temperature: float
) -> Tensor:
    """How many classes the neighbours put before the right one, (n,).

    A class for which none votes comes after all others, so that with one neighbour the right class
    is first or nowhere; lightly fills up with classes at hazard. Of equal classes, the one with the
    lower label is first.

    Args:
        similarities: Of each image's neighbours, (n, k).
        votes: Their classes, (n, k).
        truth: Each image's class, (n,).
        num_classes: Classes are below it.
        temperature: Neighbours have the weight exp(similarity / temperature).

    Returns:
        Ranks from 0; ``num_classes`` where none votes for the right class.
    """
    classes = torch.arange(num_classes, device=votes.device)
    ranks = []
    for start in range(0, len(votes), _CHUNK):
        rows = slice(start, start + _CHUNK)
        s = similarities[rows].double()
        # In each row, weights relative to the largest: the order is the same, and none overflows.
        weights = ((s - s.amax(dim=1, keepdim=True)) / temperature).exp()
        scores = weights.new_zeros(len(weights), num_classes).scatter_add_(1, votes[rows], weights)
        right = truth[rows].unsqueeze(1)
        score = scores.gather(1, right)
        before = (scores > score) | ((scores == score) & (classes < right))
        ranks.append(torch.where(score.squeeze(1) > 0, before.sum(dim=1), num_classes))
    return torch.cat(ranks)


def _check_unlike(train: Features) -> None:
    """Raise where a collapsed encoder would be judged by the order of images alone."""
    first = train.features[0]
    for start in range(0, len(train.features), _CHUNK):
        if (train.features[start : start + _CHUNK] != first).any():
            return
    raise ValueError(
        f"train.features: all {len(train.features)} training images have the same features"
    )
