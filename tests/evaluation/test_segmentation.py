"""Segmentation by frozen features: against loops, resumed, and what it refuses."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor, nn

from star_head.evaluation import segmentation_probe, spatial_features
from star_head.evaluation.preparation import Encoder

NORMALIZE = {"mean": [0.5] * 3, "std": [0.25] * 3}
COLOURS = np.array([[250, 10, 10], [10, 250, 10], [10, 10, 250]], np.uint8)


class Pixels(nn.Module):
    """A backbone whose features are the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward_intermediates(self, images: Tensor, **_: Any) -> list[Tensor]:
        return [images]


def encoder(side: int = 16) -> Encoder:
    return Encoder(Pixels(), side, NORMALIZE)


def blocks(count: int, size: tuple[int, int] = (16, 16), seed: int = 0) -> list[tuple]:
    """Images of blocks in three colours; the colour is the class."""
    generator = np.random.default_rng(seed)
    samples = []
    for _ in range(count):
        coarse = generator.integers(0, 3, (4, 4))
        mask = coarse.repeat(size[0] // 4, axis=0).repeat(size[1] // 4, axis=1)
        samples.append((Image.fromarray(COLOURS[mask]), mask))
    return samples


def by_loops(path: Path, test: list[tuple], side: int, ignore: int) -> tuple[float, float]:
    """Mean IoU and pixel accuracy of the head in a checkpoint, pixel by pixel."""
    state = torch.load(path, weights_only=True)["model"]
    both, either, right, counted = [0] * 3, [0] * 3, 0, 0
    for image, mask in test:
        resized = image.resize((side, side), Image.Resampling.BICUBIC)
        x = torch.tensor(np.array(resized)).double().permute(2, 0, 1) / 255
        x = (x - 0.5) / 0.25
        mean, var = state["0.running_mean"].double(), state["0.running_var"].double()
        x = (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
        weight, bias = state["1.weight"].double()[:, :, 0, 0], state["1.bias"].double()
        logits = torch.einsum("kc,chw->khw", weight, x) + bias[:, None, None]
        logits = nn.functional.interpolate(logits[None], size=mask.shape, mode="bilinear")[0]
        for row in range(mask.shape[0]):
            for column in range(mask.shape[1]):
                truth, found = int(mask[row, column]), int(logits[:, row, column].argmax())
                if truth == ignore:
                    continue
                counted += 1
                right += truth == found
                for c in range(3):
                    both[c] += truth == c == found
                    either[c] += c in (truth, found)
    iou = [b / e for b, e in zip(both, either, strict=True) if e]
    return sum(iou) / len(iou), right / counted


@pytest.mark.parametrize(("epochs", "ignored"), [(1, False), (3, True)])
def test_measures_equal_loops(tmp_path: Path, epochs: int, ignored: bool) -> None:
    train, test = blocks(12), blocks(3, (20, 32), 1)
    if ignored:
        for _, mask in train + test:
            mask[:5] = 255
    found = segmentation_probe(
        encoder(),
        train,
        test,
        num_classes=3,
        epochs=epochs,
        batch_size=5,
        learning_rate=0.05,
        num_workers=0,
        checkpoint=tmp_path / "head.ckpt",
    )
    iou, accuracy = by_loops(tmp_path / "head.ckpt", test, 16, 255)
    assert found.mean_iou == pytest.approx(iou, abs=0.01)
    assert found.pixel_accuracy == pytest.approx(accuracy, abs=0.01)


@pytest.mark.parametrize("head", ["linear", "conv"])
def test_learns_what_features_tell(head: Any) -> None:
    found = segmentation_probe(
        encoder(),
        blocks(24),
        blocks(6, seed=1),
        num_classes=4,
        head=head,
        epochs=8,
        batch_size=8,
        learning_rate=0.05,
        num_workers=0,
    )
    assert found.pixel_accuracy > 0.97
    assert found.mean_iou > 0.9
    assert math.isnan(found.iou[3])  # a class that nothing has


def test_features_of_a_cnn_and_of_a_transformer() -> None:
    images = torch.randn(2, 3, 160, 160)
    cnn = timm.create_model("test_resnet").eval()
    torch.testing.assert_close(spatial_features(cnn, images), cnn.forward_features(images))
    vit = timm.create_model("test_vit").eval()
    tokens = vit.forward_features(images)[:, vit.num_prefix_tokens :]
    found = spatial_features(vit, images)
    assert found.shape == (2, tokens.shape[2], 10, 10)
    for row in range(10):
        for column in range(10):
            torch.testing.assert_close(found[:, :, row, column], tokens[:, 10 * row + column])


def test_the_encoder_stays_and_random_numbers_too() -> None:
    backbone = timm.create_model("test_resnet").train()
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    segmentation_probe(
        Encoder(backbone, 32, NORMALIZE), blocks(4), blocks(2), num_classes=3, epochs=1
    )
    assert torch.equal(torch.rand(1), expected)
    assert backbone.training
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(parameter.grad is None for parameter in backbone.parameters())


class BreaksOff(list):
    """A data set whose reading ends at some sample."""

    left = 30

    def __getitem__(self, index: Any) -> Any:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt
        return super().__getitem__(index)


def test_an_interrupted_training_ends_as_if_it_were_not(tmp_path: Path) -> None:
    common: dict[str, Any] = {"num_classes": 3, "epochs": 4, "batch_size": 4, "num_workers": 0}
    whole = segmentation_probe(encoder(), blocks(12), blocks(4), **common)
    path = tmp_path / "head.ckpt"
    with pytest.raises(KeyboardInterrupt):
        segmentation_probe(encoder(), BreaksOff(blocks(12)), blocks(4), **common, checkpoint=path)
    assert torch.load(path, weights_only=True)["epoch"] == 2
    assert segmentation_probe(encoder(), blocks(12), blocks(4), **common, checkpoint=path) == whole
    # All done: nothing is trained.
    assert segmentation_probe(encoder(), blocks(12), blocks(4), **common, checkpoint=path) == whole
    with pytest.raises(ValueError, match="checkpoint: .* is of a training with .*; delete it"):
        segmentation_probe(
            encoder(), blocks(12), blocks(4), **common | {"epochs": 5}, checkpoint=path
        )


IMAGE, MASK = blocks(1)[0]


@pytest.mark.parametrize(
    ("sample", "error", "message"),
    [
        ((IMAGE, MASK + 7), ValueError, r"classes from 0 to 2 and 255 for none, got \[7, 8, 9\]"),
        ((IMAGE, MASK - 1), ValueError, r"got \[-1\] in the mask of sample 0"),
        ((IMAGE, MASK[:8]), ValueError, r"mask of its image's size, \(16, 16\), got \(8, 16\)"),
        ((IMAGE, MASK.astype(float)), TypeError, r"train: expected a mask of integers \(H, W\)"),
        ((IMAGE, IMAGE), TypeError, "mask of one channel, whose values are classes, got mode RGB"),
        (IMAGE, TypeError, r"train: expected \(image, mask\)"),
    ],
)
def test_bad_masks(sample: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        segmentation_probe(encoder(), [sample], blocks(1), num_classes=3, num_workers=0)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"head": "mlp"}, ValueError, "head: expected one of"),
        ({"num_classes": 1}, ValueError, "num_classes: expected at least 2"),
        ({"epochs": 0}, ValueError, "epochs: expected at least 1"),
        ({"encoder": Pixels()}, TypeError, "encoder: expected what open_encoder gives"),
        (
            {"encoder": Encoder(nn.Conv2d(3, 4, 3), 16, NORMALIZE)},
            TypeError,
            "backbone: expected a timm model with forward_intermediates",
        ),
        ({"train": []}, ValueError, "data_set: expected at least one image"),
    ],
)
def test_bad_arguments(change: dict, error: type[Exception], message: str) -> None:
    arguments = {"encoder": encoder(), "train": blocks(1), "test": blocks(1), "num_classes": 3}
    with pytest.raises(error, match=message):
        segmentation_probe(**arguments | change)
