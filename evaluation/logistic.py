"""L2-regularised multinomial logistic regression along a path of strengths, as one problem.

The strengths are solved from the strongest to the weakest, each from where the two before point
to, by Newton steps preconditioned in the basis in which the features' second moments are diagonal.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from star_head.evaluation._cross_entropy import Problem, chunks
from star_head.evaluation._labelled import Joined
from star_head.evaluation._newton import Solution, minimise
from star_head.evaluation._progress import steps

# The paper's: 45, log-spaced.
STRENGTHS: list[float] = torch.logspace(-6, 5, 45, dtype=torch.float64).tolist()


class Solutions(NamedTuple):
    """Solutions along K strengths, in the order in which these were given.

    Attributes:
        strengths: K numbers.
        weights: (K, C, D + 1); the last column is the bias.
        converged: (K,), whether a bound or an estimate is within the tolerance.
        iterations: (K,), of conjugate gradients.
        bounds: (K,), by how much each objective can at most exceed its minimum, as a share of it,
            or of its distance from that of zero weights where this is less; wide where the data
            alone determine the weights, as with weak penalties and many samples.
        estimates: (K,), what the last Newton step was to gain, likewise a share: an estimate, no
            bound. Of a few hundred samples it was seen 16 times too low.
    """

    strengths: list[float]
    weights: Tensor
    converged: Tensor
    iterations: Tensor
    bounds: Tensor
    estimates: Tensor

    def summary(self) -> str:
        """One line on whether all was solved."""
        bad = [s for s, c in zip(self.strengths, self.converged.tolist(), strict=True) if not c]
        left = f", not {', '.join(f'{s:.1e}' for s in bad)}" if bad else ""
        return (
            f"{len(self.strengths) - len(bad)} of {len(self.strengths)} strengths converged{left}, "
            f"in {int(self.iterations.sum())} iterations; objectives above their minima by about "
            f"{self.estimates.max():.0e} as estimated, {self.bounds.max():.0e} at most"
        )


def fit_path(
    features: np.ndarray | Joined,
    labels: np.ndarray,
    strengths: Sequence[float],
    *,
    num_classes: int,
    initial: Tensor | None = None,
    tolerance: float = 1e-4,
    device: torch.device | str = "cpu",
) -> Solutions:
    """Minimise, for each strength s, the summed cross-entropy + s (|weights|^2 + |biases|^2).

    The sum of squares stands as written, without a factor 1/2: s is 1 / (2 C) of scikit-learn's
    ``LogisticRegression`` on features with a column of ones and ``fit_intercept=False``.

    Args:
        features: (n, D), float16, float32 or float64, which may be memory-mapped. float64 ones
            are computed with in float64, others in float32. Never copied as a whole if the copy
            would have more than 4 GiB.
        labels: (n,), integers in [0, C), each there at least once.
        strengths: Positive numbers in any order; close ones help each other.
        num_classes: C.
        initial: (C, D + 1), where to start the strongest from; default: zeros.
        tolerance: By how much an objective may exceed its minimum, as such a share, as bounded or
            as estimated.
        device: Where it is computed, and the solutions will lie.

    Raises:
        TypeError: If features are not of floating point or labels not integers.
        ValueError: If an argument is not as above, or if features are not finite, too large to be
            squared in float32, or the same for all samples.
    """
    _check(features, labels, strengths, num_classes, initial, tolerance)
    problem = Problem(features, labels, num_classes, torch.device(device))
    order = sorted(range(len(strengths)), key=lambda k: -strengths[k])
    found: dict[int, Solution] = {}
    before: list[tuple[float, Tensor]] = []  # log strength and weights of the last two
    pairs: list[tuple[Tensor, Tensor]] = []
    weights = problem.rotate(initial)
    for k in steps(order, "Strengths"):
        log_strength = math.log(strengths[k])
        start = _extrapolate(before, log_strength) if before else weights
        found[k], pairs = minimise(problem, strengths[k], start, tolerance, pairs)
        before = [*before[-1:], (log_strength, found[k].weights)]
    solutions = [found[k] for k in range(len(strengths))]
    return Solutions(
        list(strengths),
        torch.stack([problem.rotate_back(solution.weights) for solution in solutions]),
        torch.tensor([solution.converged for solution in solutions]),
        torch.tensor([solution.iterations for solution in solutions]),
        torch.tensor([solution.bound for solution in solutions], dtype=torch.float64),
        torch.tensor([solution.estimate for solution in solutions], dtype=torch.float64),
    )


def predict(weights: Tensor, features: np.ndarray) -> Tensor:
    """The class of the largest logit.

    Args:
        weights: (..., C, D + 1), the last column being the bias.
        features: (n, D); read once, however many weights there are.

    Returns:
        (..., n), on the weights' device.
    """
    *batch, classes, columns = weights.shape
    if features.ndim != 2 or features.shape[1] + 1 != columns:
        raise ValueError(
            f"features: expected (n, {columns - 1}) for weights {tuple(weights.shape)}, got "
            f"{features.shape}"
        )
    flat = weights.flatten(0, -2)
    found = [
        (chunk @ flat.T).view(len(chunk), -1, classes).argmax(2)
        for chunk in chunks(features, len(flat), weights.dtype, weights.device)
    ]
    return torch.cat(found).T.reshape(*batch, len(features))


def _extrapolate(before: list[tuple[float, Tensor]], log_strength: float) -> Tensor:
    """Continue the line through the last two solutions, over the logarithm of the strength."""
    (last, weights), (first, earlier) = before[-1], before[0]
    if last == first:
        return weights
    return weights + (log_strength - last) / (last - first) * (weights - earlier)


def _check(
    features: np.ndarray | Joined,
    labels: np.ndarray,
    strengths: Sequence[float],
    num_classes: int,
    initial: Tensor | None,
    tolerance: float,
) -> None:
    floating = (np.float16, np.float32, np.float64)
    if features.dtype not in floating:
        raise TypeError(f"features: expected floating point, got {features.dtype}")
    if features.ndim != 2 or not len(features):
        raise ValueError(f"features: expected (n, D), got {features.shape}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels: expected integers, got {labels.dtype}")
    if labels.shape != features.shape[:1]:
        raise ValueError(f"labels: expected ({len(features)},), got {labels.shape}")
    if num_classes < 2:
        raise ValueError(f"num_classes: expected at least 2, got {num_classes}")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"labels: expected 0 to {num_classes - 1}, got {labels.min()} to {labels.max()}"
        )
    absent = np.flatnonzero(np.bincount(labels, minlength=num_classes) == 0)
    if len(absent):
        raise ValueError(
            f"labels: expected all of {num_classes} classes, got none of {absent[:10].tolist()}"
        )
    if not len(strengths) or not all(0 < s < math.inf for s in strengths):
        raise ValueError(f"strengths: expected positive numbers, got {list(strengths)}")
    expected = (num_classes, features.shape[1] + 1)
    if initial is not None and initial.shape != expected:
        raise ValueError(f"initial: expected {expected}, got {tuple(initial.shape)}")
    if initial is not None and not initial.isfinite().all():
        raise ValueError("initial: expected finite numbers, got some that are not")
    if not tolerance > 0:
        raise ValueError(f"tolerance: expected more than 0, got {tolerance}")
