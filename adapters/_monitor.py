"""What the head does while it trains, and how far the features serve."""

import torch
from torch import Tensor

from star_head._gather import gather
from star_head._voting import nearest_neighbour_accuracy
from star_head.head import STAREmbeddings
from star_head.metrics import expert_usage, mean_canonical_correlation, routing_divergence


def head_measures(weights: Tensor, z: STAREmbeddings) -> dict[str, float]:
    """Use of the experts, divergence of the two routings, and redundancy within a batch.

    Args:
        weights: Routing weights, (B, 2, E).
        z: The batch's embeddings for both tasks, of this process.
    """
    assert z.equivariant is not None
    measures = {
        f"usage/{task}_{expert:02d}": share
        for task, shares in zip(
            ("invariant", "equivariant"), expert_usage(weights).tolist(), strict=True
        )
        for expert, share in enumerate(shares)
    }
    measures["routing_divergence"] = routing_divergence(weights).item()
    correlation = _mean_correlation(gather(z.invariant), gather(z.equivariant))
    if correlation is not None:
        measures["batch_canonical_correlation"] = correlation
    return measures


class Monitor:
    """Collects what a network makes of a bank and of queries, and measures it.

    The 1-nearest-neighbour accuracy of labelled queries among a labelled bank, by cosine, and the
    mean canonical correlation of the bank's embeddings for the two tasks.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all."""
        self._labelled: bool | None = None
        self._bank: list[tuple[Tensor, Tensor]] = []
        self._queries: list[tuple[Tensor, Tensor]] = []
        self._embeddings: list[tuple[Tensor, Tensor]] = []

    def add_bank(self, features: Tensor, labels: Tensor | None, z: STAREmbeddings) -> None:
        """Note a batch of the bank."""
        self._add(self._bank, features, labels)
        if z.equivariant is not None:
            self._embeddings.append((z.invariant, z.equivariant))

    def add_queries(self, features: Tensor, labels: Tensor | None) -> None:
        """Note a batch of queries."""
        self._add(self._queries, features, labels)

    def _add(
        self, kept: list[tuple[Tensor, Tensor]], features: Tensor, labels: Tensor | None
    ) -> None:
        if self._labelled not in (None, labels is not None):
            raise ValueError(
                "labels: some validation batches have them and others do not; expected them in "
                "both loaders, or in none"
            )
        self._labelled = labels is not None
        if labels is not None:
            # In bfloat16, the cosines of near neighbours would tie.
            kept.append((features.float(), labels))

    def measures(self) -> dict[str, Tensor]:
        """Measure what was collected in all processes; without labels there is no accuracy."""
        found = {}
        if self._bank and self._queries:
            bank, queries = _whole(self._bank), _whole(self._queries)
            device = bank[0].device
            accuracy = nearest_neighbour_accuracy(*bank, *queries, device)
            found["knn_accuracy"] = torch.tensor(accuracy, device=device)
        if self._embeddings:
            device = self._embeddings[0][0].device
            correlation = _mean_correlation(*_whole(self._embeddings))
            if correlation is not None:
                found["mean_canonical_correlation"] = torch.tensor(correlation, device=device)
        return found


def _whole(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Join batches and processes."""
    first, second = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return gather(first), gather(second)


def _mean_correlation(z1: Tensor, z2: Tensor) -> float | None:
    """The mean canonical correlation; None of too few samples or of a collapsed embedding."""
    try:
        return mean_canonical_correlation(z1.float(), z2.float()).item()
    except ValueError:  # no reason to stop a run that trains
        return None
