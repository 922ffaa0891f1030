"""Augmentation parameters read off the features of several views of each image."""

import torch
from torch import Tensor

from star_head.equivariance_metrics import parameter_r2


def images_held_out(images: int, seed: int) -> Tensor:
    """Which images to measure on, a random fifth and at least one: (M,) booleans."""
    order = torch.randperm(images, generator=torch.Generator().manual_seed(seed))
    held_out = torch.zeros(images, dtype=torch.bool)
    held_out[order[: max(1, images // 5)]] = True
    return held_out


def view_parameter_r2(original: Tensor, views: Tensor, params: Tensor, held_out: Tensor) -> Tensor:
    """R^2 of each parameter, read off original and view, on images held out with all their views.

    Args:
        original: Features of M images, (M, D).
        views: Features of K views of each, (M, K, D).
        params: The views' parameters, (M, K, P).
        held_out: The images to measure on, (M,) booleans.

    Returns:
        (P,), as of ``parameter_r2``.
    """
    k = params.shape[1]
    return parameter_r2(
        original.repeat_interleave(k, dim=0),
        views.flatten(0, 1),
        params.flatten(0, 1),
        held_out.repeat_interleave(k),
    )


def view_parameter_r2_by_chance(
    original: Tensor, views: Tensor, params: Tensor, held_out: Tensor, seed: int
) -> Tensor:
    """The same where each view comes with another one's parameters: what is left is chance."""
    rows = params.flatten(0, 1)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    return view_parameter_r2(original, views, rows[order].view_as(params), held_out)
