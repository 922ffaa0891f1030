"""The first view and the labels of a training batch, whoever made it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from star_head.adapters._batches import LABELS
from star_head.augmentation import STARViews

from ._monitor import LeftOut


def first_view(batch: Any) -> Tensor:
    """The first images (B, C, H, W) in a batch; of STARViews the first augmented ones.

    Raises:
        LeftOut: If there are none.
    """
    images = _find_images(batch)
    if images is None:
        raise LeftOut("the training batches have no images (B, C, H, W)")
    return images


def _find_images(batch: Any) -> Tensor | None:
    if isinstance(batch, Tensor):
        return batch if batch.ndim == 4 else None
    if isinstance(batch, STARViews):
        return _find_images(batch.views)
    if isinstance(batch, tuple | list | Mapping):
        for part in batch.values() if isinstance(batch, Mapping) else batch:
            found = _find_images(part)
            if found is not None:
                return found
    return None


def labels_beside(batch: Any) -> Tensor | None:
    """A class for each image: what stands second, or is called a label; ``None`` without one."""
    labels: Any = None
    if isinstance(batch, Mapping):
        labels = next((batch[name] for name in LABELS if name in batch), None)
    elif isinstance(batch, tuple | list) and not hasattr(batch, "_fields") and len(batch) > 1:
        labels = batch[1]
    whole = isinstance(labels, Tensor) and not (
        labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool
    )
    return labels.long() if whole and labels.ndim == 1 else None
