"""Features of images, extracted once and kept in a memory-mapped file."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from star_head._devices import to_device
from star_head._processors import available_processors
from star_head._whole_files import replacing
from star_head.adapters._images import (
    Color,
    check_background,
    resize_and_center_crop,
    to_rgb,
)
from star_head.adapters._pixel_range import PixelRange, check_pixel_range
from star_head.evaluation.networks import Encoder
from star_head.examples.data.image_data import Images

# Raised whenever the same encoder and images would give other features.
_FORMAT = 1


class Features(NamedTuple):
    """What an encoder makes of images.

    Attributes:
        features: (n, D), memory-mapped from the cache; float32, or float16 if halved.
        labels: (n,), -1 where an image has none.
    """

    features: np.ndarray
    labels: np.ndarray


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
        """Make a float32 (3, S, S) tensor of an image."""
        rgb = to_rgb(image, self.pixel_range, self.background)
        rgb = resize_and_center_crop(rgb, self.size, Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(rgb)).permute(2, 0, 1).float()
        return pixels.div_(255).sub_(self.mean).div_(self.std)


def extract(
    encoder: Encoder,
    images: Images,
    *,
    cache: Path = Path("runs/features"),
    batch_size: int = 256,
    num_workers: int | None = None,
    half: bool = False,
) -> Features:
    """Compute the features of images without augmentation, or open what was computed before.

    What is found in the cache is used only for the very same weights, images and preparation. It
    is written whole or not at all, and can be deleted at any time.

    Args:
        encoder: The encoder; put into evaluation mode, and used on the device where it is.
        images: The images.
        cache: Folder for the features.
        batch_size: Images at a time.
        num_workers: Processes that read images; as many as there are processors, at most 16,
            unless given.
        half: Keep float16, which halves the file: 4 GB for a million of width 2,048.

    Raises:
        ValueError: If a feature is not finite, naming the image's index, or too large for half
            precision.
        OSError: If the disk has no room.
    """
    cache = cache.expanduser()
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"{_digest(encoder, images, half)}.npy"
    if not path.exists():
        if num_workers is None:
            num_workers = min(16, available_processors())
        _write(path, encoder, images, batch_size, num_workers, np.float16 if half else np.float32)
    return Features(np.load(path, mmap_mode="r", allow_pickle=False), images.labels)


@torch.inference_mode()
def _write(
    path: Path,
    encoder: Encoder,
    images: Images,
    batch_size: int,
    num_workers: int,
    dtype: type[np.floating[Any]],
) -> None:
    backbone = encoder.backbone.eval()
    device = next(backbone.parameters()).device
    transform = EvaluationTransform(encoder.input_size, encoder.normalize)
    loader = DataLoader(
        images.with_transform(transform),
        batch_size,
        num_workers=num_workers,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),
    )
    done = 0
    progress = tqdm(total=len(images), desc="Features", unit="img", delay=2, mininterval=1)
    # Not memory-mapped: there, a disk that fills up kills the process without a word.
    with replacing(path, several=True) as scratch, open(scratch, "wb") as file, progress:
        for batch, _ in loader:
            features = backbone(to_device(batch, device)).flatten(1)
            features = features.float().cpu().numpy()
            if not np.isfinite(features).all():
                bad = done + int(np.flatnonzero(~np.isfinite(features).all(axis=1))[0])
                raise ValueError(f"encoder: the features of image {bad} are not finite")
            largest = np.abs(features).max()
            if largest > np.finfo(dtype).max:
                raise ValueError(
                    f"half: features of up to {largest:.3g} do not fit into half precision; "
                    f"keep them in single"
                )
            features = features.astype(dtype)
            if done == 0:
                header = np.lib.format.header_data_from_array_1_0(features)
                shape = (len(images), features.shape[1])
                np.lib.format.write_array_header_1_0(file, header | {"shape": shape})
            file.write(np.ascontiguousarray(features).data)
            done += len(features)
            progress.update(len(features))


def _digest(encoder: Encoder, images: Images, half: bool) -> str:
    """A name for these features of these images."""
    digest = hashlib.sha256()
    for name, tensor in sorted(encoder.backbone.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().flatten().contiguous().view(torch.uint8).numpy())
    settings = [_FORMAT, str(encoder.backbone), encoder.input_size, encoder.normalize, half]
    digest.update(json.dumps(settings).encode())
    digest.update(images.fingerprint().encode())
    return digest.hexdigest()
