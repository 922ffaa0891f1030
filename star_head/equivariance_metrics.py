"""Measures of equivariance: retrieval by predicted embeddings, and parameters read off features."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from star_head._checks import check_matrix, describe, meant

# Cosine similarities in float64 nearer than this are equal but for rounding.
_TIE = 1e-12

# Images at a time, which bounds the (images, K, K) tensors.
_CHUNK = 256


class RetrievalScores(NamedTuple):
    """How well predicted embeddings find the view that they were predicted for.

    Attributes:
        mean_reciprocal_rank: Mean of 1 / rank of the true view among its image's K, in (0, 1].
        hit_at_1: Share of predictions whose true view comes first.
        hit_at_5: Share of predictions whose true view is among the first five.
        prediction_retrieval_error: Mean Euclidean distance between the standardised parameters
            of the view that comes first and of the true one; 0 where these are the same.
    """

    mean_reciprocal_rank: float
    hit_at_1: float
    hit_at_5: float
    prediction_retrieval_error: float


def retrieval(
    predicted: Tensor, embeddings: Tensor, params: Tensor, std: Tensor | Sequence[float]
) -> RetrievalScores:
    """Look for each view among those of its own image, by its predicted embedding.

    After Garrido et al. 2023 (SIE, arXiv 2302.10283): mean reciprocal rank, hit rates at 1 and 5
    and prediction retrieval error, as means over all M x K predictions. The K views of the same
    image are ranked by cosine similarity of their equivariant embeddings to the prediction.

    Ties never flatter: each score is its expected value over all orders of what is tied, so an
    embedding that is the same for all views of an image gets exactly :func:`retrieval_chance`.

    Args:
        predicted: (M, K, d), predicted from M original images for K views of each.
        embeddings: (M, K, d), the equivariant embeddings of these views.
        params: (M, K, P), the raw parameters of the views.
        std: (P,), positive, what the parameters are divided by, such as ``Statistics.std``.

    Raises:
        TypeError: If a tensor is not of floating point.
        ValueError: If a shape does not fit, K is less than 2, a value is not finite, or a
            standard deviation is not positive.

    Example:
        >>> z, params = torch.randn(3, 10, 8), torch.randn(3, 10, 2)
        >>> retrieval(z, z, params, std=[1.0, 1.0])._asdict()  # doctest: +NORMALIZE_WHITESPACE
        {'mean_reciprocal_rank': 1.0, 'hit_at_1': 1.0, 'hit_at_5': 1.0,
         'prediction_retrieval_error': 0.0}
    """
    standardised = _standardise(params, std)
    m, k = params.shape[:2]
    _check_views("predicted", predicted)
    _check_views("embeddings", embeddings)
    if predicted.shape != embeddings.shape or predicted.shape[:2] != params.shape[:2]:
        raise ValueError(
            f"predicted, embeddings: expected the same shape (M, K, d) with params' (M, K), "
            f"{(m, k)}, got {tuple(predicted.shape)} and {tuple(embeddings.shape)}"
        )
    ranks = torch.arange(1, k + 1, dtype=torch.float64)
    harmonic = torch.cat([torch.zeros(1, dtype=torch.float64), ranks.reciprocal().cumsum(0)])
    totals = torch.zeros(4, dtype=torch.float64)
    for start in range(0, m, _CHUNK):
        part = slice(start, start + _CHUNK)
        similarity = _unit(predicted[part]) @ _unit(embeddings[part]).mT
        true = similarity.diagonal(dim1=1, dim2=2).unsqueeze(2)
        tied = ((similarity - true).abs() <= _TIE).sum(dim=2)  # the true view too
        before = (similarity > true + _TIE).sum(dim=2)
        first = (similarity >= similarity.amax(dim=2, keepdim=True) - _TIE).double()
        scores = (
            (harmonic[before + tied] - harmonic[before]) / tied,
            (1 - before).clamp(min=0) / tied.double(),
            (5 - before).clamp(min=0).minimum(tied) / tied.double(),
            (first * _distances(standardised[part])).sum(dim=2) / first.sum(dim=2),
        )
        totals += torch.stack([score.sum() for score in scores])
    return RetrievalScores(*(totals / (m * k)).tolist())


def retrieval_chance(params: Tensor, std: Tensor | Sequence[float]) -> RetrievalScores:
    """What :func:`retrieval` gives in expectation if every order of the views is as likely.

    With K views of each image: a mean reciprocal rank of (1 + 1/2 + ... + 1/K) / K, hit rates of
    1/K and 5/K (at most 1), and as error the mean distance of two views of one image, each view's
    distance of 0 to itself among them.

    Args:
        params: (M, K, P), the raw parameters of K views of M images.
        std: (P,), positive, what the parameters are divided by.

    Raises:
        TypeError: If ``params`` is not of floating point.
        ValueError: If a shape does not fit, K is less than 2, a value is not finite, or a
            standard deviation is not positive.

    Example:
        >>> chance = retrieval_chance(torch.tensor([[[0.0], [3.0]]]), std=[3.0])
        >>> chance.mean_reciprocal_rank, chance.hit_at_1, chance.prediction_retrieval_error
        (0.75, 0.5, 0.5)
    """
    standardised = _standardise(params, std)
    m, k = params.shape[:2]
    distance = 0.0
    for start in range(0, m, _CHUNK):
        distance += _distances(standardised[start : start + _CHUNK]).sum().item()
    mean_reciprocal_rank = sum(1 / rank for rank in range(1, k + 1)) / k
    return RetrievalScores(mean_reciprocal_rank, 1 / k, min(5 / k, 1.0), distance / (m * k * k))


def _standardise(params: Tensor, std: Tensor | Sequence[float]) -> Tensor:
    _check_views("params", params)
    if params.shape[1] < 2:
        raise ValueError(f"params: expected at least 2 views an image, got {tuple(params.shape)}")
    scale = torch.as_tensor(std, dtype=torch.float64).cpu()
    if scale.shape != params.shape[2:]:
        raise ValueError(
            f"std: expected one for each parameter, {tuple(params.shape[2:])}, "
            f"got shape {tuple(scale.shape)}"
        )
    if not ((scale > 0) & scale.isfinite()).all():
        raise ValueError(f"std: expected finite positive numbers, got {scale.tolist()}")
    return params.detach().cpu().double() / scale


def _check_views(name: str, tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(
            f"{name}: expected a tensor of shape (M, K, width), "
            f"got {describe(tensor)}{meant(tensor)}"
        )
    if not tensor.is_floating_point():
        raise TypeError(f"{name}: expected a floating-point tensor, got {tensor.dtype}")
    if tensor.ndim != 3 or 0 in tensor.shape:
        raise ValueError(f"{name}: expected shape (M, K, width), got {tuple(tensor.shape)}")
    if not tensor.isfinite().all():
        raise ValueError(f"{name}: expected finite values, got nan or inf")


def _unit(z: Tensor) -> Tensor:
    return normalize(z.detach().cpu().double(), dim=2)


def _distances(standardised: Tensor) -> Tensor:
    # By differences: by products, a view would be some way off itself.
    return torch.cdist(standardised, standardised, compute_mode="donot_use_mm_for_euclid_dist")


def parameter_r2(
    features_original: Tensor,
    features_view: Tensor,
    params: Tensor,
    held_out: Tensor | None = None,
) -> Tensor:
    """R^2 of each augmentation parameter, read by ridge regression off two images' features.

    Regressed on the concatenation of the features of the original and of its view, each
    standardised, with an intercept; as Lee et al. 2021 (AugSelf, arXiv 2111.09613) predict
    parameters from two views, but linearly and after training. Each parameter gets the ridge
    strength of least generalised cross-validation error (Golub, Heath and Wahba 1979) on the
    training part, from one eigendecomposition for all of them. R^2 is that of the rows held out:
    1 - squared error / squared deviation from their mean; it is below 0 where predictions are
    worse than that mean.

    Args:
        features_original: (n, D), of the original images.
        features_view: (n, D), of a view of each.
        params: (n, P), the views' parameters.
        held_out: (n,) booleans, the rows to measure on; a random fifth by a fixed seed unless
            given. With several views of an image, hold out all or none.

    Returns:
        (P,), float64 on the CPU; nan for a parameter that does not vary among the rows trained
        on, or among those held out.

    Raises:
        TypeError: If a tensor is not of floating point, or ``held_out`` not of booleans.
        ValueError: If a shape does not fit, a value is not finite, or fewer than 3 rows to train
            on or 2 held out are left.

    Example:
        >>> original, view = torch.randn(500, 8), torch.randn(500, 8)
        >>> params = torch.stack([view[:, 0] - original[:, 0], torch.full((500,), 2.0)], dim=1)
        >>> [round(r2, 4) for r2 in parameter_r2(original, view, params).tolist()]
        [1.0, nan]
    """
    named = {
        "features_original": features_original,
        "features_view": features_view,
        "params": params,
    }
    for name, tensor in named.items():
        check_matrix(name, tensor)
        if len(tensor) != len(features_original):
            raise ValueError(
                f"{name}: expected as many rows as features_original, {len(features_original)}, "
                f"got {len(tensor)}"
            )
        if not tensor.isfinite().all():
            raise ValueError(f"{name}: expected finite values, got nan or inf")
    test = _rows_held_out(len(params), held_out)
    x = torch.cat([t.detach().cpu().double() for t in (features_original, features_view)], dim=1)
    y = params.detach().cpu().double()
    varies = (y[~test] != y[~test][0]).any(dim=0) & (y[test] != y[test][0]).any(dim=0)
    r2 = torch.full(varies.shape, torch.nan, dtype=torch.float64)
    y = y[:, varies]

    predicted = _ridge(x[~test], y[~test], x[test])
    error = (y[test] - predicted).square().sum(dim=0)
    r2[varies] = 1 - error / (y[test] - y[test].mean(dim=0)).square().sum(dim=0)
    return r2


def _rows_held_out(n: int, held_out: Tensor | None) -> Tensor:
    if held_out is None:
        held_out = torch.zeros(n, dtype=torch.bool)
        held_out[torch.randperm(n, generator=torch.Generator().manual_seed(0))[: n // 5]] = True
    if not isinstance(held_out, Tensor):
        raise TypeError(f"held_out: expected a tensor of booleans, got {describe(held_out)}")
    if held_out.dtype != torch.bool:
        raise TypeError(f"held_out: expected booleans, got {held_out.dtype}")
    if held_out.shape != (n,):
        raise ValueError(f"held_out: expected shape {(n,)}, got {tuple(held_out.shape)}")
    count = int(held_out.sum())
    if count < 2 or n - count < 3:
        raise ValueError(
            f"held_out: expected at least 3 rows to train on and 2 held out, "
            f"got {n - count} and {count}"
        )
    return held_out.cpu()


# Ridge strengths, in units of the number of rows trained on: features have unit variance.
_STRENGTHS = torch.logspace(-6, 4, 41, dtype=torch.float64)


def _ridge(x: Tensor, y: Tensor, x_test: Tensor) -> Tensor:
    """Predictions for ``x_test``, with the strength chosen for each column of ``y``."""
    std, mean = torch.std_mean(x, dim=0, correction=0)
    # Features that do not vary count for nothing; rounding leaves them a little deviation.
    std = torch.where(std > 1e-12 * mean.abs(), std, torch.inf)
    x, x_test = (x - mean) / std, (x_test - mean) / std
    n, y_mean = len(y), y.mean(dim=0)
    y = y - y_mean

    # x = u diag(s) v', by way of the smaller of the two Gram matrices.
    s2, basis = torch.linalg.eigh(x.T @ x if x.shape[0] > x.shape[1] else x @ x.T)
    kept = s2 > 1e-12 * s2[-1].clamp(min=1e-300)
    s, basis = s2[kept].sqrt(), basis[:, kept]
    if x.shape[0] > x.shape[1]:
        u, v = x @ basis / s, basis
    else:
        u, v = basis, x.T @ basis / s
    along = u.T @ y  # (r, P)
    beyond = (y.square().sum(dim=0) - along.square().sum(dim=0)).clamp(min=0)

    strengths = n * _STRENGTHS
    left = strengths / (s.square().unsqueeze(1) + strengths)  # (r, L): of a residual, by direction
    error = left.T.square() @ along.square() + beyond  # (L, P)
    # Degrees of freedom that are left: the intercept takes one.
    freedom = n - 1 - len(s) + left.sum(dim=0)
    chosen = (error / freedom.square().unsqueeze(1)).argmin(dim=0)
    weights = (1 - left[:, chosen]) / s.unsqueeze(1) * along
    return x_test @ (v @ weights) + y_mean
