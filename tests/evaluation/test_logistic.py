"""Logistic regression against scikit-learn and Newton's method."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional as F

from star_head.evaluation import _cross_entropy, _newton
from star_head.evaluation.logistic import STRENGTHS, fit_path, predict

SHAPES = [(40, 3, 2), (60, 5, 3), (90, 20, 4), (30, 50, 3), (200, 8, 7), (25, 1, 2)]


def make_data(n: int, d: int, c: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Correlated features of unlike scales and means, and labels that depend on them."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) * np.logspace(-1, 1, d)
    logits = features @ rng.normal(size=(d, c)) / features.std() + rng.gumbel(size=(n, c))
    labels = logits.argmax(1)
    labels[:c] = np.arange(c)
    return features + rng.normal(size=d), labels


def objective(weights: Tensor, features: np.ndarray, labels: np.ndarray, s: float) -> Tensor:
    """As REFERENCE.md has it, in float64."""
    with_ones = F.pad(torch.from_numpy(features).double(), (0, 1), value=1)
    loss = F.cross_entropy(with_ones @ weights.T, torch.from_numpy(labels), reduction="sum")
    return loss + s * weights.square().sum()


def newton(
    features: np.ndarray, labels: np.ndarray, classes: int, s: float, start: Tensor | None = None
) -> Tensor:
    """The minimum, the only one wherever it starts, by damped Newton steps, the Hessian whole."""
    shape = (classes, features.shape[1] + 1)

    def value(flat: Tensor) -> Tensor:
        return objective(flat.view(shape), features, labels, s)

    flat = torch.zeros(shape).flatten() if start is None else start.flatten()
    flat = flat.double()
    for _ in range(100):
        gradient = torch.func.grad(value)(flat)
        step = torch.linalg.solve(torch.func.hessian(value)(flat), gradient)
        if gradient @ step < 1e-16 * value(flat):  # near enough for the last step to be exact
            return (flat - step).view(shape)
        size = 1.0
        while value(flat - size * step) > value(flat) - 0.1 * size * gradient @ step:
            size /= 2
            if size < 1e-6:
                return flat.view(shape)
        flat = flat - size * step
    return flat.view(shape)


@pytest.mark.parametrize(("n", "d", "c"), SHAPES)
@pytest.mark.parametrize("strength", [1e-2, 1.0, 100.0])
def test_equals_newton(n: int, d: int, c: int, strength: float) -> None:
    features, labels = make_data(n, d, c)
    path = fit_path(features, labels, [strength], num_classes=c, tolerance=1e-15)
    expected = newton(features, labels, c, strength)
    assert path.weights.dtype == torch.float64
    assert path.converged.all()
    torch.testing.assert_close(path.weights[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("n", "d", "c"), [s for s in SHAPES if s[2] > 2])
def test_equals_scikit_learn(n: int, d: int, c: int) -> None:
    features, labels = make_data(n, d, c)
    strengths = [0.1, 1.0, 10.0]
    path = fit_path(features, labels, strengths, num_classes=c, tolerance=1e-15)
    with_ones = np.pad(features, ((0, 0), (0, 1)), constant_values=1)
    for strength, weights in zip(strengths, path.weights, strict=True):
        # Its penalty is |weights|^2 / (2 C).
        model = LogisticRegression(
            C=1 / (2 * strength), fit_intercept=False, tol=1e-10, max_iter=10_000
        ).fit(with_ones, labels)
        np.testing.assert_allclose(weights.numpy(), model.coef_, rtol=1e-3, atol=1e-4)
        np.testing.assert_array_equal(predict(weights, features), model.predict(with_ones))


@pytest.mark.parametrize(("n", "d", "c"), SHAPES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_whole_path_is_as_near_its_minima_as_it_says(
    n: int, d: int, c: int, dtype: type[np.floating]
) -> None:
    features, labels = make_data(n, d, c)
    features = features.astype(dtype)
    strengths = STRENGTHS[8::4]  # below, Newton needs more than float64
    path = fit_path(features, labels, strengths, num_classes=c)
    assert path.weights.dtype == torch.float32
    assert path.converged.all()
    for k, strength in enumerate(strengths):
        weights = path.weights[k].double().requires_grad_()
        found = objective(weights, features, labels, strength)
        (gradient,) = torch.autograd.grad(found, weights)
        minimum = newton(features, labels, c, strength, start=weights.detach())
        least = objective(minimum, features, labels, strength)
        assert found < least * (1 + 1e-3)
        bound = gradient.square().sum() / (4 * strength) / found
        assert bound < 1.1 * path.bounds[k] + 1e-4


@pytest.mark.parametrize("seed", range(3))
def test_the_weakest_penalties_on_features_of_one_sign(seed: int) -> None:
    """Where the estimate is at its worst: within 20 tolerances of the minimum, as a rule within."""
    features, labels = make_data(300, 20, 4, seed)
    features = np.maximum(features, 0).astype(np.float32)
    path = fit_path(features, labels, STRENGTHS, num_classes=4)
    least = fit_path(features.astype(np.float64), labels, STRENGTHS, num_classes=4, tolerance=1e-9)
    found, minima = (
        torch.stack([objective(w, features, labels, s) for w, s in zip(p, STRENGTHS, strict=True)])
        for p in (path.weights.double(), least.weights)
    )
    excess = found / minima - 1
    assert excess.min() > -1e-4
    assert excess.max() < 20e-4
    assert excess.quantile(0.75) < 1e-4


@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_in_chunks_equals_whole(
    dtype: type[np.floating], copied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, labels = make_data(300, 12, 5)
    np.save(tmp_path / "features.npy", features.astype(dtype))
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    strengths = [0.01, 1.0, 100.0]
    whole = fit_path(mapped, labels, strengths, num_classes=5, tolerance=1e-7)
    predicted = predict(whole.weights, mapped)
    assert predicted.shape == (3, 300)
    if not copied:
        monkeypatch.setattr(_cross_entropy, "_COPY_BYTES", 0)
    monkeypatch.setattr(_cross_entropy, "_CHUNK_SIZE", 1000)
    chunked = fit_path(mapped, labels, strengths, num_classes=5, tolerance=1e-7)
    for k, strength in enumerate(strengths):
        torch.testing.assert_close(
            objective(chunked.weights[k].double(), mapped, labels, strength),
            objective(whole.weights[k].double(), mapped, labels, strength),
            rtol=1e-5,
            atol=0,
        )
    torch.testing.assert_close(predict(whole.weights, mapped), predicted)


def test_order_of_strengths_and_start_do_not_matter() -> None:
    features, labels = make_data(80, 6, 3)
    strengths = [1.0, 0.01, 100.0, 0.1, 1.0]
    path = fit_path(features, labels, strengths, num_classes=3, tolerance=1e-12)
    for k, strength in enumerate(strengths):
        alone = fit_path(
            features,
            labels,
            [strength],
            num_classes=3,
            initial=torch.randn(3, 7),
            tolerance=1e-12,
        )
        torch.testing.assert_close(path.weights[k], alone.weights[0], rtol=1e-3, atol=1e-4)
    again = fit_path(features, labels, [0.1], num_classes=3, initial=path.weights[3])
    assert again.iterations.tolist() == [0]


def test_separable_classes_and_tiny_penalties() -> None:
    labels = np.arange(100) % 4
    features = np.eye(4, dtype=np.float32)[labels]
    features += np.random.default_rng(0).normal(size=features.shape).astype(np.float32) / 10
    path = fit_path(features, labels, STRENGTHS, num_classes=4)
    assert path.converged.all()
    assert "45 of 45" in path.summary()
    assert (predict(path.weights[0], features).numpy() == labels).all()


def test_says_what_has_not_converged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_newton, "_MAX_ITERATIONS", 1)
    features, labels = make_data(90, 20, 4)
    path = fit_path(features, labels, [1e-3, 1e9], num_classes=4)
    assert path.converged.tolist() == [False, True]
    assert "1 of 2 strengths converged, not 1.0e-03" in path.summary()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": np.ones((6, 2))}, "features: all 6 samples have the same"),
        ({"features": np.full((6, 2), np.nan)}, "features: expected finite"),
        ({"features": np.ones(6)}, "features: expected (n, D), got (6,)"),
        ({"features": np.ones((6, 2), int)}, "features: expected floating point, got int64"),
        (
            {"features": np.full((6, 2), 1e30, np.float32)},
            "features: expected finite numbers, with",
        ),
        ({"labels": np.array([0, 1, 2, 0, 1, 3])}, "labels: expected 0 to 2, got 0 to 3"),
        ({"labels": np.array([0, 1, 2, 0, 1, -1])}, "labels: expected 0 to 2, got -1 to 2"),
        ({"labels": np.array([0, 1, 1, 0, 1, 0])}, "labels: expected all of 3 classes, got none"),
        ({"labels": np.zeros(5, int)}, "labels: expected (6,), got (5,)"),
        ({"labels": np.zeros(6)}, "labels: expected integers, got float64"),
        ({"num_classes": 1}, "num_classes: expected at least 2, got 1"),
        ({"strengths": []}, "strengths: expected positive numbers"),
        ({"strengths": [1.0, 0.0]}, "strengths: expected positive numbers"),
        ({"initial": torch.zeros(3, 2)}, "initial: expected (3, 3), got (3, 2)"),
        ({"initial": torch.full((3, 3), torch.nan)}, "initial: expected finite"),
        ({"tolerance": 0.0}, "tolerance: expected more than 0, got 0.0"),
    ],
)
def test_bad_input(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {
        "features": np.random.default_rng(0).normal(size=(6, 2)),
        "labels": np.arange(6) % 3,
        "strengths": [1.0],
        "num_classes": 3,
    }
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        fit_path(**(arguments | change))


def test_features_too_small_to_tell_apart() -> None:
    """Nothing is divided by a curvature that is lost to rounding."""
    features, labels = make_data(60, 5, 3)
    path = fit_path((features * 1e-25).astype(np.float32), labels, [1e-3, 1.0], num_classes=3)
    assert path.weights.isfinite().all()


def test_predict_refuses_features_of_another_width() -> None:
    with pytest.raises(ValueError, match=r"features: expected \(n, 2\).*got \(5, 3\)"):
        predict(torch.zeros(3, 3), np.zeros((5, 3), np.float32))
