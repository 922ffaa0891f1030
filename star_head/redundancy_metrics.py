"""Measures of redundancy: how far two embeddings of the same samples say the same."""

import torch
from torch import Tensor

from star_head._checks import check_matrix

# Relative size under which a direction counts as absent.
_RCOND = 1e-6


def canonical_correlations(z1: Tensor, z2: Tensor) -> Tensor:
    """Canonical correlations of two sets of embeddings, largest first.

    The singular values of Q1^T Q2, where Q_i is an orthonormal basis of the centred z_i's columns
    (Bjoerck and Golub 1973). The basis comes from an SVD in float64; directions whose singular
    value is below a millionth of the largest carry no variance to speak of and are left out.
    That is the only regularisation: correlations are neither shrunk nor do they depend on the
    scale of the embeddings.

    Args:
        z1: (n, d1).
        z2: (n, d2).

    Returns:
        min(r1, r2) correlations in [0, 1], float64 on the CPU, r_i being z_i's numerical rank.

    Raises:
        TypeError: If an embedding is no floating-point tensor.
        ValueError: If the numbers of rows differ, n is not greater than d1 and d2, a value is not
            finite, or an embedding is the same for all samples but for rounding.

    Example:
        >>> z = torch.randn(100, 4)
        >>> torch.allclose(canonical_correlations(z, z), torch.ones(4, dtype=torch.float64))
        True
    """
    check_matrix("z1", z1)
    check_matrix("z2", z2)
    if len(z1) != len(z2):
        raise ValueError(f"z2: expected as many rows as z1, {len(z1)}, got {len(z2)}")
    basis1, basis2 = _basis("z1", z1), _basis("z2", z2)
    return torch.linalg.svdvals(basis1.T @ basis2).clamp(max=1)


def mean_canonical_correlation(z1: Tensor, z2: Tensor) -> Tensor:
    """Mean of :func:`canonical_correlations`: the paper's measure of redundancy."""
    return canonical_correlations(z1, z2).mean()


def canonical_correlations_by_chance(z1: Tensor, z2: Tensor, seed: int = 0) -> Tensor:
    """What :func:`canonical_correlations` gives of embeddings that have nothing in common.

    Any two sets of n samples in d dimensions correlate, the more so the fewer samples: chance is
    what is left when the first embeddings meet the second ones of other samples.

    Args:
        z1: (n, d1).
        z2: (n, d2).
        seed: Seed of the order that samples are paired in.

    Returns:
        As of :func:`canonical_correlations`.

    Raises:
        TypeError: As by :func:`canonical_correlations`.
        ValueError: Likewise.

    Example:
        >>> z = torch.randn(100, 4)
        >>> bool(canonical_correlations_by_chance(z, z).mean() < 0.5)
        True
    """
    check_matrix("z1", z1)
    order = torch.randperm(len(z1), generator=torch.Generator().manual_seed(seed))
    return canonical_correlations(z1[order.to(z1.device)], z2)


def _basis(name: str, z: Tensor) -> Tensor:
    n, width = z.shape
    if n <= width:
        raise ValueError(
            f"{name}: expected more samples than dimensions, since any two sets of {n} samples in "
            f"{width} dimensions correlate perfectly; got shape {(n, width)}"
        )
    rounding = torch.finfo(z.dtype).eps
    z = z.detach().cpu().double()  # not every device has float64
    if not z.isfinite().all():
        raise ValueError(f"{name}: expected finite embeddings, got nan or inf")
    u, s, _ = torch.linalg.svd(z - z.mean(dim=0), full_matrices=False)
    if s[0] <= rounding * z.abs().max() * z.numel() ** 0.5:
        raise ValueError(f"{name}: expected embeddings that vary, got the same for all samples")
    return u[:, s > _RCOND * s[0]]
