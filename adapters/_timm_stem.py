"""A ResNet's stem for small images, and the authors' initial weights."""

from typing import Any

from timm.models.resnet import ResNet
from torch import nn


def use_small_stem(backbone: Any, name: str) -> None:
    """Give a ResNet a first convolution of 3x3 at stride 1, and no max-pooling."""
    if not isinstance(backbone, ResNet):
        raise ValueError(
            f"small_images: expected a model of timm.models.resnet (resnet18, seresnet50, ...), "
            f"got {name}, a {type(backbone).__name__}"
        )
    stem: Any = backbone.conv1
    conv: Any = stem[0] if isinstance(stem, nn.Sequential) else stem
    conv.stride = (1, 1)
    if conv.kernel_size != (3, 3):
        conv.kernel_size, conv.padding = (3, 3), (1, 1)
        conv.weight = nn.Parameter(conv.weight.new_empty(*conv.weight.shape[:2], 3, 3))
        # As timm draws its own.
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    backbone.register_module("maxpool", nn.Identity())


def has_small_stem(backbone: nn.Module) -> bool:
    """Whether :func:`use_small_stem` has been at it."""
    return isinstance(backbone, ResNet) and isinstance(backbone.maxpool, nn.Identity)


def initialise_as_paper(backbone: Any) -> None:
    """Draw linear layers and convolutions as PyTorch does; last norms of residual blocks at 0."""
    for module in backbone.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            # PyTorch draws weights and biases uniformly in +-1/sqrt(fan_in).
            module.reset_parameters()
        elif hasattr(module, "zero_init_last"):
            module.zero_init_last()
