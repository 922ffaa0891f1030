"""Features of places in an image, for dense tasks."""

from typing import Any

from torch import Tensor, nn

from star_head._checks import describe


def spatial_features(backbone: nn.Module, images: Tensor) -> Tensor:
    """The last features of a timm backbone before pooling, as a map.

    For a CNN what ``forward_features`` gives; for a vision transformer its patch tokens, normalised
    as for the classifier and laid out as the patches lie.

    Args:
        backbone: Any timm model that has ``forward_intermediates``, as nearly all have.
        images: (B, 3, H, W).

    Returns:
        (B, D, h, w).

    Raises:
        TypeError: If the backbone gives no such map.

    Example:
        >>> import timm, torch
        >>> vit = timm.create_model("test_vit")
        >>> spatial_features(vit, torch.rand(2, 3, 160, 160)).shape
        torch.Size([2, 64, 10, 10])
    """
    forward: Any = getattr(backbone, "forward_intermediates", None)
    if not callable(forward):
        raise TypeError(
            f"backbone: expected a timm model with forward_intermediates, which gives a map of "
            f"features, got {describe(backbone)}"
        )
    features = forward(images, indices=1, norm=True, output_fmt="NCHW", intermediates_only=True)[-1]
    if not isinstance(features, Tensor) or features.ndim != 4:
        raise TypeError(
            f"backbone: expected a map of features (B, D, h, w), got {describe(features)} from "
            f"{type(backbone).__name__}"
        )
    return features
