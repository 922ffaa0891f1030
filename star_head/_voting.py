"""Classes that neighbours vote for, and how often the right one is first or among the first."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from star_head._nearest import nearest

# Images that are voted on at a time.
_CHUNK = 1_024
# Classes of which one is to be the right one.
_TOP = 5


def accuracies_of_votes(
    similarities: Tensor,
    votes: Tensor,
    truth: Tensor,
    counts: Sequence[int],
    num_classes: int,
    temperature: float,
) -> dict[int, tuple[float, float | None]]:
    """Top-1 and top-5 accuracy by the vote of the first k neighbours, for each k.

    Args:
        similarities: Similarities of each image's neighbours, the nearest first, (n, K).
        votes: Their classes, (n, K).
        truth: Each image's class, (n,).
        counts: Each k, at most K.
        num_classes: Classes are below it.
        temperature: Neighbours have the weight exp(similarity / temperature).
    """
    return {
        k: top_accuracies(
            rank_truth(similarities[:, :k], votes[:, :k], truth, num_classes, temperature),
            num_classes,
        )
        for k in counts
    }


def top_accuracies(ranks: Tensor, num_classes: int) -> tuple[float, float | None]:
    """Shares of images whose class is first, and among the first five; None of five classes."""
    top1, top5 = ((ranks < top).double().mean().item() for top in (1, _TOP))
    return top1, top5 if num_classes > _TOP else None


def rank_by_score(scores: Tensor, truth: Tensor) -> Tensor:
    """How many classes have a higher score (n, C) than the right one (n,), or the same before it.

    Scores that are all the same thus find the first class alone.
    """
    right = truth.unsqueeze(1)
    score = scores.gather(1, right)
    classes = torch.arange(scores.shape[1], device=scores.device)
    return ((scores > score) | ((scores == score) & (classes < right))).sum(dim=1)


def nearest_neighbour_accuracy(
    bank: Tensor,
    bank_labels: np.ndarray | Tensor,
    queries: Tensor,
    labels: np.ndarray | Tensor,
    device: torch.device | str = "cpu",
) -> float:
    """Share of queries (n, D) whose nearest in the bank (N, D), by cosine, has their label.

    For curves of a training: an encoder that gives all images the same has a number here too.
    """
    classes, truth = (torch.as_tensor(given, device=device) for given in (bank_labels, labels))
    found = nearest(bank, queries, 1, device).indices[:, 0]
    return (classes[found] == truth).double().mean().item()


def rank_truth(
    similarities: Tensor, votes: Tensor, truth: Tensor, num_classes: int, temperature: float
) -> Tensor:
    """How many classes the neighbours put before the right one, (n,).

    A class for which none votes comes after all others, so that with one neighbour the right class
    is first or nowhere; lightly fills up with classes at hazard. Of equal classes, the one with the
    lower label is first.

    Args:
        similarities: Similarities of each image's neighbours, (n, k).
        votes: Their classes, (n, k).
        truth: Each image's class, (n,).
        num_classes: Classes are below it.
        temperature: Neighbours have the weight exp(similarity / temperature).

    Returns:
        Ranks from 0; ``num_classes`` where none votes for the right class.
    """
    ranks = []
    for start in range(0, len(votes), _CHUNK):
        rows = slice(start, start + _CHUNK)
        s = similarities[rows].double()
        # In each row, weights relative to the largest: the order is the same, and none overflows.
        weights = ((s - s.amax(dim=1, keepdim=True)) / temperature).exp()
        scores = weights.new_zeros(len(weights), num_classes).scatter_add_(1, votes[rows], weights)
        right = truth[rows]
        voted = scores.gather(1, right.unsqueeze(1)).squeeze(1) > 0
        ranks.append(torch.where(voted, rank_by_score(scores, right), num_classes))
    return torch.cat(ranks)
