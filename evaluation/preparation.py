"""Data sets as people have them, made into batches of tensors."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

try:
    from PIL import Image
except ImportError as error:
    raise ImportError(
        'star_head.evaluation reads images by Pillow: pip install "star-head[evaluation]"'
    ) from error

from star_head._checks import check_count, describe
from star_head._modes import evaluation_mode
from star_head._processors import loading_processes
from star_head.adapters._images import (
    Color,
    check_background,
    resize_and_center_crop,
    to_rgb,
)
from star_head.adapters._pixel_range import PixelRange, check_pixel_range
from star_head.adapters._samples import split_sample as split_sample

Transform: TypeAlias = Callable[[Any], Any]


class DataSet(Protocol):
    """A map-style data set; a list is one, and so are torchvision's and lightly's.

    A sample is an image, (image, label), with more behind the label if that comes so, or a
    dictionary of "image" and "label". Without a label, or with ``None`` or -1, it has none.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class Encoder(NamedTuple):
    """A backbone and the images that it was trained on.

    Attributes:
        backbone: From images (B, 3, S, S) to features (B, D).
        input_size: S, in pixels.
        normalize: Mean and standard deviation of the pixels in [0, 1], three numbers each.
    """

    backbone: nn.Module
    input_size: int
    normalize: dict[str, list[float]]


class EvaluationTransform:
    """Resizes the shorter side to S by bicubic interpolation, cuts out the centre, normalises.

    The paper's preparation for evaluation.

    Args:
        size: S, in pixels.
        normalize: Mean and standard deviation of the pixels in [0, 1].
        pixel_range: The pixel values (low, high) that become black and white, in images of more
            than 8 bits; without it they are an error.
        background: The colour (red, green, blue) under transparent pixels; those stored under them
            unless given.
    """

    def __init__(
        self,
        size: int,
        normalize: dict[str, list[float]],
        pixel_range: PixelRange | None = None,
        background: Color | None = None,
    ) -> None:
        self.size = size
        self.pixel_range = check_pixel_range(pixel_range)
        self.background = check_background(background)
        self.mean = torch.tensor(normalize["mean"]).view(3, 1, 1)
        self.std = torch.tensor(normalize["std"]).view(3, 1, 1)

    def __call__(self, image: Image.Image | Tensor) -> Tensor:
        """Make a float32 (3, S, S) tensor of an image.

        Raises:
            TypeError: If it is no image, or has been prepared already.
            ValueError: If a tensor has another shape, or a side is shorter than 2 pixels.
        """
        try:
            rgb = to_rgb(image, self.pixel_range, self.background)
        except (TypeError, ValueError) as error:
            if not isinstance(image, Tensor) or not image.is_floating_point():
                raise
            raise type(error)(
                f"{error}; if the data set's own transform has prepared its images already, pass "
                f"the module alone as encoder, open_encoder(...).backbone"
            ) from error
        rgb = resize_and_center_crop(rgb, self.size, Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(rgb)).permute(2, 0, 1).float()
        return pixels.div_(255).sub_(self.mean).div_(self.std)


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
                f"its images, or pass extract_features(transform=...)"
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


def load(
    data_set: Dataset[Any],
    batch_size: int,
    num_workers: int | None = None,
    *,
    collate: Callable[[list[Any]], Any] | None = None,
    pin_memory: bool = False,
) -> DataLoader[Any]:
    """Batches of a data set in its order, which leave the caller's random numbers alone."""
    if num_workers is None:
        num_workers = loading_processes(len(data_set))  # type: ignore[arg-type]
    check_count("num_workers", num_workers, 0)
    return DataLoader(
        data_set,
        batch_size,
        num_workers=num_workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        generator=torch.Generator(),
    )


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


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[torch.device]:
    """Put a module into evaluation mode for a while, without gradients, and say where it is."""
    parameter = next(module.parameters(), None)
    with evaluation_mode(module), torch.inference_mode():
        yield torch.device("cpu") if parameter is None else parameter.device


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
