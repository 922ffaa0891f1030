"""Measures of what was learned: redundancy, equivariance, collapse, and use of the experts."""

import math

import torch
from torch import Tensor

from star_head._checks import check_matrix, describe
from star_head.collapse_metrics import effective_rank, embedding_spread
from star_head.equivariance_metrics import (
    RetrievalScores,
    parameter_r2,
    retrieval,
    retrieval_chance,
)
from star_head.redundancy_metrics import (
    canonical_correlations,
    canonical_correlations_by_chance,
    mean_canonical_correlation,
)

__all__ = [
    "RetrievalScores",
    "canonical_correlations",
    "canonical_correlations_by_chance",
    "effective_rank",
    "embedding_spread",
    "expert_roles",
    "expert_usage",
    "mean_canonical_correlation",
    "parameter_r2",
    "retrieval",
    "retrieval_chance",
    "routing_divergence",
    "routing_entropy",
    "usage_by_group",
    "usage_correlation",
]


def expert_usage(weights: Tensor) -> Tensor:
    """Mean share of each expert in each task: (T, E) from routing weights (B, T, E).

    A row's shares sum to 1, also where its weights do not, as STAR-SS's (1, 0, 1).

    Raises:
        TypeError: If ``weights`` are not a tensor.
        ValueError: If a shape does not fit, or a row is no mixture: it has a weight below 0 or
            not finite, or nothing above 0.

    Example:
        >>> expert_usage(torch.tensor([[[0.75, 0.25]], [[0.5, 0.5]]])).tolist()
        [[0.625, 0.375]]
    """
    return _shares(weights).mean(dim=0)


def usage_by_group(weights: Tensor, groups: Tensor) -> Tensor:
    """:func:`expert_usage` of each group of samples, such as a class.

    Args:
        weights: Routing weights, (B, T, E).
        groups: The group of each sample, integers from 0, (B,).

    Returns:
        (G, T, E), G being the largest group plus 1; nan for a group without samples.

    Raises:
        TypeError: If ``weights`` are not a tensor, or ``groups`` not one of integers.
        ValueError: If a shape does not fit, a group is negative, or a row of weights is no
            mixture.

    Example:
        >>> weights = torch.tensor([[[0.75, 0.25]], [[0.5, 0.5]], [[0.0, 1.0]]])
        >>> usage_by_group(weights, torch.tensor([0, 1, 1])).tolist()
        [[[0.75, 0.25]], [[0.25, 0.75]]]
    """
    weights = _shares(weights)
    if not isinstance(groups, Tensor):
        raise TypeError(
            f"groups: expected a tensor of integers, one for each sample, got {describe(groups)}; "
            f"torch.as_tensor(groups) makes one of a list or an array"
        )
    if groups.dtype not in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64):
        raise TypeError(f"groups: expected integers, got {groups.dtype}")
    if groups.shape != weights.shape[:1]:
        raise ValueError(
            f"groups: expected one for each sample, {tuple(weights.shape[:1])}, "
            f"got shape {tuple(groups.shape)}"
        )
    if groups.min() < 0:
        raise ValueError(f"groups: expected numbers from 0, got {int(groups.min())}")
    groups = groups.long().to(weights.device)
    counts = groups.bincount()
    sums = weights.new_zeros(len(counts), *weights.shape[1:]).index_add(0, groups, weights)
    return sums / counts.view(-1, 1, 1)


def usage_correlation(weights: Tensor, params: Tensor) -> Tensor:
    """Pearson correlation of each expert's routing weight with each augmentation parameter.

    It tells which expert follows, say, hue.

    Args:
        weights: Routing weights of views, (B, T, E); each row's shares count.
        params: The views' parameters, (B, P); their units do not matter.

    Returns:
        (T, E, P), float64 on the CPU, in [-1, 1]; nan where the weight or the parameter does not
        vary.

    Raises:
        TypeError: If ``weights`` are not a tensor, or ``params`` not one of floating point.
        ValueError: If a shape does not fit, or a row of weights is no mixture.

    Example:
        >>> hue = torch.rand(50)
        >>> weights = torch.stack([hue, 1 - hue], dim=1).unsqueeze(1)
        >>> usage_correlation(weights, hue.unsqueeze(1)).round(decimals=4).tolist()
        [[[1.0], [-1.0]]]
    """
    weights = _shares(weights)
    check_matrix("params", params)
    if len(params) != len(weights):
        raise ValueError(
            f"params: expected as many rows as weights, {len(weights)}, got {len(params)}"
        )
    usage, a = _deviations(weights.flatten(1)), _deviations(params)
    return (usage.T @ a).clamp(-1, 1).view(*weights.shape[1:], -1)


