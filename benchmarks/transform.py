"""Our transforms against lightly's: augmented views a second, one process.

The same settings on the same 96-pixel PIL images, with the same draws where a lightly transform is
wrapped. STARTransform and RecordedTransform also make the original and record the parameters of
each view.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
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
from star_head.adapters.lightly import STARTransform
from star_head.adapters.torchvision import RecordedTransform

Transform = Callable[[Image.Image], object]


def photographs(count: int, size: int) -> list[Image.Image]:
    """Smooth random colour images: as costly to augment as photographs."""
    coarse = np.random.default_rng(0).integers(0, 256, (count, 12, 12, 3), dtype=np.uint8)
    return [Image.fromarray(image).resize((size, size)) for image in coarse]


def compare(title: str, transforms: Mapping[str, Transform], images: Sequence[Image.Image]) -> None:
    """Print views a second of each, and how much of the first one's time each takes."""

    def apply(transform: Transform) -> None:
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        for image in images:
            transform(image)

    seconds = time_in_turn(
        {name: partial(apply, transform) for name, transform in transforms.items()}
    )
    first = next(iter(seconds.values()))
    print(f"{title:26} views/s   time")
    for name, time in seconds.items():
        print(f"{name:26} {2 * len(images) / time:7.0f} {time / first:6.2f}")


def main() -> None:
    """Print the comparisons, two views an image."""
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
    )
    compare(
        "BYOL, 96 pixels", {"lightly": byol, "RecordedTransform": RecordedTransform(byol)}, images
    )


if __name__ == "__main__":
    main()
