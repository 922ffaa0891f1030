"""STARTransform against lightly's SimCLRTransform: augmented views a second, one process.

The same settings on the same 96-pixel PIL images. STARTransform also makes the original and
records the parameters of each view.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from lightly.transforms.simclr_transform import SimCLRTransform
from PIL import Image

from benchmarks.timing import time_in_turn
from star_head.adapters.lightly import STARTransform


def photographs(count: int, size: int) -> list[Image.Image]:
    """Smooth random colour images: as costly to augment as photographs."""
    coarse = np.random.default_rng(0).integers(0, 256, (count, 12, 12, 3), dtype=np.uint8)
    return [Image.fromarray(image).resize((size, size)) for image in coarse]


def main() -> None:
    """Print views a second for each, with both kinds of blur."""
    torch.set_num_threads(1)
    settings: dict[str, Any] = {"input_size": 96, "min_scale": 0.2, "cj_strength": 0.5}
    images = photographs(100, 96)

    def apply(transform: Callable[[Image.Image], object]) -> None:
        for image in images:
            transform(image)

    transforms: dict[str, Callable[[Image.Image], object]] = {
        "lightly": SimCLRTransform(**settings),
        "ours": STARTransform(**settings),
        "ours, Pillow's blur": STARTransform(**settings, blur="pillow"),
    }
    seconds = time_in_turn(
        {name: partial(apply, transform) for name, transform in transforms.items()}
    )
    print("transform, 96 pixels      views/s  ratio")
    for name, time in seconds.items():
        print(f"{name:22} {2 * len(images) / time:10.0f} {seconds['lightly'] / time:6.2f}")


if __name__ == "__main__":
    main()
