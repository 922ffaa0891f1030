"""L2-regularised multinomial logistic regression along a path of strengths, as one problem.

The strengths are solved from the strongest to the weakest, each from where the two before point
to, by Newton steps preconditioned in the basis in which the features' second moments are diagonal.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from star_head.evaluation._progress import steps

# The paper's: 45, log-spaced.
STRENGTHS: list[float] = torch.logspace(-6, 5, 45, dtype=torch.float64).tolist()

# Features are kept as a rotated float32 copy up to this size, and converted chunk by chunk above.
_COPY_BYTES = 4 * 2**30
# Numbers in a chunk of features or logits, a few of which are held at a time.
_CHUNK_SIZE = 2**22

_MAX_ITERATIONS = 5000
_MAX_PRODUCTS = 500
_MAX_TRIALS = 30
_HISTORY = 20


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
    features: np.ndarray,
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
        initial: (C, D + 1), where to start the strongest from; zeros unless given.
        tolerance: By how much an objective may exceed its minimum, as such a share, as bounded or
            as estimated.
        device: Where it is computed, and the solutions will lie.

    Raises:
        TypeError: If features are not of floating point or labels not integers.
        ValueError: If an argument is not as above, or if features are not finite, too large to be
            squared in float32, or the same for all samples.
    """
    _check(features, labels, strengths, num_classes, initial, tolerance)
    problem = _Problem(features, labels, num_classes, torch.device(device))
    order = sorted(range(len(strengths)), key=lambda k: -strengths[k])
    found: dict[int, _Solution] = {}
    before: list[tuple[float, Tensor]] = []  # log strength and weights of the last two
    pairs: list[tuple[Tensor, Tensor]] = []
    weights = problem.rotate(initial)
    for k in steps(order, "Strengths"):
        log_strength = math.log(strengths[k])
        start = _extrapolate(before, log_strength) if before else weights
        found[k], pairs = _minimise(problem, strengths[k], start, tolerance, pairs)
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
        for chunk in _chunks(features, len(flat), weights.dtype, weights.device)
    ]
    return torch.cat(found).T.reshape(*batch, len(features))


class _Solution(NamedTuple):
    """As in :class:`Solutions`, of one strength; the weights are in the eigenbasis."""

    weights: Tensor
    converged: bool
    iterations: int
    bound: float
    estimate: float


class _Point(NamedTuple):
    """The summed cross-entropy at some weights.

    Attributes:
        loss: Its value.
        gradient: (C, D + 1).
        probabilities: (n, C).
    """

    loss: float
    gradient: Tensor
    probabilities: Tensor


class _Step(NamedTuple):
    """Of Newton's method.

    Attributes:
        change: What is added to the weights, (C, D + 1).
        decrease: By how much the quadratic model falls.
        pairs: Directions and the cross-entropy's Hessian times these, the latest ones.
        iterations: Of conjugate gradients.
        solved: Whether the model's minimum is near.
    """

    change: Tensor
    decrease: float
    pairs: list[tuple[Tensor, Tensor]]
    iterations: int
    solved: bool


