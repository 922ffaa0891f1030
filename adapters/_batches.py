"""What lies in a loader's batch, as people have them."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from star_head._checks import describe
from star_head.augmentation import STARViews

LABELS = ("label", "labels", "target", "targets", "y", "class", "fine_label")


def views_in(batch: Any) -> STARViews:
    """The views in a training batch: alone, or in a tuple, list or dictionary with anything else.

    Raises:
        TypeError: If there are none, or several.
    """
    found = list(_find_views(batch))
    if len(found) == 1:
        return found[0]
    raise TypeError(
        f"batch: expected one STARViews, alone or with labels and the like in a tuple or "
        f"dictionary, got {describe(batch)}; STARTransform makes them as the data "
        f"set's transform, RecordedTransform(transform) around any other, BatchTransform of "
        f"recorded images"
    )


def _find_views(batch: Any) -> Iterator[STARViews]:
    if isinstance(batch, STARViews):
        yield batch
    elif isinstance(batch, tuple | list | Mapping):
        for part in batch.values() if isinstance(batch, Mapping) else batch:
            yield from _find_views(part)


def images_in(batch: Any) -> tuple[Tensor, Tensor | None]:
    """The images (B, C, H, W) and labels (B,) in a validation batch; None without labels.

    Images come first and labels second in a tuple or list, whatever else follows. In a dictionary
    the images are its only tensor of four axes, and the labels are told by their name.

    Raises:
        TypeError: If it cannot be told which they are, or labels are no integers.
        ValueError: If labels are not a class for each image.
    """
    images: Any = None
    labels: Any = None
    if isinstance(batch, Mapping):
        named = [batch[name] for name in LABELS if name in batch]
        others = [part for name, part in batch.items() if name not in LABELS]
        maps = [part for part in others if isinstance(part, Tensor) and part.ndim == 4]
        if len(maps) == 1 and len(named) < 2:
            images, labels = maps[0], named[0] if named else None
    elif isinstance(batch, Tensor):
        images = batch
    elif isinstance(batch, tuple | list) and batch and not hasattr(batch, "_fields"):
        images, labels = (*batch[:2], None)[:2]
    if isinstance(images, Tensor) and images.ndim == 4:
        return images, None if labels is None else check_labels(labels, len(images))
    raise TypeError(
        f"batch: expected images (B, 3, S, S) without augmentation, alone or with their labels "
        f"(B,), as whole numbers, in a validation loader's (images, labels), got {describe(batch)}"
    )


def check_labels(labels: Any, count: int) -> Tensor:
    """Raise unless labels are one whole-numbered class for each image, or -1; int64 classes.

    Raises:
        TypeError: If they are no integers.
        ValueError: If they are not of shape (count,), or one is below -1.
    """
    expected = (
        f"labels: expected a class for each image, integers from 0 or -1 for none, of shape "
        f"({count},)"
    )
    if not isinstance(labels, Tensor):
        raise TypeError(f"{expected}, got {describe(labels)}; leave labels out to do without")
    came = f"{labels.dtype} of shape {tuple(labels.shape)}"
    if labels.shape != (count,):
        remedy = ""
        if labels.ndim == 2 and len(labels) == count:
            remedy = "; labels.squeeze(1) drops an axis of length 1"
            if labels.shape[1] > 1:
                remedy = "; labels.argmax(1) of one-hot labels gives their classes"
        raise ValueError(f"{expected}, got {came}{remedy}")
    if labels.dtype == torch.bool or labels.is_floating_point() or labels.is_complex():
        raise TypeError(f"{expected}, got {came}; labels.long() makes integers of whole numbers")
    classes = labels.long()
    if count and classes.min() < -1:
        raise ValueError(f"{expected}, got {classes.min().item()} among {came}")
    return classes
