"""Nearest neighbours, against lightly's own and a loop."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from lightly.utils.benchmarking import knn_predict
from lightly.utils.benchmarking.topk import mean_topk_accuracy
from PIL import Image
from running import output_of, run_here
from sklearn.neighbors import KNeighborsClassifier
from torch.nn.functional import normalize

from star_head.adapters.timm import create_backbone, export_encoder
from star_head.evaluation.features import extract
from star_head.evaluation.networks import Encoder
from star_head.examples import knn_eval
from star_head.examples.data.transfer_data import load_transfer
from star_head.examples.knn_eval import evaluate, find_neighbours, main, rank_truth

CPU = torch.device("cpu")


def make_encoder(width: int = 24) -> Encoder:
    backbone = torch.nn.Sequential(
        torch.nn.Conv2d(3, width, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1)
    )
    return Encoder(backbone, 16, {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]})


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
    nearest = find_neighbours(train, test, k, CPU)
    ranks = rank_truth(
        nearest.similarities, labels[nearest.indices], truth, 8, temperature=temperature
    )
    for query, right, rank in zip(test, truth.tolist(), ranks.tolist(), strict=True):
        _, order = by_loop(train, labels.numpy(), query, 8, k, temperature)
        assert rank == (order.index(right) if right in order else 8)


@pytest.mark.parametrize(("k", "temperature"), [(20, 0.1), (200, 0.1), (200, 0.07)])
def test_equals_lightlys(k: int, temperature: float) -> None:
    (train, labels), (test, truth) = make_features(600, noise=3.0), make_features(300, noise=3.0)
    nearest = find_neighbours(train, test, k, CPU)
    votes = labels[nearest.indices]
    ranks = rank_truth(nearest.similarities, votes, truth, 8, temperature)
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
    monkeypatch.setattr(knn_eval, "_TRAIN_CHUNK", train_chunk)
    monkeypatch.setattr(knn_eval, "_TEST_CHUNK", test_chunk)
    nearest = find_neighbours(train, test, 25, CPU)
    bank, queries = (normalize(torch.from_numpy(x)) for x in (train, test))
    expected = (queries @ bank.T).topk(25)
    torch.testing.assert_close(nearest.similarities, expected.values)
    assert torch.equal(nearest.indices, expected.indices)
    ranks = rank_truth(nearest.similarities, labels[nearest.indices], truth, 8, 0.1)
    monkeypatch.undo()
    whole = rank_truth(nearest.similarities, labels[nearest.indices], truth, 8, 0.1)
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


def test_one_neighbour_is_scikit_learns(tmp_path: Path) -> None:
    data = load_transfer("digits", tmp_path)
    encoder = make_encoder()
    found = evaluate(encoder, data, (1,), cache=tmp_path)
    train, test = (extract(encoder, images, cache=tmp_path) for images in (data.train, data.test))
    classifier = KNeighborsClassifier(n_neighbors=1, metric="cosine")
    classifier.fit(train.features, train.labels)
    score = classifier.score(test.features, test.labels)
    assert found == {"k=1": {"top-1": pytest.approx(score), "top-5": pytest.approx(score)}}
    assert score > 0.3


def test_more_neighbours_than_images(tmp_path: Path) -> None:
    for c in range(3):
        for i in range(10):
            path = tmp_path / f"images/class{c}/{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (80 * c, 10 * i, 50)).save(path)
    data = load_transfer("folder", tmp_path / "images")
    with pytest.warns(UserWarning, match="k: 200 is cut to the 24 training images"):
        found = evaluate(make_encoder(), data, (1, 20, 200), cache=tmp_path / "cache")
    assert list(found) == ["k=1", "k=20", "k=24"]
    assert all(list(accuracies) == ["top-1"] for accuracies in found.values())


def test_bad_input(tmp_path: Path) -> None:
    for k in ((), (0, 5)):
        with pytest.raises(ValueError, match="k: expected numbers of at least 1, got"):
            main("resnet18", tmp_path, "digits", k)
    with pytest.raises(ValueError, match="temperature: expected more than 0, got 0"):
        main("resnet18", tmp_path, "digits", temperature=0)
    with pytest.raises(ValueError, match="all 30 training images have the same features"):
        find_neighbours(np.ones((30, 4), np.float16), np.ones((2, 4), np.float16), 3, CPU)
    different_at_last = np.ones((30, 4), np.float32)
    different_at_last[-1, -1] = 2
    find_neighbours(different_at_last, np.ones((2, 4), np.float32), 3, CPU)


def test_from_the_command_line(tmp_path: Path) -> None:
    torch.manual_seed(0)
    export_encoder(create_backbone("resnet10t"), tmp_path / "encoder", input_size=32)
    arguments = ["encoder", "--dataset=digits", "--k=[1,5,20]", "--half=true"]
    printed = output_of(run_here("examples/knn_eval.py", *arguments, cwd=tmp_path))
    results = json.loads((tmp_path / "runs/knn_eval.json").read_text())
    assert list(results["datasets"]) == ["digits"]
    digits = results["datasets"]["digits"]
    assert (digits["train"], digits["test"]) == (1437, 360)
    for k in (1, 5, 20):
        top1, top5 = digits[f"k={k}"].values()
        assert 0.5 < top1 <= top5 <= 1
        assert f"{k:6}{100 * top1:8.2f}{100 * top5:8.2f}" in printed


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
