"""What three passes of a backbone take by the book, counted on a batch of two images."""

from functools import cache
from typing import NamedTuple

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm

from benchmarks.cost_counts import VIEWS, Work
from benchmarks.cost_points import count_products
from benchmarks.head import count_operations
from star_head.adapters.timm import create_backbone

IMAGES = 2
# How often a number that is kept for the backward pass is moved, with its gradient: written, read
# by the next layer and by the backward pass; the gradient written and read by two products.
MOVES = 6


class BackboneCounts(NamedTuple):
    """Of one image in three views.

    Attributes:
        width: Of the features.
        weights: Parameters.
        operations: Of convolutions and matrix products, forward and backward, of three views.
        activations: Numbers kept for the backward pass, of three views.
        norm_channels: Channels of batch norms.
        norms: Batch norms.
        launches: Operations of three passes that a GPU would launch a kernel for.
    """

    width: int
    weights: int
    operations: int
    activations: int
    norm_channels: int
    norms: int
    launches: int

    def step(self, batch: int) -> Work:
        """Three passes of a batch."""
        weights_moved = 3 * (2 * VIEWS - 1) * self.weights
        return Work(batch * self.operations, batch * MOVES * self.activations + weights_moved)


@cache
def count_backbone(name: str, size: int) -> BackboneCounts:
    """Count a timm model.

    Args:
        name: Name of the model.
        size: Side of the images in pixels.
    """
    backbone = create_backbone(name, input_size=size)
    images = torch.randn(IMAGES, 3, size, size)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes() // tensor.element_size()
        return tensor

    def once() -> None:
        backbone(images).sum().backward()
        backbone.zero_grad()

    # Attention as products, which the counter knows on every device.
    with sdpa_kernel(SDPBackend.MATH):
        operations = count_products(once)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        features = backbone(images)  # held, or storages would be used twice
    owned = [*backbone.parameters(), *backbone.buffers(), images]
    for tensor in owned:
        kept.pop(tensor.untyped_storage().data_ptr(), None)
    norms = [module for module in backbone.modules() if isinstance(module, _BatchNorm)]
    return BackboneCounts(
        width=features.shape[1],
        weights=sum(parameter.numel() for parameter in backbone.parameters()),
        operations=VIEWS * operations // IMAGES,
        activations=VIEWS * sum(kept.values()) // IMAGES,
        norm_channels=sum(norm.num_features for norm in norms),
        norms=len(norms),
        launches=VIEWS * count_operations(once),
    )
