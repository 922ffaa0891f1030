"""Arguments of the view transforms as people write them."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from star_head.adapters.device import BatchTransform, RecordingTransform
from star_head.adapters.lightly import STARMultiViewTransform, STARTransform, STARViewTransform

IMAGE = torch.zeros(3, 24, 20, dtype=torch.uint8)


@pytest.mark.parametrize("size", [16, (16, 16), [16, 16], np.int64(16), torch.Size([16, 16])])
def test_square_views_by_a_side_or_a_pair(size: Any) -> None:
    transform = STARTransform(input_size=size)
    assert transform.input_size == 16
    assert transform(IMAGE).views[0].shape == (3, 16, 16)


@pytest.mark.parametrize("size", [(16, 24), [24, 16]])
def test_views_that_are_not_square(size: Any) -> None:
    with pytest.raises(ValueError, match="input_size: expected a side in pixels, since views are"):
        STARTransform(size)


@pytest.mark.parametrize("size", ["16", None, 16.5, (16,), (16, 16, 3), True, {"height": 16}])
def test_what_is_no_side(size: Any) -> None:
    with pytest.raises(TypeError, match="input_size: expected a side in pixels, got"):
        STARViewTransform(size)


@pytest.mark.parametrize(
    "name",
    [
        *("cj_prob", "cj_strength", "cj_bright", "cj_contrast", "cj_sat", "cj_hue", "min_scale"),
        *("random_gray_scale", "gaussian_blur", "vf_prob", "hf_prob", "rr_prob"),
    ],
)
@pytest.mark.parametrize("value", [None, "0.5", (0.1, 0.5)])
def test_what_is_no_number(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"{name}: expected a number, got"):
        STARTransform(16, **{name: value})


@pytest.mark.parametrize("value", [0.5, None, (0.1,), (0.1, 1.0, 2.0), ("0.1", "2")])
def test_what_is_no_range_of_sigmas(value: Any) -> None:
    with pytest.raises(TypeError, match="sigmas: expected"):
        STARTransform(16, sigmas=value)


def test_what_a_batch_transform_can_make_no_views_of() -> None:
    for other in (STARMultiViewTransform([STARTransform(16)]), nn.Identity(), STARTransform):
        with pytest.raises(TypeError, match="transform: expected a STARTransform, whose records"):
            RecordingTransform(other)
    views = STARTransform(16)(IMAGE)
    for batch in (views, (RecordingTransform(STARTransform(16))(IMAGE), 0), IMAGE, None):
        with pytest.raises(TypeError, match="recorded: expected RecordedImages.*, got"):
            BatchTransform(STARTransform(16))(batch)
