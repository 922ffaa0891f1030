"""The images that a timm model takes, and the width of the features that it really gives."""

import contextlib
import copy
from functools import partial
from typing import Any

import torch
from timm.models import get_model_input_config
from torch import Tensor

# Those of timm's methods that build a head on num_features.
_HEAD_METHODS = ("reset_classifier", "prune_intermediate_layers")
# What timm and PyTorch raise where a model can't be built for a size, or take images of it.
UNFIT = (AssertionError, RuntimeError, ZeroDivisionError)


def image_shape(backbone: Any) -> tuple[int, int, int]:
    """(C, H, W) of the images that the backbone was built for."""
    channels, height, width = get_model_input_config(backbone)["input_size"]
    return channels, height, width


def refused(name: str, shape: tuple[int, int, int], error: Exception) -> ValueError:
    """The error of a model that takes no images of this shape."""
    return ValueError(f"input_size: {name} takes no images of shape {shape}: {error}")


def measure_width(backbone: Any, shape: tuple[int, int, int]) -> int:
    """Find D of the (B, D) features, on the meta device where possible."""
    weight = next(backbone.parameters())

    def probe(device: torch.device | str) -> Any:
        # In a copy, so that neither mode nor statistics of the backbone change.
        images = torch.zeros(2, *shape, dtype=weight.dtype, device=device)
        return copy.deepcopy(backbone).to(device).eval()(images)

    try:
        with torch.no_grad():
            try:
                features = probe("meta")
            except RuntimeError:  # an operation that needs the numbers themselves
                features = probe(weight.device)
    except UNFIT as error:
        raise refused(backbone.pretrained_cfg["architecture"], shape, error) from error
    got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
    if not isinstance(got, tuple) or len(got) != 2:
        raise ValueError(
            f"backbone: expected pooled features (2, D) of 2 images, got {got}; of timm's options, "
            "global_pool='' and features_only=True give others"
        )
    return got[1]


def note_width(backbone: Any) -> None:
    """Set ``num_features`` to the real width, except while timm needs its own.

    timm's own is the width before the layers that some models have after the pooling, and its
    methods build a head on it.
    """
    width = measure_width(backbone, image_shape(backbone))
    if getattr(backbone, "num_features", width) != width:
        _wrap_head_methods(backbone, own=backbone.num_features)
    backbone.num_features = width


def _wrap_head_methods(backbone: Any, own: int) -> None:
    for method in _HEAD_METHODS:
        if hasattr(backbone, method):
            # Unlike a closure, it is copied and pickled along with the backbone.
            setattr(backbone, method, partial(_with_own_width, backbone, method, own))


def _with_own_width(backbone: Any, method: str, own: int, *args: Any, **kwargs: Any) -> Any:
    """Call timm's method while ``num_features`` is timm's, then note the width again."""
    for name in _HEAD_METHODS:
        vars(backbone).pop(name, None)
    backbone.num_features = own
    result = getattr(backbone, method)(*args, **kwargs)
    _wrap_head_methods(backbone, own=backbone.num_features)
    if backbone.num_classes == 0:
        with contextlib.suppress(ValueError):  # what is not pooled has no width
            backbone.num_features = measure_width(backbone, image_shape(backbone))
    return result