class _Problem:
    """The data, and the cross-entropy as a function of weights in the features' eigenbasis.

    Args:
        features: (n, D).
        labels: (n,).
        num_classes: C.
        device: Where all is computed.
    """

    def __init__(
        self, features: np.ndarray, labels: np.ndarray, num_classes: int, device: torch.device
    ) -> None:
        self.features = features
        self.labels = torch.from_numpy(labels.astype(np.int64)).to(device)
        self.device = device
        self.num_classes = num_classes
        self.loss_of_zeros = len(features) * math.log(num_classes)
        double = features.dtype == np.float64
        self.dtype = torch.float64 if double else torch.float32
        columns = features.shape[1] + 1
        moments = torch.zeros(columns, columns, dtype=torch.float64, device=device)
        low = torch.full((columns,), torch.inf, dtype=self.dtype, device=device)
        high = -low
        for chunk in _chunks(features, columns, self.dtype, device):
            moments += chunk.T @ chunk
            low, high = torch.minimum(low, chunk.amin(0)), torch.maximum(high, chunk.amax(0))
        if not moments.isfinite().all():
            raise ValueError(
                f"features: expected finite numbers, with squares that are so in {self.dtype}, got "
                f"{low.min()} to {high.max()}"
            )
        if (low == high).all():
            raise ValueError(f"features: all {len(features)} samples have the same")
        eigenvalues, basis = torch.linalg.eigh(moments)
        self.eigenvalues = eigenvalues.clamp_min(0).to(self.dtype)
        self.basis = basis.to(self.dtype)
        self.rotated: Tensor | None = None
        if len(features) * columns * self.basis.element_size() <= _COPY_BYTES:
            self.rotated = torch.empty(len(features), columns, dtype=self.dtype, device=device)
            done = 0
            for chunk in _chunks(features, columns, self.dtype, device):
                torch.mm(chunk, self.basis, out=self.rotated[done : done + len(chunk)])
                done += len(chunk)

    def rotate(self, weights: Tensor | None) -> Tensor:
        """Weights (C, D + 1) into the eigenbasis; zeros of None."""
        if weights is None:
            return self.basis.new_zeros(self.num_classes, len(self.basis))
        return weights.to(self.basis) @ self.basis

    def rotate_back(self, weights: Tensor) -> Tensor:
        """Weights (C, D + 1) out of the eigenbasis."""
        return weights @ self.basis.T

    def cross_entropy(self, weights: Tensor) -> _Point:
        """The summed cross-entropy and its derivatives at weights (C, D + 1)."""
        loss = 0.0
        if self.rotated is None:
            weights = self.rotate_back(weights)
        gradient = torch.zeros_like(weights)
        probabilities = weights.new_empty(len(self.labels), self.num_classes)
        done = 0
        for chunk in self._chunks():
            labels = self.labels[done : done + len(chunk)]
            losses, residuals = _losses(chunk @ weights.T, labels)
            loss += losses.sum(dtype=torch.float64).item()
            gradient.addmm_(residuals.T, chunk)
            of_chunk = probabilities[done : done + len(chunk)]
            of_chunk.copy_(residuals)
            of_chunk[torch.arange(len(chunk), device=self.device), labels] += 1
            done += len(chunk)
        if self.rotated is None:
            gradient = self.rotate(gradient)
        return _Point(loss, gradient, probabilities)

    def curve(self, point: _Point, direction: Tensor) -> Tensor:
        """The Hessian of the summed cross-entropy at a point, times a direction (C, D + 1)."""
        if self.rotated is None:
            direction = self.rotate_back(direction)
        product = torch.zeros_like(direction)
        done = 0
        for chunk in self._chunks():
            end = done + len(chunk)
            logits = chunk @ direction.T
            # Where the label's probability is near 1, nothing cancels if its logit is 0.
            logits -= logits.gather(1, self.labels[done:end].unsqueeze(1))
            probabilities = point.probabilities[done:end]
            logits *= probabilities
            logits -= probabilities * logits.sum(1, keepdim=True)
            product.addmm_(logits.T, chunk)
            done = end
        return product if self.rotated is not None else self.rotate(product)

    def _chunks(self) -> Iterator[Tensor]:
        if self.rotated is None:
            yield from _chunks(self.features, self.num_classes, self.dtype, self.device)
        else:
            yield from torch.split(self.rotated, _rows(max(self.num_classes, len(self.basis))))


