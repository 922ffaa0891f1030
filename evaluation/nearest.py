"""How well features tell classes apart without anything being trained."""

import numpy as np
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from star_head.evaluation.embeddings import embed
from star_head.evaluation.trained import Trained
from star_head.examples.data.image_data import Images


def nearest_neighbour_accuracy(
    bank: Tensor, bank_labels: np.ndarray, queries: Tensor, labels: np.ndarray
) -> float:
    """Share of queries (n, D) whose nearest in the bank (N, D), by cosine, has their label."""
    classifier = KNeighborsClassifier(n_neighbors=1, metric="cosine")
    classifier.fit(bank.cpu().numpy(), bank_labels)
    return float(classifier.score(queries.cpu().numpy(), labels))


def measure_features(trained: Trained, train: Images, test: Images) -> float:
    """The same of a network's features of training and test images."""
    bank, queries = (embed(trained, part).features for part in (train, test))
    return nearest_neighbour_accuracy(bank, train.labels, queries, test.labels)
