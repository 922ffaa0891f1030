"""Linear evaluation against the protocol by scikit-learn, one strength after another."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from running import output_of, run_here
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from star_head.adapters.timm import create_backbone, export_encoder
from star_head.evaluation.features import Features, extract
from star_head.evaluation.logistic import STRENGTHS
from star_head.evaluation.networks import Encoder
from star_head.examples import linear_eval
from star_head.examples.data import transfer_data
from star_head.examples.data.transfer_data import Metric, TransferData, load_transfer
from star_head.examples.linear_eval import PAPER, evaluate, main, means, measure


def make_encoder(width: int = 24) -> Encoder:
    torch.manual_seed(0)
    backbone = torch.nn.Sequential(
        torch.nn.Conv2d(3, width, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1)
    )
    return Encoder(backbone, 16, {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]})


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
    monkeypatch.setattr(linear_eval, "STRENGTHS", strengths)
    return strengths


@pytest.mark.parametrize("metric", ["top-1", "mean per class"])
def test_equals_the_protocol(
    metric: Metric, digits: TransferData, few_strengths: list[float], tmp_path: Path
) -> None:
    data = digits._replace(metric=metric)
    score = accuracy_score if metric == "top-1" else balanced_accuracy_score
    encoder = make_encoder()
    found = evaluate(encoder, data, cache=tmp_path)

    train, test = (extract(encoder, images, cache=tmp_path) for images in (data.train, data.test))
    x, y = (np.insert(f.features.astype(np.float64), 24, 1, axis=1) for f in (train, test))
    count = data.train_count

    def predicted(strength: float, samples: int, queries: np.ndarray) -> np.ndarray:
        model = LogisticRegression(
            C=1 / (2 * strength), fit_intercept=False, solver="newton-cg", tol=1e-6, max_iter=1000
        )
        return model.fit(x[:samples], train.labels[:samples]).predict(queries)

    validation = [
        score(train.labels[count:], predicted(s, count, x[count:])) for s in few_strengths
    ]
    assert found.validation == pytest.approx(validation, abs=0.0071)  # two of 287 images
    assert max(validation) - min(validation) > 0.1
    assert found.validation[few_strengths.index(found.strength)] == max(found.validation)
    expected = score(test.labels, predicted(found.strength, len(x), y))
    assert found.test == pytest.approx(expected, abs=0.0056)  # two of 360
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
        found = measure(predicted, labels, 7, metric)
        assert found.tolist() == pytest.approx([score(labels, p) for p in predicted.numpy()])


def test_a_class_absent_from_a_split() -> None:
    predicted = torch.tensor([[0, 0, 3, 1]])
    labels = np.array([0, 0, 3, 3])
    with pytest.warns(
        UserWarning, match="2 of 4 classes have none of the 4 images to measure on, 1 "
    ):
        found = measure(predicted, labels, 4, "mean per class")
    assert found.tolist() == [0.75]


def test_of_equal_strengths_the_strongest(tmp_path: Path) -> None:
    """Of brightness alone, three far classes are told apart by all but the strongest."""
    folder = make_folder(tmp_path / "images")
    found = evaluate(make_encoder(), load_transfer("folder", folder), cache=tmp_path / "cache")
    best = [s for s, a in zip(STRENGTHS, found.validation, strict=True) if a == 1]
    assert len(best) > 10
    assert found.strength == max(best) < max(STRENGTHS)


def test_means() -> None:
    accuracies = dict.fromkeys(PAPER, 0.5) | {"digits": 1.0, "pets": 0.7}
    assert means(accuracies) == pytest.approx(
        {"12 here": (10 * 0.5 + 1.7) / 12, "the paper's 11": 5.7 / 11}
    )
    del accuracies["cars"]
    assert means(accuracies) == pytest.approx({"11 here": (9 * 0.5 + 1.7) / 11})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: np.ones_like(f), "features: all 1150 samples have the same"),
        (lambda f: np.where(f == f.max(), np.inf, f), "features: expected finite numbers"),
        (lambda f: np.where(f == f.max(), np.nan, f), "features: expected finite numbers"),
    ],
)
def test_features_without_use(
    spoil: object,
    message: str,
    digits: TransferData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def spoilt(*args: object, **kwargs: object) -> Features:
        found = extract(*args, **kwargs)
        return found._replace(features=spoil(found.features))

    monkeypatch.setattr(linear_eval, "extract", spoilt)
    with pytest.raises(ValueError, match=message):
        evaluate(make_encoder(), digits, cache=tmp_path)


def test_goes_on_after_a_data_set_that_fails(
    few_strengths: list[float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.manual_seed(0)
    export_encoder(create_backbone("resnet10t"), tmp_path / "encoder", input_size=32)
    monkeypatch.setattr(transfer_data, "available", lambda _: ["pets", "digits"])
    with pytest.raises(SystemExit, match="not measured: pets"):
        main(
            str(tmp_path / "encoder"),
            tmp_path,
            cache=tmp_path / "cache",
            output=tmp_path / "results.json",
        )
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results["datasets"]) == ["digits"]
    assert "not measured: data_dir: pets lacks" in capsys.readouterr().out
    with pytest.raises(ValueError, match="data_dir: pets lacks"):
        main(str(tmp_path / "encoder"), tmp_path, "pets")


def test_from_the_command_line(tmp_path: Path) -> None:
    torch.manual_seed(0)
    export_encoder(create_backbone("resnet10t"), tmp_path / "encoder", input_size=32)
    printed = output_of(
        run_here(
            "examples/linear_eval.py", "encoder", "--dataset=digits", "--half=true", cwd=tmp_path
        )
    )
    results = json.loads((tmp_path / "runs/linear_eval.json").read_text())
    assert list(results["datasets"]) == ["digits"]
    found = results["datasets"]["digits"]
    assert (found["train"], found["validation"], found["test"]) == (1150, 287, 360)
    assert 0.8 < found["accuracy"] <= 1
    assert len(found["validation accuracies"]) == 45
    assert results["mean"] == {"1 here": found["accuracy"]}
    assert "45 of 45 strengths converged" in printed
    assert f"mean of 1 here: {100 * found['accuracy']:.2f}" in printed


def test_a_named_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    export_encoder(create_backbone("resnet10t"), tmp_path / "encoder", input_size=32)
    encoder = str(tmp_path / "encoder")
    for dataset in ("all", "digits", "cifar10", "folder", "imagenet100", "food101", "stl10"):
        with pytest.raises(ValueError, match=f"data_dir: expected a folder .*got {missing}"):
            main(encoder, missing, dataset)
    assert not missing.exists()
    with pytest.raises(ValueError, match=f"data_dir: none of cifar10, .* lies in {tmp_path}; .*"):
        main(encoder, tmp_path)
