"""Test images made worse: noise, blur, contrast, brightness, JPEG, pixelation, at five severities.

The kinds are those of ImageNet-C (Hendrycks and Dietterich 2019, arXiv 1903.12261), made here by
torchvision and Pillow from any images. They are not its images: compare such figures among
themselves, not with published ones of ImageNet-C.
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

try:
    from PIL import Image
    from torchvision.transforms.v2 import functional as F
except ImportError as error:
    raise ImportError(
        "star_head.evaluation makes images worse by Pillow and torchvision: pip install "
        '"star-head[evaluation]"'
    ) from error

from star_head._checks import check_count
from star_head._seeds import mix_seeds
from star_head.adapters._images import to_rgb
from star_head.evaluation.preparation import DataSet, check_data_set, split_sample

Corruption = Literal[
    "gaussian noise", "shot noise", "gaussian blur", "contrast", "brightness", "jpeg", "pixelation"
]
"""What can be done to test images."""

CORRUPTIONS: tuple[Corruption, ...] = get_args(Corruption)
SEVERITIES = (1, 2, 3, 4, 5)

# Of each severity. Those of ImageNet-C where its program and these operations agree in what the
# number means; blur is in pixels of an image of 224, whose shorter side others are compared with.
_LEVELS: dict[Corruption, tuple[float, ...]] = {
    "gaussian noise": (0.08, 0.12, 0.18, 0.26, 0.38),  # standard deviation, white being 1
    "shot noise": (60, 25, 12, 5, 3),  # photons of a white pixel
    "gaussian blur": (1, 2, 3, 4, 6),  # sigma
    "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),  # factor
    "brightness": (1.2, 1.4, 1.6, 1.8, 2.0),  # factor
    "jpeg": (25, 18, 15, 10, 7),  # quality
    "pixelation": (0.6, 0.5, 0.4, 0.3, 0.25),  # of each side
}
_SIDE = 224


def corrupt(
    image: Image.Image | Tensor, kind: Corruption, severity: int, seed: int = 0
) -> Image.Image:
    """Make an image worse.

    Args:
        image: PIL, of any mode that ``open_encoder``'s images come in, or a (3, H, W) tensor.
        kind: What is done to it.
        severity: From 1 to 5.
        seed: Seed of the noise.

    Returns:
        RGB, of the same size.

    Raises:
        ValueError: If the kind or the severity is none of these.

    Example:
        >>> grey = Image.new("RGB", (64, 48), (128, 128, 128))
        >>> corrupt(grey, "gaussian noise", 3).size
        (64, 48)
    """
    level = _level(kind, severity)
    return _DO[kind](to_rgb(image), level, seed)


class Corrupted(Dataset[tuple[Image.Image, int]]):
    """A data set's images made worse, each with noise of its own that is the same every time.

    Args:
        data_set: Map-style data set of (image, label), images as PIL or (3, H, W) tensors.
        kind: What is done to them.
        severity: From 1 to 5.
        seed: Seed of the noise.
    """

    def __init__(self, data_set: DataSet, kind: Corruption, severity: int, seed: int = 0) -> None:
        self.data_set = check_data_set(data_set)
        self.kind = kind
        self.severity = severity
        self._level = _level(kind, severity)
        self.seed = seed

    @property
    def labels(self) -> Any:
        """Those of the data set, where it says them."""
        return self.data_set.labels  # type: ignore[attr-defined]

    @property
    def transform(self) -> Any:
        """What the data set does to its images."""
        return getattr(self.data_set, "transform", None)

    def fingerprint(self) -> str:
        """Differs where images do, of a data set that says so."""
        images: str = self.data_set.fingerprint()  # type: ignore[attr-defined]
        return f"{images} {self.kind} {self._level} {self.seed}"

    def __len__(self) -> int:
        return len(self.data_set)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        image, label = split_sample(self.data_set[index], index)
        return corrupt(image, self.kind, self.severity, mix_seeds(self.seed, index)), label


def _level(kind: Corruption, severity: int) -> float:
    """How strong it is, or an error where there is no such kind or severity."""
    if kind not in CORRUPTIONS:
        raise ValueError(f"kind: expected one of {CORRUPTIONS}, got {kind!r}")
    check_count("severity", severity)
    if severity not in SEVERITIES:
        raise ValueError(f"severity: expected 1 to 5, got {severity}")
    return _LEVELS[kind][severity - 1]


def _gaussian_noise(image: Image.Image, level: float, seed: int) -> Image.Image:
    pixels = _pixels(image)
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(seed % 2**63))
    return _image(pixels + level * noise)


def _shot_noise(image: Image.Image, level: float, seed: int) -> Image.Image:
    generator = torch.Generator().manual_seed(seed % 2**63)
    return _image(torch.poisson(level * _pixels(image), generator) / level)


def _blur(image: Image.Image, level: float, seed: int) -> Image.Image:
    sigma = level * min(image.size) / _SIDE
    radius = max(1, min(round(3 * sigma), min(image.size) - 1))
    blurred: Image.Image = F.gaussian_blur(image, [2 * radius + 1] * 2, [sigma, sigma])
    return blurred


def _jpeg(image: Image.Image, level: float, seed: int) -> Image.Image:
    pixels = F.jpeg(F.pil_to_tensor(image), int(level))
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def _pixelate(image: Image.Image, level: float, seed: int) -> Image.Image:
    small = [max(1, round(level * side)) for side in image.size]
    return image.resize((small[0], small[1]), Image.Resampling.BOX).resize(
        image.size, Image.Resampling.NEAREST
    )


def _contrast(image: Image.Image, level: float, seed: int) -> Image.Image:
    changed: Image.Image = F.adjust_contrast(image, level)
    return changed


def _brightness(image: Image.Image, level: float, seed: int) -> Image.Image:
    changed: Image.Image = F.adjust_brightness(image, level)
    return changed


def _pixels(image: Image.Image) -> Tensor:
    """(3, H, W) in [0, 1]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255


def _image(pixels: Tensor) -> Image.Image:
    rounded = pixels.clamp(0, 1).mul(255).round().to(torch.uint8)
    return Image.fromarray(rounded.permute(1, 2, 0).numpy())


_DO: dict[Corruption, Callable[[Image.Image, Any, int], Image.Image]] = {
    "gaussian noise": _gaussian_noise,
    "shot noise": _shot_noise,
    "gaussian blur": _blur,
    "contrast": _contrast,
    "brightness": _brightness,
    "jpeg": _jpeg,
    "pixelation": _pixelate,
}
