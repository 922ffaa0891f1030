"""Data sets of few-shot classification, from stand-ins."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from running import output_of, run_here
from torchvision.datasets import CIFAR100

from star_head.adapters.timm import create_backbone, export_encoder
from star_head.examples.data import published
from star_head.examples.data.few_shot_data import load_few_shot
from star_head.examples.data.image_data import Images

# The superclass of each of CIFAR100's classes, as its files have it ("coarse_labels").
COARSE = [
    *(4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7),
    *(6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10),
    *(16, 4, 17, 4, 2, 0, 17, 4, 18, 17, 10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16),
    *(12, 9, 13, 15, 13, 16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13),
]


def write(root: Path, *names: str) -> None:
    """Images, each of another colour."""
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (20 * i % 256, 5 * i % 256, 0)).save(root / name)


def names(images: Images, root: Path) -> list[str]:
    return [str(images.source._path(i).relative_to(root)) for i in images.indices]


def test_fc100(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class StandIn(CIFAR100):
        def __init__(self, root: Path, train: bool, download: bool) -> None:
            random = np.random.default_rng(train)
            targets = random.permutation(np.arange(500 if train else 100) % 100)
            # The pixels say class and part.
            pixels = np.zeros((len(targets), 32, 32, 3), np.uint8)
            pixels[..., 0], pixels[..., 1] = targets[:, None, None], train
            self.data, self.targets = pixels, targets.tolist()

    assert len(COARSE) == 100
    assert np.bincount(COARSE).tolist() == [5] * 20
    monkeypatch.setattr(published, "CIFAR100", StandIn)
    images = load_few_shot("fc100", tmp_path)
    assert np.bincount(images.labels).tolist() == [6] * 20
    pixels = np.array([np.array(images[i][0])[0, 0] for i in range(len(images))])
    assert pixels[:, 1].sum() == 100  # five of six are training images
    classes = [set(pixels[images.labels == label, 0].tolist()) for label in range(20)]
    assert all(len(c) == 1 for c in classes)
    found = set.union(*classes)
    assert found == {c for c, coarse in enumerate(COARSE) if coarse in (0, 7, 12, 14)}


def test_cub200(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cub200 is not in .*images\nGet CUB_200_2011.tgz from"):
        load_few_shot("cub200", tmp_path)
    folder = tmp_path / "CUB_200_2011/images"
    write(folder, *(f"{c}/{c}_{i}.jpg" for c in ("002.Laysan", "001.Black") for i in range(3)))
    images = load_few_shot("cub200", tmp_path)
    assert images.labels.tolist() == [0] * 3 + [1] * 3
    assert names(images, folder)[0] == "001.Black/001.Black_0.jpg"


@pytest.mark.parametrize("held_out", ["test", "valid"])
def test_plant_disease(tmp_path: Path, held_out: str) -> None:
    folder = tmp_path / "plant_disease"
    classes = ("Apple___scab", "Tomato___healthy")
    write(folder, *(f"train/{c}/{i}.JPG" for c in classes for i in range(3)))
    with pytest.raises(ValueError, match=r"(?s)expected the same class .* found 2 .*kaggle"):
        load_few_shot("plant-disease", tmp_path)
    write(folder, f"{held_out}/{classes[0]}/1.JPG")
    with pytest.raises(ValueError, match="expected the same class folders"):
        load_few_shot("plant-disease", tmp_path)
    write(folder, f"{held_out}/{classes[1]}/1.JPG", f"{held_out}/{classes[1]}/2.JPG")
    if held_out == "valid":  # images without classes beside it
        write(folder, "test/test/a.JPG")
    images = load_few_shot("plant-disease", tmp_path)
    assert images.labels.tolist() == [0] * 3 + [1] * 3 + [0] + [1] * 2
    for name, label in zip(names(images, folder), images.labels, strict=True):
        assert name.split("/")[1] == classes[label]
    image, label = images[8]
    assert image.size == (8, 8)
    assert label == 1


def test_folders_that_do_not_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dataset: expected one of .*got 'omniglot'"):
        load_few_shot("omniglot", tmp_path)
    with pytest.raises(ValueError, match="plant_disease.* found 0 in the first"):
        load_few_shot("plant-disease", tmp_path)
    for part in ("train", "test"):
        (tmp_path / "plant_disease" / part / "Apple").mkdir(parents=True)
    with pytest.raises(ValueError, match="expected images in the class folders of .*train"):
        load_few_shot("plant-disease", tmp_path)
    write(tmp_path / "flat", "1.png", "2.png")
    with pytest.raises(ValueError, match="expected class folders in .*flat, found images without"):
        load_few_shot("folder", tmp_path / "flat")


def test_from_the_command_line(tmp_path: Path) -> None:
    folder = tmp_path / "data/CUB_200_2011/images"
    write(folder, *(f"00{c}.Bird/{i}.jpg" for c in range(5) for i in range(7)))
    torch.manual_seed(0)
    export_encoder(create_backbone("resnet10t"), tmp_path / "encoder", input_size=32)
    arguments = ["encoder", "data", "--dataset=cub200", "--episodes=4"]
    output_of(run_here("examples/few_shot.py", *arguments, cwd=tmp_path))
    results = json.loads((tmp_path / "runs/few_shot.json").read_text())
    assert (results["dataset"], results["images"]) == ("cub200", 35)
    assert 0 < results["5-shot"]["accuracy"] <= 1
