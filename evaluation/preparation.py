"""Data sets as people have them, made into batches of tensors."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

try:
    from PIL import Image
except ImportError as error:
    raise ImportError(
        'star_head.evaluation reads images by Pillow: pip install "star-head[evaluation]"'
    ) from error

from star_head._checks import check_count
from star_head._modes import evaluation_mode
from star_head._processors import loading_processes
from star_head.adapters._images import (
    Color,
    check_background,
    resize_and_center_crop,
    to_rgb,
)
from star_head.adapters._pixel_range import PixelRange, check_pixel_range
from star_head.adapters._samples import DataSet as DataSet
from star_head.adapters._samples import Prepared as Prepared
from star_head.adapters._samples import Transform as Transform
from star_head.adapters._samples import check_data_set as check_data_set
from star_head.adapters._samples import split_sample as split_sample
from star_head.adapters._samples import stack as stack


class Encoder(NamedTuple):
    """A backbone and the images that it was trained on.

    Attributes:
        backbone: From images (B, 3, S, S) to features (B, D).
        input_size: S, in pixels.
        normalize: Mean and standard deviation of the pixels in [0, 1], a number for each channel.
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
        background: The colour (red, green, blue) under transparent pixels; default: those that are
            stored there.
    """

    def __init__(
        self,
        size: int,
        normalize: dict[str, list[float]],
        pixel_range: PixelRange | None = None,
        background: Color | None = None,
    ) -> None:
        if len(normalize["mean"]) != 3:
            raise ValueError(
                f"normalize: images are prepared as RGB, and the encoder takes "
                f"{len(normalize['mean'])} channels; prepare them by a transform of your own, "
                f"extract_features(transform=...)"
            )
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
        return normalized(rgb, self.mean, self.std)


def normalized(rgb: Image.Image, mean: Tensor, std: Tensor) -> Tensor:
    """An RGB image's pixels, float32 (3, H, W), with a mean and deviation (3, 1, 1) of [0, 1]."""
    pixels = torch.from_numpy(np.array(rgb)).permute(2, 0, 1).float()
    return pixels.div_(255).sub_(mean).div_(std)


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


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[torch.device]:
    """Put a module into evaluation mode for a while, without gradients, and say where it is."""
    parameter = next(module.parameters(), None)
    with evaluation_mode(module), torch.inference_mode():
        yield torch.device("cpu") if parameter is None else parameter.device
