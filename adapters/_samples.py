"""Data sets as people have them: their samples, and batches of tensors."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from star_head import STARViews
from star_head._checks import describe

# Entries of a dictionary that may be what is meant by a label.
_LABEL = re.compile("label|class|target", re.IGNORECASE)

Transform: TypeAlias = Callable[[Any], Any]


class DataSet(Protocol):
    """A map-style data set; a list is one, and so are torchvision's and lightly's.

    A sample is an image, (image, label), with more behind the label if that comes so, or a
    dictionary of "image" and "label". Without a label, or with ``None`` or -1, it has none.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class Prepared(Dataset[tuple[Tensor, int]]):
    """A data set's images as tensors, and their labels, -1 where they have none.

    Args:
        data_set: The data set.
        transform: Makes a tensor of each image; ``None`` where they come as such.
    """

    def __init__(self, data_set: DataSet, transform: Transform | None) -> None:
        self.data_set = check_data_set(data_set)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.data_set)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = split_sample(self.data_set[index], index)
        if self.transform is not None:
            return _transformed(self.transform, image, index), label
        if not isinstance(image, Tensor) or not image.is_floating_point():
            raise TypeError(
                f"data_set: expected tensors of floating point, as the encoder takes them, got "
                f"{describe(image)} as image {index}; give the data set a transform that prepares "
                f"its images, or pass transform=..."
            )
        return image, label


def check_data_set(data_set: Any) -> DataSet:
    """Raise unless images can be read from it by index, and it has any."""
    hint = ""
    if isinstance(data_set, DataLoader):
        hint = "; pass its .dataset"
    elif isinstance(data_set, str | os.PathLike):
        hint = "; torchvision's ImageFolder(path) reads a folder of class folders"
    elif isinstance(data_set, IterableDataset | Iterator):
        hint = "; read it into a list first"
    elif isinstance(data_set, Mapping | bytes) or not (
        hasattr(data_set, "__getitem__") and hasattr(data_set, "__len__")
    ):
        hint = "; a list of (image, label) is one"
    elif _is_pair_of_arrays(data_set):
        hint = "; torch.utils.data.TensorDataset(images, labels) of tensors is one"
    if hint:
        raise TypeError(
            f"data_set: expected a map-style data set of (image, label), got "
            f"{describe(data_set)}{hint}"
        )
    if not len(data_set):
        raise ValueError("data_set: expected at least one image, got none")
    taken: DataSet = data_set
    return taken


def split_sample(sample: Any, index: int) -> tuple[Any, int]:
    """The image and the label of what a data set gives."""
    if isinstance(sample, STARViews):
        raise TypeError(_several_views("STARViews", index))
    if isinstance(sample, Mapping):
        if "image" not in sample:
            raise TypeError(
                f'data_set: expected "image" and "label" in a dictionary, got '
                f"{describe(sample)} at {index}; rename its entries"
            )
        others = [key for key in sample if _LABEL.search(str(key))]
        if "label" not in sample and others:
            raise TypeError(
                f'data_set: expected the class as "label" in a dictionary, got '
                f"{', '.join(map(repr, others))} at {index}; rename the one that is meant"
            )
        return sample["image"], _label(sample.get("label"), index)
    if isinstance(sample, tuple | list):
        if not sample:
            raise TypeError(f"data_set: expected (image, label), got {describe(sample)} at {index}")
        if isinstance(sample[0], tuple | list):
            raise TypeError(_several_views(describe(sample[0]), index))
        return sample[0], _label(sample[1] if len(sample) > 1 else None, index)
    return sample, -1


def stack(samples: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    """A batch of what :class:`Prepared` gives: images (B, ...) and labels (B,)."""
    images, labels = zip(*samples, strict=True)
    if len(shapes := {tuple(image.shape) for image in images}) > 1:
        first, second, *_ = sorted(shapes)
        raise ValueError(
            f"data_set: expected images of one size, got {first} and {second}; resize and crop "
            f"them in its transform"
        )
    return torch.stack(images), torch.tensor(labels)


def _transformed(transform: Transform, image: Any, index: int) -> Tensor:
    try:
        pixels = transform(image)
    except (TypeError, ValueError) as error:
        if type(error) not in (TypeError, ValueError):  # others may be made of other arguments
            raise
        raise type(error)(f"{error} (image {index} of data_set)") from error
    if not isinstance(pixels, Tensor) or not pixels.is_floating_point():
        got = pixels.dtype if isinstance(pixels, Tensor) else describe(pixels)
        raise TypeError(
            f"transform: expected a tensor of floating point of each image, as the encoder takes "
            f"them, got {got} of image {index}; end it with torchvision's v2.ToImage() and "
            f"v2.ToDtype(torch.float32, scale=True)"
        )
    return pixels


def _is_pair_of_arrays(data_set: Any) -> bool:
    """Whether it is all images and all labels, which is no list of samples."""
    if not isinstance(data_set, tuple | list) or len(data_set) != 2:
        return False
    images, labels = data_set
    both = all(isinstance(part, Tensor | np.ndarray) for part in data_set)
    return both and labels.ndim == 1 and images.ndim > 1 and len(images) == len(labels)


def _label(label: Any, index: int) -> int:
    if label is None:
        return -1
    if isinstance(label, Tensor | np.ndarray) and label.ndim == 0:
        label = label.item()
    if isinstance(label, bool) or not isinstance(label, int | np.integer):
        raise TypeError(
            f"data_set: expected an integer as the label behind the image, got {describe(label)} "
            f"at {index}; number the classes from 0, and give images without classes alone"
        )
    if not -1 <= label < 2**63:
        raise ValueError(
            f"data_set: expected classes from 0, or -1 for none, got {label} at {index}; number "
            f"the classes from 0"
        )
    return int(label)


def _several_views(what: str, index: int) -> str:
    return (
        f"data_set: expected one image, got {what} at {index}; several views are for training: "
        f"open the data set once more without that transform"
    )
