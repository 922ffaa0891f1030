"""Nearest neighbours, against lightly's own and a loop."""

import math
import re

import numpy as np
import pytest
import torch
from lightly.utils.benchmarking import knn_predict
from lightly.utils.benchmarking.topk import mean_topk_accuracy
from torch.nn.functional import normalize

from star_head import _nearest
from star_head._nearest import nearest
from star_head.evaluation import nearest_neighbours
from star_head.evaluation.nearest import rank_truth, vote_of_each


def make_features(
    n: int, width: int = 20, classes: int = 8, noise: float = 1.0
) -> tuple[np.ndarray, torch.Tensor]:
    centres = torch.randn(classes, width, generator=torch.Generator().manual_seed(7))
    labels = torch.randint(classes, (n,))
    return (centres[labels] + noise * torch.randn(n, width)).numpy(), labels


def by_loop(
    train: np.ndarray, labels: np.ndarray, query: np.ndarray, classes: int, k: int, t: float
) -> tuple[list[float], list[int]]:
    """Scores and classes, the likeliest first, that any neighbour votes for."""
    train, query = train.astype(np.float64), query.astype(np.float64)
    cosines = [float(x @ query / math.sqrt((x @ x) * (query @ query))) for x in train]
    nearest = sorted(range(len(train)), key=lambda i: -cosines[i])[:k]
    scores = [0.0] * classes
    for i in nearest:
        scores[labels[i]] += math.exp(cosines[i] / t)
    order = sorted((c for c in range(classes) if scores[c]), key=lambda c: -scores[c])
    return scores, order


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize(("k", "temperature"), [(1, 0.1), (7, 0.02), (50, 0.5)])
def test_equals_a_loop(dtype: type, k: int, temperature: float) -> None:
    train, labels = make_features(130)
    test, truth = make_features(40)
    train, test = train.astype(dtype), test.astype(dtype)
    found = nearest(train, test, k)
    ranks = rank_truth(found.similarities, labels[found.indices], truth, 8, temperature=temperature)
    for query, right, rank in zip(test, truth.tolist(), ranks.tolist(), strict=True):
        _, order = by_loop(train, labels.numpy(), query, 8, k, temperature)
        assert rank == (order.index(right) if right in order else 8)


@pytest.mark.parametrize(("k", "temperature"), [(20, 0.1), (200, 0.1), (200, 0.07)])
def test_equals_lightlys(k: int, temperature: float) -> None:
    (train, labels), (test, truth) = make_features(600, noise=3.0), make_features(300, noise=3.0)
    found = nearest(train, test, k)
    votes = labels[found.indices]
    ranks = rank_truth(found.similarities, votes, truth, 8, temperature)
    bank, queries = (normalize(torch.from_numpy(x)) for x in (train, test))
    predicted = knn_predict(queries, bank.T, labels, 8, k, temperature)
    expected = (predicted == truth[:, None]).int().argmax(dim=1)
    voted = (votes == truth[:, None]).any(dim=1)
    assert voted.sum() > 250  # lightly gives the others a rank at hazard
    assert torch.equal(ranks[voted], expected[voted])
    assert (ranks[~voted] == 8).all()
    accuracy = mean_topk_accuracy(predicted, truth, k=(1, 5))
    assert (ranks < 1).float().mean() == pytest.approx(float(accuracy[1]))
    assert 0.1 < float(accuracy[1]) < 0.95


@pytest.mark.parametrize(("train_chunk", "test_chunk"), [(1, 3), (17, 64), (64, 1), (1000, 1000)])
def test_parts_do_not_matter(
    monkeypatch: pytest.MonkeyPatch, train_chunk: int, test_chunk: int
) -> None:
    train, labels = make_features(100)
    test, truth = make_features(30)
    monkeypatch.setattr(_nearest, "_BANK_CHUNK", train_chunk)
    monkeypatch.setattr(_nearest, "_QUERY_CHUNK", test_chunk)
    monkeypatch.setattr("star_head.evaluation.nearest._CHUNK", test_chunk)
    found = nearest(train, test, 25)
    bank, queries = (normalize(torch.from_numpy(x)) for x in (train, test))
    expected = (queries @ bank.T).topk(25)
    torch.testing.assert_close(found.similarities, expected.values)
    assert torch.equal(found.indices, expected.indices)
    ranks = rank_truth(found.similarities, labels[found.indices], truth, 8, 0.1)
    monkeypatch.undo()
    whole = rank_truth(found.similarities, labels[found.indices], truth, 8, 0.1)
    assert torch.equal(ranks, whole)


