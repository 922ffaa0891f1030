"""Batches as people have them: with and without labels, with indices, in dictionaries."""

import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightly.transforms import SimCLRTransform
from lightning.pytorch import Trainer
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from star_head import STAR, STARProjectionHead, STARViews
from star_head.adapters.callbacks import NearestNeighbours
from star_head.adapters.device import BatchTransform, RecordedImages, RecordingTransform, collate
from star_head.adapters.lightly import STARTransform
from star_head.adapters.lightning import STARModule

TRANSFORM = STARTransform(16)
IMAGE = Image.new("RGB", (20, 24))


def recorded(size: tuple[int, int] = (24, 20)) -> RecordedImages:
    return RecordingTransform(TRANSFORM)(torch.zeros(3, *size, dtype=torch.uint8))


def check(batch: Any, count: int = 3) -> None:
    assert isinstance(batch, RecordedImages)
    assert BatchTransform(TRANSFORM)(batch).views[1].shape == (count, 3, 16, 16)


def test_collate_of_samples_in_any_form() -> None:
    check(collate([recorded() for _ in range(3)]))
    check(collate([recorded((24, 20 + i)) for i in range(3)]))
    (alone,) = collate([(recorded(),) for _ in range(3)])
    check(alone)
    images, labels, indices, names = collate([(recorded(), i, 7 - i, f"{i}.png") for i in range(3)])
    check(images)
    assert (labels.tolist(), indices.tolist()) == ([0, 1, 2], [7, 6, 5])
    assert list(names) == ["0.png", "1.png", "2.png"]
    batch = collate([{"image": recorded(), "label": i} for i in range(3)])
    check(batch["image"])
    assert batch["label"].tolist() == [0, 1, 2]
    labels, images = collate([[i, recorded()] for i in range(3)])
    check(images)
    images, labels = collate([(recorded(), None) for _ in range(3)])
    check(images)
    assert labels is None


@pytest.mark.parametrize(
    ("sample", "came"),
    [
        (lambda: (TRANSFORM(torch.zeros(3, 24, 20, dtype=torch.uint8)), 0), "a tuple of 2 .STARV"),
        (lambda: TRANSFORM(torch.zeros(3, 24, 20, dtype=torch.uint8)), "a STARViews of original"),
        (lambda: (torch.zeros(3, 4, 4), 0), "a tuple of 2 .a tensor of shape"),
        (lambda: torch.zeros(3, 4, 4), "a tensor of shape"),
        (lambda: {"image": torch.zeros(3, 4, 4)}, "a dict of image: a tensor"),
        (lambda: (recorded(), recorded()), "a tuple of 2 .RecordedImages, RecordedImages"),
        (lambda: (), "an empty tuple"),
        (lambda: None, "None"),
    ],
)
def test_collate_of_what_is_not_recorded(sample: Any, came: str) -> None:
    with pytest.raises(TypeError, match=f"samples: expected recorded images, alone .*got {came}"):
        collate([sample(), sample()])


def fit(
    form: Callable[[STARViews], Any],
    validation: Any = None,
    batch_size: int = 4,
    labelled: bool = True,
) -> None:
    """Train a step on samples of a form, and look at validation batches of another."""
    torch.manual_seed(0)
    star = STAR(nn.Flatten(), STARProjectionHead(768, 8, 4, num_experts=2, statistics="stl10"))
    image = torch.randint(256, (3, 24, 20), dtype=torch.uint8)
    samples: Any = [form(TRANSFORM(image)) for _ in range(4)]
    loaders = None
    if validation is not None:
        bank: Any = [validation(torch.rand(3, 16, 16), i) for i in range(4)]
        loaders = [DataLoader(bank, batch_size=4)] * 2
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[NearestNeighbours("star.backbone")] if loaders else [],
    )
    module = STARModule(star, batch_size=batch_size)
    trainer.fit(module, DataLoader(samples, batch_size=4), loaders)
    assert module.global_step == 1
    if validation is not None and labelled:
        assert trainer.callback_metrics["knn_accuracy"] == 1
    else:
        assert "knn_accuracy" not in trainer.callback_metrics


@pytest.mark.parametrize(
    "form",
    [
        lambda views: views,
        lambda views: (views,),
        lambda views: (views, 3, 17),
        lambda views: (3, views),
        lambda views: {"views": views, "label": 3},
        lambda views: ((views, 3), "cat.png"),
    ],
)
def test_training_batches_in_any_form(form: Callable[[STARViews], Any]) -> None:
    fit(form)


