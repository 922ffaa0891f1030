"""Few-shot classification on frozen features.

An episode draws five classes, the shots of each and 16 queries of each, and fits one-against-rest
logistic regressions, as the paper's protocol does (arXiv 2510.27222, with scikit-learn's
liblinear); here many episodes are solved at a time, to the same minimum.
"""

import math
import warnings
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from star_head._checks import check_count
from star_head.evaluation._labelled import Labelled, check_features
from star_head.evaluation._progress import steps
from star_head.evaluation.one_vs_rest import decide

# Episodes solved at a time.
_BATCH = 50


class FewShot(NamedTuple):
    """What few-shot classification gives.

    Attributes:
        accuracy: Mean over episodes.
        interval: Half the width of its 95% interval.
    """

    accuracy: float
    interval: float


class Episodes(NamedTuple):
    """Which images each episode draws; its classes are 0, 1, ... in blocks.

    Attributes:
        support: Indices of the shots, (episodes, ways, shots).
        queries: Indices of the queries, (episodes, ways, queries).
    """

    support: np.ndarray
    queries: np.ndarray


def few_shot(
    features: Labelled,
    shots: int = 1,
    episodes: int = 2000,
    *,
    ways: int = 5,
    queries: int = 16,
    seed: int = 0,
) -> FewShot:
    """Measure how well classes are told apart after a few labelled images of each.

    Args:
        features: Features (n, D) and their classes (n,) as a pair of arrays or tensors, or what
            :func:`~star_head.evaluation.extract_features` gives.
        shots: Images of each class to learn from; classes with no more images are left out, with
            a warning.
        episodes: How many draws.
        ways: Classes in each.
        queries: Images of each class to classify; drawn with replacement where a class has fewer
            left.
        seed: Seed of the draws.

    Raises:
        TypeError: If features are not of floating point, or classes or a count are not integers.
        ValueError: If shapes do not fit, a feature is not finite, or fewer than ``ways`` classes
            have more than ``shots`` images.

    Example:
        >>> y = torch.arange(60) % 6
        >>> few_shot((torch.eye(6)[y], y), shots=1, episodes=3)
        FewShot(accuracy=1.0, interval=0.0)
    """
    taken = check_features("features", features)
    drawn = draw_episodes(taken.labels, shots, episodes, ways=ways, queries=queries, seed=seed)
    accuracies = solve(torch.from_numpy(np.array(taken.features)), drawn)
    return FewShot(accuracies.mean().item(), confidence_interval(accuracies))


def draw_episodes(
    labels: np.ndarray,
    shots: int,
    episodes: int,
    *,
    ways: int = 5,
    queries: int = 16,
    seed: int = 0,
) -> Episodes:
    """Draw classes, shots and queries; no image is both in one episode.

    Args:
        labels: (n,), classes from 0.
        shots: Labelled images of each class.
        episodes: How many.
        ways: Classes in each.
        queries: Number of query images of each class.
        seed: Seed of the draws.

    Raises:
        TypeError: If a count is not an integer.
        ValueError: If fewer than ``ways`` classes are left, or a count is too small.
    """
    for name, value, least in (
        ("shots", shots, 1),
        ("episodes", episodes, 2),  # of one, there is no interval
        ("ways", ways, 2),
        ("queries", queries, 1),
        ("seed", seed, 0),
    ):
        check_count(name, value, least)
    of_class = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    enough = [indices for indices in of_class if len(indices) > shots]
    if len(enough) < len(of_class):
        warnings.warn(
            f"{len(of_class) - len(enough)} of {len(of_class)} classes have no more than {shots} "
            f"images and are left out",
            stacklevel=3,
        )
    if len(enough) < ways:
        raise ValueError(
            f"features: expected at least {ways} classes of more than {shots} images, "
            f"got {len(enough)}; take fewer shots or ways"
        )
    generator = torch.Generator().manual_seed(seed)
    support = np.empty((episodes, ways, shots), np.int64)
    query = np.empty((episodes, ways, queries), np.int64)
    for episode in range(episodes):
        for way, c in enumerate(torch.randperm(len(enough), generator=generator)[:ways].tolist()):
            members = enough[c]
            order = members[torch.randperm(len(members), generator=generator).numpy()]
            support[episode, way], rest = order[:shots], order[shots:]
            if len(rest) >= queries:
                query[episode, way] = rest[:queries]
            else:
                drawn = torch.randint(len(rest), (queries,), generator=generator)
                query[episode, way] = rest[drawn.numpy()]
    return Episodes(support, query)


def solve(features: Tensor, episodes: Episodes) -> Tensor:
    """Accuracy of each episode, (episodes,), float64.

    Args:
        features: (n, D).
        episodes: From :func:`draw_episodes`.
    """
    accuracies = []
    count, ways, shots = episodes.support.shape
    truth = torch.arange(ways).repeat_interleave(episodes.queries.shape[2])
    for start in steps(range(0, count, _BATCH), f"{shots}-shot"):
        part = slice(start, start + _BATCH)
        support, queries = (
            features[torch.from_numpy(indices[part]).flatten(1)] for indices in episodes
        )
        labels = torch.arange(ways).repeat_interleave(shots).expand(len(support), -1)
        predicted = decide(support, labels, queries).argmax(dim=2)
        accuracies.append((predicted == truth).double().mean(dim=1))
    return torch.cat(accuracies)


def confidence_interval(accuracies: Tensor) -> float:
    """Half the width of the mean's 95% interval."""
    return 1.96 * accuracies.std().item() / math.sqrt(len(accuracies))
