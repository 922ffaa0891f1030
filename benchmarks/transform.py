"""Our transforms against lightly's and kornia's: augmented views a second, one process.

    python -m benchmarks.transform            # all
    python -m benchmarks.transform --batches  # the views made in batches alone, with two threads

The same settings on the same 96-pixel images, with the same draws where a transform is wrapped.
STARTransform and RecordedTransform also make the original and record the parameters of each view.

Batches are the paper's pipeline: ``adapters.device`` from records that are drawn before, kornia's
augmentations of the images from the crop on, plain, and wrapped by ``adapters.kornia``, which draw
as they go. kornia is compared where it is installed. ``BatchTransform`` makes the original too, as
the wrapped kornia does.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from lightly.transforms.byol_transform import (
    BYOLTransform,
    BYOLView1Transform,
    BYOLView2Transform,
)
from lightly.transforms.simclr_transform import SimCLRTransform
from PIL import Image

from benchmarks.timing import time_in_turn
from star_head.adapters.device import BatchTransform, RecordingTransform, collate
from star_head.adapters.lightly import STL10_NORMALIZE, STARTransform
from star_head.adapters.torchvision import RecordedTransform

Transform = Callable[[Image.Image], object]


def photographs(count: int, size: int) -> list[Image.Image]:
    """Smooth random colour images: as costly to augment as photographs."""
    coarse = np.random.default_rng(0).integers(0, 256, (count, 12, 12, 3), dtype=np.uint8)
    return [Image.fromarray(image).resize((size, size)) for image in coarse]


def compare(
    title: str,
    transforms: Mapping[str, Transform],
    images: Sequence[Image.Image],
    rounds: int,
) -> None:
    """Print views a second of each, and how much of the first one's time each takes."""

    def apply(transform: Transform) -> None:
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        for image in images:
            transform(image)

    seconds = time_in_turn(
        {name: partial(apply, transform) for name, transform in transforms.items()}, rounds
    )
    report(title, seconds, 2 * len(images))


def report(title: str, seconds: Mapping[str, float], views: int) -> None:
    """Print views a second of each contender, and how much of the first one's time it takes."""
    first = next(iter(seconds.values()))
    print(f"{title:26} views/s   time")
    for name, time in seconds.items():
        print(f"{name:26} {views / time:7.0f} {time / first:6.2f}")


def kornias(size: int) -> Any:
    """The paper's pipeline by kornia: a crop for each image, one order of colours a batch."""
    from kornia import augmentation as kornias

    return kornias.AugmentationSequential(
        kornias.RandomResizedCrop((size, size), scale=(0.2, 1.0)),
        kornias.RandomHorizontalFlip(p=0.5),
        kornias.ColorJiggle(0.4, 0.4, 0.4, 0.1, p=0.8),
        kornias.RandomGrayscale(p=0.2),
        kornias.RandomGaussianBlur((9, 9), (0.1, 2.0), p=0.5),
        kornias.Normalize(**{name: torch.tensor(v) for name, v in STL10_NORMALIZE.items()}),
    )


def batch_contenders(
    images: Sequence[Image.Image], device: str = "cpu"
) -> dict[str, Callable[[], object]]:
    """The paper's pipeline in batches, two views an image; kornia's where it is installed.

    Args:
        images: Of one size.
        device: Where the views are made; the images are there already.
    """
    size = images[0].width
    transform = STARTransform(size, normalize=STL10_NORMALIZE)
    torch.manual_seed(0)
    recording = RecordingTransform(transform)
    recorded = collate([recording(image) for image in images]).to(device)
    contenders: dict[str, Callable[[], object]] = {
        "star-head, on the device": partial(BatchTransform(transform).to(device), recorded)
    }
    if find_spec("kornia") is not None:
        from star_head.adapters.kornia import RecordedTransform as RecordedBatchTransform

        augmentation = kornias(size).to(device)
        pixels = recorded.images.float() / 255
        contenders["kornia"] = lambda: (augmentation(pixels), augmentation(pixels))
        contenders["kornia, recorded"] = partial(RecordedBatchTransform(augmentation), pixels)
    return contenders


def compare_batches(images: Sequence[Image.Image], threads: int, rounds: int) -> None:
    """Print views a second of the paper's pipeline in batches, two views an image."""
    torch.set_num_threads(threads)
    with torch.no_grad():
        seconds = time_in_turn(batch_contenders(images), rounds)
    report(f"batches of {len(images)}, {threads} threads", seconds, 2 * len(images))


def main() -> None:
    """Print the comparisons, two views an image."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batches", action="store_true", help="compare batches alone")
    parser.add_argument("--batch-size", type=int, default=64, help="images a batch")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch, for batches")
    parser.add_argument("--rounds", type=int, default=30, help="how often each is timed")
    arguments = parser.parse_args()
    if not arguments.batches:
        compare_images(arguments.rounds)
    images = photographs(arguments.batch_size, 96)
    compare_batches(images, arguments.threads, arguments.rounds)


def compare_images(rounds: int) -> None:
    """Print the comparisons of transforms of one image at a time."""
    torch.set_num_threads(1)
    settings: dict[str, Any] = {"input_size": 96, "min_scale": 0.2, "cj_strength": 0.5}
    images = photographs(100, 96)
    simclr = SimCLRTransform(**settings)
    byol = BYOLTransform(BYOLView1Transform(96), BYOLView2Transform(96))
    compare(
        "SimCLR, 96 pixels",
        {
            "lightly": simclr,
            "RecordedTransform": RecordedTransform(simclr),
            "STARTransform": STARTransform(**settings),
            "STARTransform, Pillow's": STARTransform(**settings, blur="pillow"),
        },
        images,
        rounds,
    )
    compare(
        "BYOL, 96 pixels",
        {"lightly": byol, "RecordedTransform": RecordedTransform(byol)},
        images,
        rounds,
    )


if __name__ == "__main__":
    main()
