"""A wrapped transform beside the plain one, from one state of all generators."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from star_head import STARViews
from star_head.adapters.torchvision import RecordedTransform


def seed_all(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)


def states() -> tuple[Any, ...]:
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state().numpy().tobytes(), name, keys.tobytes(), *rest, random.getstate()


def picture(height: int, width: int, seed: int = 0, mode: str = "RGB") -> Image.Image:
    """Smooth random colours, with some noise."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    pixels = (pixels + rng.integers(-9, 10, pixels.shape)).clip(0, 255)
    return Image.fromarray(pixels.astype(np.uint8)).convert(mode)


def plain_views(transform: Callable[[Any], Any], image: Any, copies: int) -> list[Tensor]:
    made = [transform(image) for _ in range(copies)]
    return [view for views in made for view in (views if isinstance(views, list) else [views])]


def check_same(
    recorded: RecordedTransform, image: Any, seed: int, copies: int = 1
) -> tuple[STARViews, list[Any]]:
    """Views, generators and replays as they should be; the views and their records."""
    seed_all(seed)
    expected = plain_views(recorded.transform, image, copies)
    after = states()
    seed_all(seed)
    views = recorded(image)
    assert states() == after
    assert len(views.views) == len(expected)
    for view, plain in zip(views.views, expected, strict=True):
        assert type(view) is type(plain)
        assert torch.equal(view, plain)
    seed_all(seed)
    records = []
    for i, params in enumerate(views.params):
        records.append(recorded.sample(image, i))
        assert torch.equal(records[-1].vector(), params)
        assert params.shape == (len(recorded.parameters),)
        assert params.dtype == torch.float32
    if len(records) == len(views.views):
        assert states() == after
    seed_all(seed + 1)
    before = states()
    for record, view in zip(records, views.views, strict=False):
        assert torch.equal(recorded.apply(image, record), view)
    assert states() == before
    return views, records