def test_order_of_equal_classes_and_of_none() -> None:
    similarities = torch.tensor([[0.5, 0.5, 0.1], [1.0, 1.0, -1.0]])
    votes = torch.tensor([[2, 1, 3], [0, 0, 3]])
    for truth, ranks in (([1, 0], [0, 0]), ([2, 3], [1, 1]), ([3, 1], [2, 4]), ([0, 2], [4, 4])):
        found = rank_truth(similarities, votes, torch.tensor(truth), 4, 0.1)
        assert found.tolist() == ranks
    # Where exp(similarity / temperature) is more than float64 holds.
    cold = rank_truth(torch.ones(1, 3), torch.tensor([[1, 1, 2]]), torch.tensor([2]), 4, 1e-4)
    assert cold.tolist() == [1]


@pytest.mark.parametrize(("bank_chunk", "query_chunk"), [(1024, 1024), (50, 1000), (1000, 7)])
def test_others_only(monkeypatch: pytest.MonkeyPatch, bank_chunk: int, query_chunk: int) -> None:
    monkeypatch.setattr(_nearest, "_BANK_CHUNK", bank_chunk)
    monkeypatch.setattr(_nearest, "_QUERY_CHUNK", query_chunk)
    z = torch.randn(1500, 6)
    found = nearest(z, z, 3, others_only=True).indices
    for i in torch.randint(1500, (40,)).tolist():
        similarity = torch.cosine_similarity(z[i].double(), z.double(), dim=1)
        similarity[i] = -2
        assert found[i].tolist() == similarity.argsort(descending=True)[:3].tolist()


def test_what_the_script_gave_before() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 5
    features = (rng.normal(size=(5, 12))[labels] + 1.5 * rng.normal(size=(200, 12))).astype("f4")
    train, test = ((features[rows], labels[rows]) for rows in (slice(150), slice(150, None)))
    found = vote_of_each(train, test, [1, 20, 100], temperature=0.07)
    assert {k: of.top1 for k, of in found.items()} == {1: 0.4, 20: 0.56, 100: 0.58}
    for k, accuracy in found.items():
        assert nearest_neighbours(train, test, k, temperature=0.07) == accuracy


def test_one_of_five_likeliest() -> None:
    train, labels = make_features(200, classes=6)
    test, truth = make_features(100, classes=6)
    found = nearest_neighbours((train, labels), (torch.from_numpy(test), truth.numpy()), k=50)
    assert 0 < found.top1 < found.top5 <= 1
    few = labels < 5
    assert nearest_neighbours((train[few], labels[few]), (train[few], labels[few])).top5 is None


GOOD = (np.random.default_rng(0).normal(size=(12, 3)), np.arange(12) % 3)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (
            {"train": GOOD[0]},
            TypeError,
            "train: expected features (n, D) and labels (n,)",
        ),
        ({"test": (GOOD[0][0], GOOD[1])}, ValueError, "test.features: expected shape (n, D)"),
        ({"test": (GOOD[0][:, 1:], GOOD[1])}, ValueError, "test.features: expected width 3"),
        ({"test": (GOOD[0] * np.inf, GOOD[1])}, ValueError, "test.features: expected finite"),
        ({"test": (GOOD[0], GOOD[1] - 1)}, ValueError, "test.labels: expected classes from 0"),
        (
            {"test": (GOOD[0], GOOD[1] + 1)},
            ValueError,
            "test.labels: expected classes of the training images, got [3]; number",
        ),
        (
            {"train": (np.ones((12, 3)), GOOD[1])},
            ValueError,
            "train.features: all 12 training images have the same features",
        ),
        ({"k": 13}, ValueError, "k: expected at most the 12 training images, got 13"),
        ({"k": 0}, ValueError, "k: expected at least 1, got 0"),
        ({"k": 2.0}, TypeError, "k: expected an integer, got 2.0"),
        ({"temperature": 0}, ValueError, "temperature: expected more than 0, got 0"),
        ({"temperature": math.nan}, ValueError, "temperature: expected more than 0, got nan"),
    ],
)
def test_bad_input(change: dict[str, object], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        nearest_neighbours(**({"train": GOOD, "test": GOOD, "k": 3} | change))


def test_one_image_that_differs_is_enough() -> None:
    features = np.ones((3000, 3), np.float32)
    features[-1, -1] = 2
    nearest_neighbours((features, np.zeros(3000, int)), (features[:5], np.zeros(5, int)), k=3)