def _deviations(columns: Tensor) -> Tensor:
    """Columns centred and of unit norm, nan where they do not vary."""
    columns = columns.detach().cpu().double()
    constant = (columns == columns[0]).all(dim=0)
    centred = (columns - columns.mean(dim=0)).masked_fill(constant, torch.nan)
    return centred / centred.norm(dim=0)


def expert_roles(usage: Tensor) -> Tensor:
    """How far each expert belongs to one task: (E,) from usage (2, E).

    (equivariant - invariant) / (equivariant + invariant): -1 for an expert that serves the
    invariant task alone, 0 for one that both share alike, 1 for the equivariant task's own; nan
    for an expert that neither uses.

    Args:
        usage: From :func:`expert_usage`: the invariant task's row, then the equivariant task's; of
            rows that do not sum to 1, each row's shares.

    Raises:
        TypeError: If ``usage`` is not a floating-point tensor.
        ValueError: If there are not two tasks, or a row is no mixture: it has a share below 0 or
            not finite, or nothing above 0.

    Example:
        >>> expert_roles(torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]])).tolist()
        [-1.0, 0.0, 1.0]
    """
    check_matrix("usage", usage)
    if len(usage) != 2:
        raise ValueError(f"usage: expected two tasks, (2, E), got {tuple(usage.shape)}")
    invariant, equivariant = _normalise("usage", usage)
    return (equivariant - invariant) / (equivariant + invariant)


def routing_entropy(weights: Tensor) -> Tensor:
    """Mean entropy of the samples' routing, for each task: (T,) from (B, T, E), in [0, 1].

    In units of log E: 0 where each sample takes one expert, 1 where it takes all alike. Of a row
    whose weights do not sum to 1, as STAR-SS's, the shares count.

    Raises:
        TypeError: If ``weights`` are not a tensor.
        ValueError: If a shape does not fit, or a row is no mixture.

    Example:
        >>> shared = torch.tensor([[[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]])
        >>> [round(entropy, 3) for entropy in routing_entropy(shared).tolist()]
        [0.631, 0.631]
    """
    weights = _shares(weights)
    entropy = -torch.xlogy(weights, weights).sum(dim=-1).mean(dim=0)
    return entropy / math.log(max(weights.shape[-1], 2))


def routing_divergence(weights: Tensor) -> Tensor:
    """How far the two tasks' routings differ: mean Jensen-Shannon divergence over samples.

    Args:
        weights: Routing weights of two tasks, (B, 2, E). Of a row whose weights do not sum to 1,
            as STAR-SS's, the shares count.

    Returns:
        A scalar in units of log 2, in [0, 1], which is 0 where both tasks take the same experts
        and 1 where they share none.

    Raises:
        TypeError: If ``weights`` are not a tensor.
        ValueError: If there are not two tasks, or a row is no mixture.

    Example:
        >>> routing_divergence(torch.tensor([[[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]])).item()
        0.5
    """
    weights = _shares(weights)
    if weights.shape[1] != 2:
        raise ValueError(f"weights: expected two tasks, (B, 2, E), got {tuple(weights.shape)}")
    middle = weights.mean(dim=1, keepdim=True)
    ratio = torch.where(weights > 0, weights / middle, 1.0)
    divergence = torch.xlogy(weights, ratio).sum(dim=-1).mean(dim=1)
    return (divergence / math.log(2)).mean()


def _shares(weights: Tensor) -> Tensor:
    """Each expert's share in its row of routing weights (B, T, E), float32 or better."""
    if not isinstance(weights, Tensor):
        raise TypeError(f"weights: expected a tensor (B, tasks, experts), got {describe(weights)}")
    if weights.ndim != 3 or 0 in weights.shape:
        raise ValueError(
            f"weights: expected routing weights (B, tasks, experts), got {tuple(weights.shape)}"
        )
    return _normalise("weights", weights)


def _normalise(name: str, rows: Tensor) -> Tensor:
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    if not rows.isfinite().all():
        raise ValueError(f"{name}: expected finite weights, got nan or inf")
    if (rows < 0).any():
        raise ValueError(
            f"{name}: expected weights of at least 0, whose shares can be told, "
            f"got {rows.min().item()}"
        )
    sums = rows.sum(dim=-1, keepdim=True)
    if not (sums > 0).all():
        raise ValueError(f"{name}: expected something above 0 in each row, got only zeros in one")
    # Rows that sum to 1 but for rounding stay as they are, bit for bit.
    rounding = rows.shape[-1] * torch.finfo(rows.dtype).eps
    return torch.where((sums - 1).abs() <= rounding, rows, rows / sums)
