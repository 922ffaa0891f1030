"""What extract_features and measure_head take as a data set, and what they say of anything else."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightly.data import LightlyDataset
from PIL import Image
from saved_runs import last, save_run
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from star_head.evaluation import (
    Encoder,
    HeadMeasures,
    Trained,
    extract_features,
    few_shot,
    measure_head,
    open_encoder,
    open_trained,
    write_report,
)
from star_head.evaluation.preparation import EvaluationTransform

NORMALIZE = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}
LABELS = [0] * 5 + [1] * 5
TO_TENSOR = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
MODULE = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1))
ENCODER = Encoder(MODULE, 16, NORMALIZE)
PILS = [
    Image.fromarray(np.random.default_rng(i).integers(256, size=(20, 24, 3), dtype=np.uint8))
    for i in range(10)
]
PIXELS = torch.stack([v2.functional.pil_to_tensor(image) for image in PILS])  # uint8
FLOATS = PIXELS / 255


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    for i, (image, label) in enumerate(zip(PILS, LABELS, strict=True)):
        (root / "ab"[label]).mkdir(exist_ok=True)
        image.save(root / "ab"[label] / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    run = tmp_path_factory.mktemp("run")
    save_run(run)
    return open_trained(last(run))


@pytest.fixture(scope="module")
def measures(trained: Trained) -> HeadMeasures:
    return measure_head(trained, PILS, view_images=5, views=2)


def expected_features(prepare: Callable[[Any], torch.Tensor]) -> np.ndarray:
    with torch.no_grad():
        rows = [MODULE(prepare(image)[None]).flatten() for image in PILS]
    return torch.stack(rows).numpy()


def with_labels(images: Any) -> list[Any]:
    return list(zip(images, LABELS, strict=True))


# Of PIL images or uint8 tensors.
TAKEN_BY_AN_ENCODER: dict[str, Callable[[Path], Any]] = {
    "ImageFolder": ImageFolder,
    "LightlyDataset": lambda folder: LightlyDataset(str(folder)),
    "list": lambda _: with_labels(PILS),
    "tuple": lambda _: tuple(with_labels(PILS)),
    "lists": lambda _: [list(sample) for sample in with_labels(PILS)],
    "uint8 tensors": lambda _: with_labels(PIXELS),
    "TensorDataset": lambda _: TensorDataset(PIXELS, torch.tensor(LABELS)),
    "v2 images": lambda _: with_labels(v2.ToImage()(image) for image in PILS),
    "dictionaries": lambda _: [{"image": x, "label": y, "id": 7} for x, y in with_labels(PILS)],
    "NumPy labels": lambda _: [(x, np.uint8(y)) for x, y in with_labels(PILS)],
    "tensor labels": lambda _: [(x, torch.tensor(y)) for x, y in with_labels(PILS)],
}


@pytest.mark.parametrize("name", TAKEN_BY_AN_ENCODER)
def test_an_encoder_takes(name: str, folder: Path, tmp_path: Path) -> None:
    expected = expected_features(EvaluationTransform(16, NORMALIZE))
    for cache in (None, tmp_path, tmp_path):
        data_set = TAKEN_BY_AN_ENCODER[name](folder)
        found = extract_features(ENCODER, data_set, cache=cache, batch_size=4)
        np.testing.assert_allclose(found.features, expected, rtol=1e-4, atol=1e-5)
        assert found.labels.tolist() == LABELS


@pytest.mark.parametrize(
    "data_set",
    [
        lambda folder: ImageFolder(folder, TO_TENSOR),
        lambda folder: LightlyDataset(str(folder), transform=TO_TENSOR),
        lambda _: with_labels(FLOATS),
        lambda _: with_labels(FLOATS.double()),
        lambda _: TensorDataset(FLOATS, torch.tensor(LABELS)),
    ],
)
def test_a_module_takes_tensors_as_they_come(data_set: Any, folder: Path, tmp_path: Path) -> None:
    for cache in (None, tmp_path):
        found = extract_features(MODULE, data_set(folder), cache=cache)
        np.testing.assert_allclose(
            found.features, expected_features(TO_TENSOR), rtol=1e-4, atol=1e-5
        )
        assert found.labels.tolist() == LABELS
    found = extract_features(MODULE, with_labels(PILS), transform=TO_TENSOR)
    np.testing.assert_allclose(found.features, expected_features(TO_TENSOR), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "data_set",
    [
        PILS,
        PIXELS,
        [(image,) for image in PILS],
        [(image, None) for image in PILS],
        [(image, -1) for image in PILS],
        [{"image": image} for image in PILS],
        [{"image": image, "label": None} for image in PILS],
    ],
)
def test_images_without_labels_get_minus_one(data_set: Any) -> None:
    found = extract_features(ENCODER, data_set)
    assert found.labels.tolist() == [-1] * len(PILS)
    with pytest.raises(ValueError, match="leave 10 samples without a class out"):
        few_shot(found)


def extracting(encoder: Any = ENCODER, data_set: Any = PILS, **options: Any) -> Callable[[], Any]:
    return lambda: extract_features(encoder, data_set, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        # encoder
        (extracting("resnet18"), "encoder: .* got 'resnet18'; open_encoder('resnet18') opens it"),
        (extracting(nn.Flatten), "encoder: .* got the class Flatten; give an instance"),
        (extracting(nn.Conv2d(3, 4, 3), FLOATS), "encoder: .* got (10, 4, 18, 22); pool"),
        # data_set
        (extracting(data_set=None), "data_set: .* got None; a list of (image, label) is one"),
        (extracting(data_set="photos"), "data_set: .* got 'photos'; torchvision's ImageFolder"),
        (extracting(data_set=Path("photos")), "data_set: .* got a .*Path; .*ImageFolder(path)"),
        (extracting(data_set=iter(PILS)), "data_set: .* got a list_iterator; read it into a list"),
        (extracting(data_set=DataLoader(PILS)), "data_set: .* got a DataLoader; pass its .dataset"),
        (extracting(data_set={0: PILS[0]}), "data_set: .* got a dict of 0: Image; a list of"),
        (extracting(data_set=[]), "data_set: expected at least one image, got none"),
        (
            extracting(data_set=(PIXELS, torch.tensor(LABELS))),
            "data_set: .*.TensorDataset(images, labels) of tensors is one",
        ),
        (
            extracting(MODULE, [FLOATS.numpy(), np.array(LABELS)]),
            "data_set: .*.TensorDataset(images, labels) of tensors is one",
        ),
        # images
        (extracting(MODULE), "data_set: expected tensors .* got a Image as image 0; give"),
        (extracting(data_set=FLOATS), "image: .* got torch.float32 .* pass the module alone"),
        (extracting(data_set=["a.png"]), "image: .* got 'a.png'; PIL.Image.open reads one"),
        (
            extracting(data_set=[PILS[0], np.zeros((9, 9, 3), np.uint8)]),
            "image: .* got a ndarray; PIL.Image.fromarray makes one .* (image 1 of data_set)",
        ),
        (
            extracting(MODULE, [FLOATS[0], FLOATS[0, :, 1:]]),
            "data_set: expected images of one size, got (3, 19, 24) and (3, 20, 24); resize",
        ),
        # labels
        (
            extracting(data_set=[(PILS[0], "cat")]),
            "data_set: .* got 'cat' at 0; number the classes",
        ),
        (extracting(data_set=[(PILS[0], 1.0)]), "data_set: .* got 1.0 at 0; number the classes"),
        (extracting(data_set=[(PILS[0], True)]), "data_set: .* got True at 0; number the classes"),
        (extracting(data_set=[(PILS[0], torch.eye(2)[0])]), "data_set: .* shape (2,) at 0; number"),
        (extracting(data_set=[(PILS[0], -2)]), "data_set: .* got -2 at 0; number the classes"),
        (
            extracting(data_set=[(PILS[0], 2**63)]),
            "data_set: .* got 9223372036854775808 at 0; numb",
        ),
        (extracting(data_set=[{"img": PILS[0]}]), 'data_set: expected "image" .* got .*; rename'),
        (
            extracting(data_set=[{"image": PILS[0], "fine_label": 1, "coarse_label": 0}]),
            "data_set: .* as \"label\" .* got 'fine_label', 'coarse_label' at 0; rename the one",
        ),
        (extracting(data_set=[{"image": PILS[0], "target": 1}]), "data_set: .* got 'target' at 0"),
        # the others
        (extracting(transform=3), "transform: expected a function .* got 3"),
        (extracting(transform=np.array), "transform: .* got a ndarray of image 0; end it with"),
        (extracting(transform=v2.PILToTensor()), "transform: .* got torch.uint8 of image 0; end"),
        (extracting(batch_size=0), "batch_size: expected at least 1, got 0"),
        (extracting(num_workers=-1), "num_workers: expected at least 0, got -1"),
        (extracting(num_workers="2"), "num_workers: expected an integer, got '2'"),
        (extracting(cache=3), "cache: expected a path, got 3"),
        (extracting(cache=__file__), "cache: expected a folder, got the file .*test_data_sets.py"),
        (lambda: open_encoder(3), "source: expected a path, got 3"),
        (lambda: open_trained(None), "checkpoint: expected a path, got None"),
    ],
)
def test_what_is_wrong_is_said(call: Callable[[], Any], message: str) -> None:
    pattern = ".*".join(map(re.escape, message.split(".*")))
    with pytest.raises((TypeError, ValueError, NotADirectoryError), match=f"^{pattern}"):
        call()


@pytest.mark.parametrize("name", TAKEN_BY_AN_ENCODER)
def test_measure_head_takes(
    name: str, folder: Path, trained: Trained, measures: HeadMeasures
) -> None:
    data_set = TAKEN_BY_AN_ENCODER[name](folder)
    found = measure_head(trained, data_set, view_images=5, views=2)
    names = ("a", "b") if name == "ImageFolder" else ("0", "1")
    assert found.classes == [names[label] for label in LABELS]
    assert found.numbers["parameters"] == measures.numbers["parameters"]
    assert measures.classes is None


def test_classes_are_named_one_by_one(trained: Trained) -> None:
    class Several(list[Any]):
        classes = (("tench", "Tinca tinca"), "crane")

    found = measure_head(trained, Several(with_labels(PILS)), view_images=5, views=2)
    assert found.classes == ["tench, Tinca tinca"] * 5 + ["crane"] * 5


def test_images_of_which_some_have_no_label_are_warned_of(trained: Trained) -> None:
    data_set = [(x, -1 if i == 3 else y) for i, (x, y) in enumerate(with_labels(PILS))]
    with pytest.warns(UserWarning, match="1 of 10 images have no label"):
        assert measure_head(trained, data_set, view_images=5, views=2).classes is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trained": ENCODER}, "trained: .* got a Encoder of .*; open_trained opens a checkpoint"),
        ({"data_set": with_labels(FLOATS)}, "data_set: .* got torch.float32; .* without a transf"),
        ({"data_set": PILS[:5]}, "data_set: expected more than 5 images, got 5"),
        ({"views": 1}, "views: expected at least 2, got 1"),
        ({"view_images": 4}, "view_images: expected at least 5, got 4"),
        ({"seed": "a"}, "seed: expected an integer, got 'a'"),
        ({"seed": -1}, "seed: expected at least 0, got -1"),
        ({"class_names": ["a"]}, "class_names: expected a name for each of 2 classes, got 1"),
        ({"class_names": "ab"}, "class_names: expected a list of names, .* got 'ab'"),
        ({"class_names": {"a": 0, "b": 1}}, "class_names: expected a list of names, .* got a dict"),
        ({"class_names": [0, 1]}, "class_names: expected a list of names, .* got a list of 2"),
        ({"class_names": ["a", "a"]}, "class_names: expected a different name .* got 'a' more"),
    ],
)
def test_measure_head_says_what_is_wrong(
    options: dict[str, Any], message: str, trained: Trained
) -> None:
    given = {"trained": trained, "data_set": with_labels(PILS), "view_images": 5, "views": 2}
    test_what_is_wrong_is_said(lambda: measure_head(**given | options), message)


def test_write_report_says_what_is_wrong(
    trained: Trained, measures: HeadMeasures, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    other = measures._replace(seed=1)
    wrong: dict[str, Callable[[], Any]] = {
        'measures: .* got a HeadMeasures of .*; {"a name": measures} is one': lambda: write_report(
            measures,
            tmp_path / "report",
        ),
    }
    for given, message in (
        ([measures], "measures: expected a dictionary .* got a list of 1"),
        ({}, "measures: expected at least one head's, got an empty dictionary"),
        ({"a": trained}, "measures: .* got a Trained of .*; measure_head(trained, data_set)"),
        ({"a": measures.numbers}, "measures: .* got a dict of .* as 'a'; measure_head("),
        ({3: measures}, "measures: expected names as keys, got 3"),
        ({"a": measures, "b": other}, "measures: .* with one seed, got 10 images, .* seed 0, and"),
    ):
        wrong[message] = lambda given=given: write_report(given, tmp_path / "report")
    for options, message in (
        ({"folder": None}, "folder: expected a path, got None"),
        ({"folder": tmp_path / "file"}, "folder: expected a folder, got the file"),
        ({"held_out": "yes"}, "held_out: expected True, False or None, got 'yes'"),
        ({"dataset": 3}, "dataset: expected a name, got 3"),
    ):
        full = {"measures": {"a": measures}, "folder": tmp_path / "report"} | options
        wrong[message] = lambda full=full: write_report(**full)
    for message, call in wrong.items():
        test_what_is_wrong_is_said(call, message)
    assert not (tmp_path / "report").exists()
    assert "dataset" in write_report({"a": measures}, tmp_path / "report")
