"""Linear evaluation against the protocol by scikit-learn, one strength after another."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from star_head.evaluation import Encoder, Features, extract_features, linear, linear_probe
from star_head.evaluation.linear import Metric, accuracies
from star_head.evaluation.logistic import STRENGTHS
from star_head.examples.data.transfer_data import TransferData, load_transfer


def make_encoder(width: int = 24) -> Encoder:
    torch.manual_seed(0)
    backbone = torch.nn.Sequential(
        torch.nn.Conv2d(3, width, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1)
    )
    return Encoder(backbone, 16, {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]})


def split(encoder: Encoder, data: TransferData) -> tuple[Features, Features, Features]:
    """Features of the training, validation and test part."""
    both, test = (extract_features(encoder, images) for images in (data.train, data.test))
    count = data.train_count
    train, validation = (
        Features(both.features[rows], both.labels[rows])
        for rows in (slice(count), slice(count, None))
    )
    return train, validation, test


def make_folder(folder: Path, images: int = 10) -> Path:
    """Three classes of noise whose brightness differs by class."""
    rng = np.random.default_rng(0)
    for c in range(3):
        (folder / f"class{c}").mkdir(parents=True)
        for i in range(images):
            pixels = rng.integers(0, 100, size=(16, 16, 3)) + 30 * c
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"class{c}/{i}.png")
    return folder


@pytest.fixture
def digits(tmp_path: Path) -> TransferData:
    return load_transfer("digits", tmp_path)


@pytest.fixture
def few_strengths(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    strengths = STRENGTHS[::8]
    monkeypatch.setattr(linear, "STRENGTHS", strengths)
    return strengths


@pytest.mark.parametrize("metric", ["top-1", "mean per class"])
def test_equals_the_protocol(
    metric: Metric, digits: TransferData, few_strengths: list[float]
) -> None:
    score = accuracy_score if metric == "top-1" else balanced_accuracy_score
    train, validation, test = split(make_encoder(), digits)
    found = linear_probe(train, validation, test, metric=metric)

    labels = np.concatenate([train.labels, validation.labels])
    x, y = (
        np.insert(f.astype(np.float64), 24, 1, axis=1)
        for f in (np.concatenate([train.features, validation.features]), test.features)
    )
    count = len(train.labels)

    def predicted(strength: float, samples: int, queries: np.ndarray) -> np.ndarray:
        model = LogisticRegression(
            C=1 / (2 * strength), fit_intercept=False, solver="newton-cg", tol=1e-6, max_iter=1000
        )
        return model.fit(x[:samples], labels[:samples]).predict(queries)

    expected = {s: score(labels[count:], predicted(s, count, x[count:])) for s in few_strengths}
    assert found.by_strength == pytest.approx(expected, abs=0.0071)  # two of 287 images
    assert max(expected.values()) - min(expected.values()) > 0.1
    assert found.validation == max(found.by_strength.values()) == found.by_strength[found.strength]
    assert found.converged
    of_test = score(test.labels, predicted(found.strength, len(x), y))
    assert found.test == pytest.approx(of_test, abs=0.0056)  # two of 360
    assert found.convergence[0].startswith("6 of 6 strengths converged")
    assert found.convergence[1].startswith("1 of 1 strengths converged")


@pytest.mark.parametrize("seed", range(3))
def test_measures_are_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.choice(7, size=200, p=np.arange(1, 8) / 28)
    predicted = torch.from_numpy(
        np.where(rng.random((5, 200)) < 0.5, labels, rng.integers(7, size=(5, 200)))
    )
    for metric, score in (("top-1", accuracy_score), ("mean per class", balanced_accuracy_score)):
        found = accuracies(predicted, labels, 7, metric)
        assert found.tolist() == pytest.approx([score(labels, p) for p in predicted.numpy()])


def test_a_class_absent_from_a_split() -> None:
    predicted = torch.tensor([[0, 0, 3, 1]])
    labels = np.array([0, 0, 3, 3])
    with pytest.warns(
        UserWarning, match="2 of 4 classes have none of the 4 images to measure on, 1 "
    ):
        found = accuracies(predicted, labels, 4, "mean per class")
    assert found.tolist() == [0.75]


def test_of_equal_strengths_the_strongest(tmp_path: Path) -> None:
    """Of brightness alone, three far classes are told apart by all but the strongest."""
    folder = make_folder(tmp_path / "images")
    found = linear_probe(*split(make_encoder(), load_transfer("folder", folder)))
    best = [s for s, accuracy in found.by_strength.items() if accuracy == 1]
    assert len(best) > 10
    assert found.strength == max(best) < max(STRENGTHS)


# (test, validation, strength) of the script before its protocol became a function.
OLD: dict[Metric, tuple[float, float, float]] = {
    "top-1": (0.64, 0.8333333333333334, 177.82794100389228),
    "mean per class": (0.64, 0.8333333333333334, 177.82794100389228),
}


def test_what_the_script_gave_before() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 5
    features = (rng.normal(size=(5, 12))[labels] + 1.5 * rng.normal(size=(200, 12))).astype("f4")
    parts = [
        (features[rows], labels[rows]) for rows in (slice(120), slice(120, 150), slice(150, None))
    ]
    for metric, expected in OLD.items():
        found = linear_probe(*parts, metric=metric)
        assert (found.test, found.validation, found.strength) == pytest.approx(expected)


def test_arrays_tensors_and_halves_are_one_to_it(few_strengths: list[float]) -> None:
    x = torch.randn(60, 4)
    y = torch.arange(60) % 3
    x[:, 0] += y
    whole = [(x[:30], y[:30]), (x[30:45], y[30:45]), (x[45:], y[45:])]
    expected = linear_probe(*whole)
    assert linear_probe(*[(a.numpy(), b.numpy().astype(np.uint8)) for a, b in whole]) == expected
    assert linear_probe(*[[a.clone().requires_grad_(), b.int()] for a, b in whole]) == expected
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        found = linear_probe(*[(a.to(dtype), b) for a, b in whole])
        assert found.test == pytest.approx(expected.test, abs=0.14)


X, Y = GOOD = (np.random.default_rng(0).normal(size=(12, 3)), np.arange(12) % 3)


@pytest.mark.parametrize("part", ["train", "validation", "test"])
@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        (X, TypeError, "expected features (n, D) and labels (n,) as a pair, got a ndarray"),
        (
            (X[:, 0], Y),
            ValueError,
            "features: expected shape (n, D), not empty, got (12,)",
        ),
        ((X[:0], Y[:0]), ValueError, "not empty, got (0, 3)"),
        ((X[:, :0], Y), ValueError, "not empty, got (12, 0)"),
        ((X.astype(int), Y), TypeError, "features: expected floating point, got int64"),
        (
            (X.tolist(), Y),
            TypeError,
            "features: expected an array or a tensor, got a list",
        ),
        (
            (np.where(X[7, 1] == X, np.nan, X), Y),
            ValueError,
            "features: expected finite numbers, got nan or inf in row 7",
        ),
        ((X, Y[:5]), ValueError, "labels: expected shape (12,), a class for each row"),
        ((X, Y[:, None]), ValueError, "labels: expected shape (12,)"),
        ((X, Y * 1.0), TypeError, "labels: expected integers, got float64; number"),
        ((X, np.array(["a", "b", "c"] * 4)), TypeError, "labels: expected integers, got <U1"),
        (
            (X, Y - 1),
            ValueError,
            "labels: expected classes from 0, got -1 among them",
        ),
    ],
)
def test_bad_parts(part: str, given: object, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)) as raised:
        linear_probe(**(dict.fromkeys(("train", "validation", "test"), GOOD) | {part: given}))
    assert str(raised.value).startswith(part)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": (X[:, :2], Y)}, "test.features: expected width 3, as train's, got 2"),
        (
            {"validation": (X, Y + 1)},
            "validation.labels: expected classes of the training images, 0 to 2, got",
        ),
        (
            {"train": (X, 2 * Y)},
            "train.labels: expected all of the classes 0 to 4, got none of [1, 3]",
        ),
        ({"train": (X, Y + 10**12)}, "got none of [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...]"),
        ({"train": (X, 0 * Y)}, "train.labels: expected at least 2 classes"),
        ({"train": (np.ones((12, 3)), Y)}, "features: all 12 samples have the same"),
        ({"metric": "top-5"}, "metric: expected one of ('top-1', 'mean per class'), got 'top-5'"),
    ],
)
def test_parts_that_do_not_fit(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        linear_probe(**(dict.fromkeys(("train", "validation", "test"), GOOD) | change))
