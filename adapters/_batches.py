"""What lies in a loader's batch, as people have them."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from star_head._checks import describe
from star_head.augmentation import STARViews

_LABELS = ("label", "labels", "target", "targets", "y", "class", "fine_label")


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


def labelled_images(batch: Any) -> tuple[Tensor, Tensor]:
    """The images (B, C, H, W) and labels (B,) in a validation batch.

    Images come first and labels second in a tuple or list, whatever else follows. In a dictionary
    the images are its only tensor of four axes, and the labels are told by their name.

    Raises:
        TypeError: If it cannot be told which they are.
    """
    images: Any = None
    labels: Any = None
    if isinstance(batch, Mapping):
        maps = [part for part in batch.values() if isinstance(part, Tensor) and part.ndim == 4]
        named = [batch[name] for name in _LABELS if name in batch]
        if len(maps) == len(named) == 1:
            images, labels = maps[0], named[0]
    elif isinstance(batch, tuple | list) and len(batch) >= 2 and not hasattr(batch, "_fields"):
        images, labels = batch[:2]
    if (
        isinstance(images, Tensor)
        and isinstance(labels, Tensor)
        and (images.ndim == 4)
        and labels.shape == images.shape[:1]
        and not labels.is_floating_point()
    ):
        return images, labels
    raise TypeError(
        f"batch: expected images (B, 3, S, S) without augmentation and their labels (B,), as "
        f"whole numbers, in a validation loader's (images, labels), got {describe(batch)}"
    )