@pytest.mark.parametrize(
    ("form", "came"),
    [
        (lambda v: (torch.rand(3, 16, 16), 3), r"a list of 2 \(a tensor of shape \(4, 3, 16, 16\)"),
        (
            lambda v: (SimCLRTransform(16)(IMAGE), 3),
            r"a list of 2 \(list, a tensor of shape \(4,\)",
        ),
        (lambda v: (tuple(v), 3), "a list of 2 .list, a tensor"),
        (lambda v: {"image": v.original}, "a dict of image: a tensor of shape"),
        (lambda v: (v, v), "a list of 2 .STARViews, STARViews"),
        (lambda v: recorded((16, 16)), "a RecordedImages of images"),
    ],
)
def test_training_batches_without_views(form: Callable[[STARViews], Any], came: str) -> None:
    with pytest.raises(TypeError, match=f"batch: expected one STARViews.*got {came}.*STARTransf"):
        fit(form)


@pytest.mark.parametrize(
    "validation",
    [
        lambda image, label: (image, label),
        lambda image, label: (image, label, 17, "cat.png"),
        lambda image, label: {"image": image, "label": label, "index": 17},
        lambda image, label: {"pixel_values": image, "target": label},
    ],
)
def test_validation_batches_in_any_form(validation: Callable[..., Any]) -> None:
    fit(lambda views: views, validation)


@pytest.mark.parametrize(
    "validation",
    [
        lambda image, label: image,
        lambda image, label: (image,),
        lambda image, label: {"image": image, "index": label},
        lambda image, label: (image, -1),
    ],
)
def test_validation_batches_without_labels_have_no_accuracy(validation: Callable[..., Any]) -> None:
    with pytest.warns(UserWarning, match="left out: bank: 4 of 4 images have no label"):
        fit(lambda views: views, validation, labelled=False)


@pytest.mark.parametrize(
    "validation",
    [
        lambda image, label: image[0],
        lambda image, label: (label, image),
        lambda image, label: {"image": image, "view": image, "label": label},
        lambda image, label: STARViews(image, (image, image), (image, image)),
    ],
)
def test_validation_batches_that_cannot_be_told(validation: Callable[..., Any]) -> None:
    message = r"left out: TypeError: batch: expected images \(B, 3, S, S\) .* labels \(B,\)"
    with pytest.warns(UserWarning, match=message):
        fit(lambda views: views, validation, labelled=False)


@pytest.mark.parametrize(
    ("label", "error", "came"),
    [
        (lambda i: F.one_hot(torch.tensor(i), 4), ValueError, r"int64 of shape \(4, 4\).*argmax"),
        (
            lambda i: F.one_hot(torch.tensor(i), 4).float(),
            ValueError,
            r"float32 .*\(4, 4\).*argmax",
        ),
        (lambda i: torch.rand(4).softmax(0), ValueError, r"float32 of shape \(4, 4\)"),
        (lambda i: torch.tensor([i]), ValueError, r"int64 of shape \(4, 1\); labels.squeeze\(1\)"),
        (lambda i: torch.rand(3, 16, 16), ValueError, r"float32 of shape \(4, 3, 16, 16\)"),
        (lambda i: torch.tensor(i > 1), TypeError, r"bool of shape \(4,\); labels.long"),
        (lambda i: float(i), TypeError, r"float64 of shape \(4,\); labels.long"),
        (lambda i: torch.tensor(i + 0j), TypeError, "complex64"),
        (lambda i: i - 2, ValueError, r"-2 among torch.int64 of shape \(4,\)"),
        (lambda i: "cat", TypeError, r"a (list|tuple) of 4 \(str"),
        (lambda i: {"class": i, "box": 3}, TypeError, "a dict of class: a tensor"),
    ],
)
@pytest.mark.parametrize("named", [False, True])
def test_labels_that_are_no_class_of_each_image(
    label: Callable[[int], Any], error: type[Exception], came: str, named: bool
) -> None:
    message = (
        rf"{error.__name__}: labels: expected a class for each image, integers from 0 .*{came}"
    )

    def validation(image: torch.Tensor, i: int) -> Any:
        return {"image": image, "label": label(i)} if named else (image, label(i))

    with pytest.warns(UserWarning, match=message):
        fit(lambda views: views, validation, labelled=False)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_labels_of_any_integer_dtype(dtype: torch.dtype) -> None:
    fit(lambda views: views, lambda image, i: (image, torch.tensor(i, dtype=dtype)))


def test_batches_of_another_size_than_the_modules_are_said_once() -> None:
    def warned(batch_size: int) -> list[str]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fit(lambda views: views, batch_size=batch_size)
        return [str(w.message) for w in caught if "batch_size: the loader" in str(w.message)]

    assert warned(4) == []
    (message,) = warned(256)
    assert re.search("4 images on each of 1 processes are 4 together", message)
    assert re.search(r"now 0.03, .*STARModule\(batch_size=256\); give batch_size=4$", message)


@pytest.mark.parametrize("star", [nn.Flatten(), STAR, None, STARProjectionHead(8, 8, 4)])
def test_a_module_is_made_of_star(star: Any) -> None:
    with pytest.raises(TypeError, match=r"star: expected STAR\(backbone, head\), got"):
        STARModule(star)
