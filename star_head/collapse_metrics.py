"""Measures of collapse, which need no labels: how many directions embeddings spread over."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from star_head._checks import check_matrix


def effective_rank(features: Tensor) -> Tensor:
    """The number of directions that features spread over, by the entropy of their singular values.

    RankMe of Garrido et al. 2023 (arXiv 2210.02885): exp(-sum_k p_k log p_k), where p_k is the
    share of the k-th singular value of the features as they are, not centred. Between 1, of
    features that all lie along one direction, and min(n, D).

    Args:
        features: (n, D).

    Returns:
        A scalar, float64 on the CPU.

    Raises:
        TypeError: If they are not of floating point.
        ValueError: If they are no matrix, empty, not finite or all zero.

    Example:
        >>> round(effective_rank(torch.eye(4)).item(), 4)
        4.0
        >>> round(effective_rank(torch.ones(100, 4)).item(), 4)
        1.0
    """
    singular = torch.linalg.svdvals(_finite(features))
    if not singular[0] > 0:
        raise ValueError("features: expected some that are not zero, got only zeros")
    shares = singular / singular.sum()
    return torch.special.entr(shares).sum().exp()


def embedding_spread(embeddings: Tensor) -> Tensor:
    """How far embeddings spread over the sphere: 0 where all are the same, 1 where they are even.

    The root of the summed variances of the normalised embeddings' coordinates, which Chen and He
    2021 (SimSiam, arXiv 2011.10566) watch as a standard deviation times the root of D.

    Args:
        embeddings: (n, D).

    Returns:
        A scalar in [0, 1], float64 on the CPU.

    Raises:
        TypeError: If they are not of floating point.
        ValueError: If they are no matrix, empty or not finite.

    Example:
        >>> embedding_spread(torch.tensor([[1.0, 0.0], [-2.0, 0.0]])).item()
        1.0
        >>> embedding_spread(torch.ones(8, 4)).item()
        0.0
    """
    unit = normalize(_finite(embeddings, "embeddings"), dim=1)
    return (unit - unit.mean(dim=0)).square().sum(dim=1).mean().sqrt()


def _finite(features: Tensor, name: str = "features") -> Tensor:
    check_matrix(name, features)
    if not features.numel():
        raise ValueError(f"{name}: expected at least one row, got shape {tuple(features.shape)}")
    features = features.detach().cpu().double()
    if not features.isfinite().all():
        raise ValueError(f"{name}: expected finite values, got nan or inf")
    return features
