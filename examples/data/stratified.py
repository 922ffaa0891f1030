"""Parts of labelled images, class by class, the same on every call."""

import numpy as np

from star_head.evaluation.labels import draw


def hold_out(labels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a part in which the classes have their shares, and in which all are that can be.

    A class of two images or more is in both parts; a single image is not held out. Where that
    leaves no other way, more or fewer than ``count`` are drawn.

    Args:
        labels: (n,), classes from 0.
        count: How many to hold out.

    Returns:
        Indices of the rest and of those held out, each ascending.
    """
    sizes = np.bincount(labels)
    shares = sizes * (count / len(labels))
    most = np.maximum(sizes - 1, 0)
    counts = np.clip(np.floor(shares).astype(np.int64), np.minimum(1, most), most)
    while counts.sum() < count and (counts < most).any():
        counts[np.where(counts < most, shares - counts, -np.inf).argmax()] += 1
    while counts.sum() > count and (counts > 1).any():
        counts[np.where(counts > 1, counts - shares, -np.inf).argmax()] -= 1
    return draw(labels, counts)[::-1]


def even_part(labels: np.ndarray, count: int) -> np.ndarray:
    """Choose so many of all, as many of each class as of another where there are so many.

    Args:
        labels: (n,), classes from 0.
        count: How many to choose; all where there are fewer.

    Returns:
        Indices, ascending: the first of each class.

    Example:
        >>> even_part(np.array([0, 0, 0, 0, 1, 1, 2]), 5).tolist()
        [0, 1, 4, 5, 6]
    """
    order = np.argsort(labels, kind="stable")
    sizes = np.unique(labels, return_counts=True)[1]
    # Of each image, how many of its class come before it.
    rank = np.empty(len(labels), np.int64)
    rank[order] = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.sort(np.lexsort((labels, rank))[:count])
