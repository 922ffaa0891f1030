"""The nearest-neighbour script: several k at once, and what it writes."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from running import output_of, run_here
from sklearn.neighbors import KNeighborsClassifier

from star_head.adapters.timm import create_backbone, export_encoder
from star_head.evaluation import Encoder, extract_features
from star_head.examples.data.transfer_data import load_transfer
from star_head.examples.knn_eval import evaluate, main


def make_encoder(width: int = 24) -> Encoder:
    backbone = torch.nn.Sequential(
        torch.nn.Conv2d(3, width, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1)
    )
    return Encoder(backbone, 16, {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]})


def test_one_neighbour_is_scikit_learns(tmp_path: Path) -> None:
    data = load_transfer("digits", tmp_path)
    encoder = make_encoder()
    found = evaluate(encoder, data, (1,), cache=tmp_path)
    train, test = (
        extract_features(encoder, images, cache=tmp_path) for images in (data.train, data.test)
    )
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
