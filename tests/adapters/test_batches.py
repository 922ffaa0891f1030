"""Batches as people have them: with and without labels, with indices, in dictionaries."""

from typing import Any

import pytest
import torch

from star_head.adapters.device import BatchTransform, RecordedImages, RecordingTransform, collate
from star_head.adapters.lightly import STARTransform

TRANSFORM = STARTransform(16)


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