def _losses(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropies (n, 1), and probabilities less one-hot labels, (n, C).

    Accurate also where the probability of the right class is within rounding of 1, as it is for
    nearly all samples under weak penalties: nothing is subtracted from 1.
    """
    index = labels.unsqueeze(1)
    highest = logits.amax(1, keepdim=True)
    margin = logits.gather(1, index) - highest
    odds = (logits - highest).exp_()
    right = odds.gather(1, index)
    wrong = odds.scatter_(1, index, 0).sum(1, keepdim=True)
    losses = torch.where(margin < 0, (wrong + right).log() - margin, wrong.log1p())
    return losses, odds.scatter_(1, index, -wrong).div_(wrong + right)


def _minimise(
    problem: _Problem,
    strength: float,
    weights: Tensor,
    tolerance: float,
    pairs: list[tuple[Tensor, Tensor]],
) -> tuple[_Solution, list[tuple[Tensor, Tensor]]]:
    """Newton's method, each step by preconditioned conjugate gradients.

    ``pairs`` are steps and the cross-entropy's Hessian times these, of the last solve: as
    neighbouring problems curve alike, they precondition the next (Morales and Nocedal 2000).
    """
    point = problem.cross_entropy(weights)
    iterations = 0
    estimate = math.inf
    while True:
        full = point.gradient + 2 * strength * weights
        penalty = strength * _dot(weights, weights)
        objective = point.loss + penalty
        # At the minimum this is the penalty at least; the difference alone may be all rounding.
        gained = max(penalty, problem.loss_of_zeros - objective)
        scale = min(objective, gained)
        # The objective's curvature is 2 s at least, which bounds its excess over the minimum.
        bound = _share(_dot(full, full) / (4 * strength), scale)
        if bound <= tolerance or estimate <= tolerance:
            return _Solution(weights, True, iterations, bound, min(bound, estimate)), pairs
        if iterations >= _MAX_ITERATIONS:
            return _Solution(weights, False, iterations, bound, min(bound, estimate)), pairs
        step = _newton_step(problem, point, full, strength, tolerance * scale, pairs)
        pairs = [*pairs, *step.pairs][-_HISTORY:]
        iterations += step.iterations
        # About what this point exceeds the minimum by, and the next less.
        estimate = _share(step.decrease, scale) if step.solved else math.inf
        moved = _search(problem, weights, full, step.change, strength)
        if moved is None:
            return _Solution(weights, estimate <= tolerance, iterations, bound, estimate), pairs
        weights, point = moved


def _newton_step(
    problem: _Problem,
    point: _Point,
    gradient: Tensor,
    strength: float,
    enough: float,
    pairs: list[tuple[Tensor, Tensor]],
) -> _Step:
    """Conjugate gradients until the model's minimum is near."""
    p = point.probabilities
    # The Hessian's blocks for each class would be this if p (1 - p) did not vary with the features.
    variance = (p.sum(0) - p.square().sum(0)).clamp_min(0).unsqueeze(1) / len(p)
    inverse = 1 / (variance * problem.eigenvalues + 2 * strength)
    regularised = [(step, change + 2 * strength * step) for step, change in pairs]
    history = [(step, change, 1 / _dot(step, change)) for step, change in regularised]
    step, residual = torch.zeros_like(gradient), -gradient
    direction = conditioned = _precondition(residual, inverse, history)
    square = first = _dot(residual, conditioned)
    decrease = 0.0
    new: deque[tuple[Tensor, Tensor]] = deque(maxlen=_HISTORY)
    for iteration in range(1, _MAX_PRODUCTS + 1):
        change = problem.curve(point, direction)
        regularised_change = change + 2 * strength * direction
        curvature = _dot(direction, regularised_change)
        if not curvature > 0:  # all is lost to rounding
            break
        new.append((direction, change))
        size = square / curvature
        step = step + size * direction
        residual = residual - size * regularised_change
        decrease += size * square / 2
        conditioned = _precondition(residual, inverse, history)
        before, square = square, _dot(residual, conditioned)
        if square <= 0.1 * first or square / 2 <= enough / 30:
            return _Step(step, decrease, list(new), iteration, True)
        direction = conditioned + square / before * direction
    return _Step(step, decrease, list(new), iteration, False)


def _precondition(
    vector: Tensor, inverse: Tensor, history: list[tuple[Tensor, Tensor, float]]
) -> Tensor:
    """L-BFGS's two loops over (step, change of gradient, 1 / their product), the latest last."""
    shares = []
    for step, change, scale in reversed(history):
        share = _dot(step, vector) * scale
        vector = vector - share * change
        shares.append(share)
    vector = vector * inverse
    for (step, change, scale), share in zip(history, reversed(shares), strict=True):
        vector = vector + (share - _dot(change, vector) * scale) * step
    return vector


def _search(
    problem: _Problem, weights: Tensor, gradient: Tensor, step: Tensor, strength: float
) -> tuple[Tensor, _Point] | None:
    """A length at which the slope has shrunk, which rounding of the objective cannot mislead."""
    slope = _dot(gradient, step)
    size, low, high = 1.0, 0.0, math.inf
    for _ in range(_MAX_TRIALS):
        trial = weights + size * step
        point = problem.cross_entropy(trial)
        slope_trial = _dot(point.gradient + 2 * strength * trial, step)
        if abs(slope_trial) <= 0.8 * abs(slope):
            return trial, point
        # The objective is convex: its minimum lies behind where it falls, before it rises.
        del point  # its probabilities are large
        low, high = (size, high) if slope_trial < 0 else (low, size)
        size = 4 * size if math.isinf(high) else (low + high) / 2
    return None


def _extrapolate(before: list[tuple[float, Tensor]], log_strength: float) -> Tensor:
    """Continue the line through the last two solutions, over the logarithm of the strength."""
    (last, weights), (first, earlier) = before[-1], before[0]
    if last == first:
        return weights
    return weights + (log_strength - last) / (last - first) * (weights - earlier)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.inf if part else 0.0


def _dot(a: Tensor, b: Tensor) -> float:
    return torch.dot(a.flatten(), b.flatten()).item()


def _rows(columns: int) -> int:
    return max(1, _CHUNK_SIZE // columns)


def _chunks(
    features: np.ndarray, columns: int, dtype: torch.dtype, device: torch.device
) -> Iterator[Tensor]:
    """Some samples at a time with a one appended, (m, D + 1)."""
    rows = _rows(max(columns, features.shape[1] + 1))
    for start in range(0, len(features), rows):
        part = features[start : start + rows]
        yield F.pad(torch.from_numpy(np.array(part)).to(device).to(dtype), (0, 1), value=1)


def _check(
    features: np.ndarray,
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
