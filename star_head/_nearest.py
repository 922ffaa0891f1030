"""Nearest neighbours by cosine similarity, a part of both sides at a time."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

# Rows of the bank and queries whose similarities are computed at a time.
_BANK_CHUNK, _QUERY_CHUNK = 16_384, 1_024


class Neighbours(NamedTuple):
    """The rows of a bank that are nearest to each query, from the nearest on.

    Attributes:
        similarities: Cosines, (n, k), float32.
        indices: Indices of the bank's rows, (n, k).
    """

    similarities: Tensor
    indices: Tensor


def nearest(
    bank: np.ndarray | Tensor,
    queries: np.ndarray | Tensor,
    k: int,
    device: torch.device | str = "cpu",
    *,
    others_only: bool = False,
    progress: Callable[[int], object] | None = None,
) -> Neighbours:
    """Find the nearest rows of a bank by cosine similarity, neither side as a whole in memory.

    Args:
        bank: (N, D), may be memory-mapped.
        queries: (n, D), likewise.
        k: How many of each, at most N, or N - 1 of others only.
        device: Where similarities are computed, in float32.
        others_only: The queries are the bank, and no row is its own neighbour.
        progress: Told of each part of the bank how many rows it had.
    """
    found = Neighbours(
        torch.full((len(queries), k), -torch.inf, device=device),
        torch.zeros((len(queries), k), dtype=torch.long, device=device),
    )
    for start, part in _parts(bank, _BANK_CHUNK):
        of_bank = _normalized(part, device)
        for row, some in _parts(queries, _QUERY_CHUNK):
            rows = slice(row, row + len(some))
            cosines = _normalized(some, device) @ of_bank.T
            if others_only:
                cosines.diagonal(row - start).fill_(-torch.inf)  # empty where none meets itself
            best = cosines.topk(min(k, len(of_bank)))
            similarities = torch.cat([found.similarities[rows], best.values], dim=1)
            indices = torch.cat([found.indices[rows], best.indices + start], dim=1)
            found.similarities[rows], order = similarities.topk(k)
            found.indices[rows] = indices.gather(1, order)
        if progress is not None:
            progress(len(of_bank))
    return found


def _parts(rows: np.ndarray | Tensor, size: int) -> Iterator[tuple[int, np.ndarray | Tensor]]:
    for start in range(0, len(rows), size):
        yield start, rows[start : start + size]


def _normalized(part: np.ndarray | Tensor, device: torch.device | str) -> Tensor:
    tensor = part if isinstance(part, Tensor) else torch.from_numpy(np.array(part))
    return normalize(tensor.to(device).float())
