"""The callbacks that need no more than features and images, in one call."""

from typing import Any

from star_head.adapters._samples import DataSet

from ._monitor import Callback
from ._reading import Reading
from .equivariance import EquivarianceMonitor, recorded
from .linear_probe import OnlineLinearProbe
from .nearest_neighbours import NearestNeighbours
from .rank import RankMonitor


def watch(features: Reading, bank: DataSet, queries: DataSet, transform: Any) -> list[Callback]:
    """Callbacks for a method of any kind, at their defaults.

    Nearest neighbours of ``queries`` in ``bank``, a linear probe measured on ``queries``, the rank
    of the features, and R^2 of the augmentation parameters on views of ``queries``.

    Args:
        features: Name of the module's part that makes features (B, D) of images, such as
            ``"backbone"``, or a function of the module and images.
        bank: Data set of (image, label) as PIL images or uint8 tensors, without a transform, such
            as that which is trained on.
        queries: Likewise, held out.
        transform: The one that is trained with: ``STARTransform``, or any of lightly or
            torchvision.

    Raises:
        TypeError: If an argument is of another kind, or the transform cannot be recorded.
        ValueError: If a data set is empty or too small.

    Example:
        >>> import torch
        >>> from star_head.adapters.lightly import STARTransform
        >>> pixels = torch.randint(256, (20, 3, 40, 40), dtype=torch.uint8)
        >>> images = [(image, i % 2) for i, image in enumerate(pixels)]
        >>> callbacks = watch("backbone", images, images, STARTransform(32))
        >>> [type(callback).__name__ for callback in callbacks]
        ['NearestNeighbours', 'OnlineLinearProbe', 'RankMonitor', 'EquivarianceMonitor']
    """
    made = recorded(transform)
    plain = made.original
    return [
        NearestNeighbours(features, bank, queries, transform=plain),
        OnlineLinearProbe(features, queries, transform=plain),
        RankMonitor(features),
        EquivarianceMonitor(features, queries, made),
    ]
