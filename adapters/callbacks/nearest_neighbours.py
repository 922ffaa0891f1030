"""How well nearest neighbours tell classes apart, while the encoder trains."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from star_head._checks import check_count, check_number, check_pooled
from star_head._nearest import nearest
from star_head._voting import accuracies_of_votes, nearest_neighbour_accuracy
from star_head.adapters._samples import DataSet

from ._held_out import HeldOutMonitor, Rows, check_labelled
from ._monitor import LeftOut, as_float
from ._reading import Reading, check_reading, check_there, read


class NearestNeighbours(HeldOutMonitor):
    """Accuracy of the nearest neighbour and of a weighted vote of k, by cosine similarity.

    Labelled queries take the class of their nearest in a labelled bank. Logs ``knn_accuracy``, of
    one neighbour, and ``weighted_knn_accuracy``, of k neighbours weighted by exp(similarity /
    temperature) as in :func:`star_head.evaluation.nearest_neighbours`.

    Args:
        features: Name of the module's part that makes features (B, D) of images, such as
            ``"backbone"``, or a function of the module and images.
        bank: Data set of (image, label). Without one, the Trainer's first validation loader is
            the bank and its second the queries.
        queries: Likewise.
        transform: Makes a tensor of each image of the data sets, without random augmentation.
        k: How many neighbours vote; all of a smaller bank.
        temperature: Of the vote.
        images: How many of each data set are read, always the same.
        every_n_epochs: How often data sets are read; validation loaders are read whenever the
            Trainer validates.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If a number is out of range, or there is a bank without queries.

    Example:
        >>> bank, queries = ([(torch.rand(3, 8, 8), i % 2) for i in range(n)] for n in (20, 10))
        >>> callbacks = [NearestNeighbours("backbone", bank, queries, k=5)]
    """

    def __init__(
        self,
        features: Reading,
        bank: DataSet | None = None,
        queries: DataSet | None = None,
        *,
        transform: Callable[[Any], Tensor] | None = None,
        k: int = 20,
        temperature: float = 0.1,
        images: int = 1000,
        every_n_epochs: int = 1,
    ) -> None:
        super().__init__({"bank": bank, "queries": queries}, transform, images, every_n_epochs)
        check_reading("features", features)
        check_count("k", k)
        check_number("temperature", temperature)
        if not temperature > 0:
            raise ValueError(f"temperature: expected more than 0, got {temperature}")
        self._features = features
        self._k = k
        self._temperature = temperature

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """See that the module has what is named."""
        check_there("features", self._features, pl_module)

    def read_images(self, module: Any, images: Tensor) -> Sequence[Tensor]:
        """Features, (B, D)."""
        found = check_pooled("features", read("features", self._features, module, images))
        return [as_float(found, "features")]  # in bfloat16, cosines of near neighbours would tie

    def measure(self, rows: Rows) -> dict[str, float]:
        """Accuracies of one neighbour and of k."""
        (bank, bank_labels), (queries, labels) = rows["bank"], rows["queries"]
        check_labelled(bank=bank_labels, queries=labels)
        if bank.shape[1] != queries.shape[1]:
            raise LeftOut(
                f"queries: expected features of the bank's width {bank.shape[1]}, got "
                f"{queries.shape[1]}"
            )
        if not (bank.isfinite().all() and queries.isfinite().all()):
            raise LeftOut("features: expected finite ones, got nan or inf")
        device = bank.device
        first = nearest_neighbour_accuracy(bank, bank_labels, queries, labels, device)
        k = min(self._k, len(bank))
        found = nearest(bank, queries, k, device)
        votes = bank_labels[found.indices]
        classes = 1 + int(torch.maximum(bank_labels.max(), labels.max()))
        voted = accuracies_of_votes(
            found.similarities, votes, labels, [k], classes, self._temperature
        )
        return {"knn_accuracy": first, "weighted_knn_accuracy": voted[k][0]}
