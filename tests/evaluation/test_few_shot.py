"""Episodes and their solver, against scikit-learn episode by episode."""

import re
import warnings

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from star_head.evaluation import few_shot
from star_head.evaluation.few_shot import confidence_interval, draw_episodes, solve
from star_head.evaluation.one_vs_rest import decide

WAYS, QUERIES = 5, 16


def make_features(
    classes: int = 12, each: int = 30, width: int = 40
) -> tuple[torch.Tensor, np.ndarray]:
    centres = 0.4 * torch.randn(classes, 1, width)
    features = (centres + torch.randn(classes, each, width)).relu().flatten(0, 1)
    return features, np.repeat(np.arange(classes), each)


@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize("scale", [0.05, 1.0, 10.0])
def test_solves_liblinears_problem(shots: int, scale: float) -> None:
    features, labels = make_features()
    features = scale * features
    episodes = draw_episodes(labels, shots, 20, seed=1)
    accuracies = solve(features, episodes)
    for e in range(20):
        x, q = (features[indices[e].flatten()].double().numpy() for indices in episodes)
        y = np.repeat(np.arange(WAYS), shots)
        model = OneVsRestClassifier(LogisticRegression(solver="liblinear", tol=1e-10)).fit(x, y)
        values = decide(*(torch.from_numpy(t)[None] for t in (x, y, q)))[0]
        expected = np.stack([m.decision_function(q) for m in model.estimators_], axis=1)
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5 * scale)
        accuracy = (model.predict(q) == np.repeat(np.arange(WAYS), QUERIES)).mean()
        assert accuracies[e].item() == pytest.approx(accuracy, abs=1.5 / (WAYS * QUERIES))


def test_the_minimum_has_no_gradient() -> None:
    x, q = torch.randn(3, 10, 6), torch.randn(3, 4, 6)
    y = (torch.arange(10) % 3).expand(3, -1)
    values = decide(x, y, torch.cat([x, q], dim=1), strength=0.7)[:, :10]  # (3, 10, 3)
    targets = 2 * torch.nn.functional.one_hot(y, 3).double() - 1
    a = 0.7 * targets * torch.sigmoid(-targets * values)
    kernel = x.double() @ x.double().mT + 1
    torch.testing.assert_close(kernel @ a, values, rtol=1e-7, atol=1e-7)


def test_episodes_are_as_the_protocol_says() -> None:
    labels = np.repeat(np.arange(8), [40, 40, 40, 40, 40, 40, 9, 4])
    with pytest.warns(UserWarning, match="1 of 8 classes have no more than 5 images"):
        support, queries = draw_episodes(labels, 5, 300, seed=0)
    assert support.shape == (300, WAYS, 5)
    assert queries.shape == (300, WAYS, QUERIES)
    for s, q in zip(support, queries, strict=True):
        classes = labels[s[:, 0]]
        assert len(set(classes)) == WAYS
        assert 7 not in classes
        for way, c in enumerate(classes):
            assert (labels[s[way]] == c).all()
            assert (labels[q[way]] == c).all()
            assert len(set(s[way])) == 5
            assert not set(s[way]) & set(q[way])
            assert c == 6 or len(set(q[way])) == QUERIES  # of class 6, four are left to draw from
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = draw_episodes(labels, 5, 300, seed=0)
        other = draw_episodes(labels, 5, 300, seed=1)
    assert np.array_equal(again.queries, queries)
    assert not np.array_equal(other.queries, queries)


def test_tasks_that_cannot_be_solved() -> None:
    x, y = torch.randn(1, 4, 3), torch.tensor([[0, 1, 0, 1]])
    with pytest.raises(ValueError, match=r"expected shapes \(B, n, D\) and \(B, q, D\)"):
        decide(x, y, torch.randn(1, 4, 5))
    with pytest.raises(ValueError, match="labels: expected shape"):
        decide(x, y[:, :3], x)
    with pytest.raises(ValueError, match="each of 2 classes in each task"):
        decide(x, torch.ones(1, 4, dtype=torch.long), x)
    with pytest.raises(ValueError, match="finite features"):
        decide(x * torch.nan, y, x)


def test_confidence_interval() -> None:
    accuracies = torch.tensor([0.2, 0.4, 0.6, 0.8], dtype=torch.float64)
    assert confidence_interval(accuracies) == pytest.approx(1.96 * accuracies.std().item() / 2)


def test_what_the_script_gave_before() -> None:
    rng = np.random.default_rng(0)
    rng.normal(size=(5, 12)), rng.normal(size=(200, 12))  # drawn for the other measures' tests
    labels = np.arange(240) % 8
    features = (rng.normal(size=(8, 12))[labels] + 1.5 * rng.normal(size=(240, 12))).astype("f4")
    for shots, accuracy, interval in (
        (1, 0.4171875, 0.030473068645285067),
        (5, 0.5728125000000001, 0.02198162029080146),
    ):
        found = few_shot((features, labels), shots, 40, seed=3)
        assert found == pytest.approx((accuracy, interval), abs=1e-9)
        assert found == few_shot(
            (torch.from_numpy(features), torch.from_numpy(labels)), shots, 40, seed=3
        )


def test_other_tasks_than_five_ways() -> None:
    features, labels = make_features(classes=3, each=9)
    found = few_shot((features, labels), 2, 50, ways=3, queries=4)
    assert 1 / 3 < found.accuracy < 1
    drawn = draw_episodes(labels, 2, 50, ways=3, queries=4)
    assert drawn.queries.shape == (50, 3, 4)


GOOD = (np.random.default_rng(0).normal(size=(30, 3)), np.arange(30) % 6)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"features": GOOD[0]}, TypeError, "features: expected features (n, D) and labels (n,)"),
        ({"features": (GOOD[0], GOOD[1] - 1)}, ValueError, "features.labels: expected classes"),
        (
            {"features": (GOOD[0] * np.nan, GOOD[1])},
            ValueError,
            "features.features: expected",
        ),
        (
            {"features": (GOOD[0], np.minimum(GOOD[1], 3))},
            ValueError,
            "features: expected at least 5 classes of more than 1 images, got 4; take fewer",
        ),
        ({"ways": 7}, ValueError, "at least 7 classes of more than 1 images, got 6"),
        ({"ways": 1}, ValueError, "ways: expected at least 2, got 1"),
        ({"shots": 0}, ValueError, "shots: expected at least 1, got 0"),
        ({"queries": 0}, ValueError, "queries: expected at least 1, got 0"),
        ({"episodes": 1}, ValueError, "episodes: expected at least 2, got 1"),
        ({"episodes": 2.5}, TypeError, "episodes: expected an integer, got 2.5"),
    ],
)
def test_bad_input(change: dict[str, object], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        few_shot(**({"features": GOOD} | change))
