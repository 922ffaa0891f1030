"""Episodes and their solver, against scikit-learn episode by episode."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from running import output_of, run_here
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from star_head.adapters.timm import create_backbone, export_encoder
from star_head.evaluation.one_vs_rest import decide
from star_head.examples.few_shot import QUERIES, WAYS, confidence_interval, draw_episodes, solve


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


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="at least 5 classes of more than 1 images, got 4"):
        draw_episodes(np.repeat(np.arange(4), 9), 1, 2, seed=0)
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


def test_from_the_command_line(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for c in range(6):
        for i in range(8):
            path = tmp_path / f"images/class{c}/{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = 40 * c + generator.integers(30, size=(32, 32, 3))  # brightness tells them
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    torch.manual_seed(0)
    export_encoder(create_backbone("resnet10t"), tmp_path / "encoder", input_size=32)
    arguments = ["encoder", "images", "--episodes=60"]
    printed = output_of(run_here("examples/few_shot.py", *arguments, cwd=tmp_path))
    results = json.loads((tmp_path / "runs/few_shot.json").read_text())
    assert results["images"] == 48
    for shots in ("1-shot", "5-shot"):
        assert 0.3 < results[shots]["accuracy"] <= 1  # chance is 0.2
        assert results[shots]["95% interval"] < 0.1
        assert shots in printed
