"""The minimum of f(W) = L(W) + s |W|^2, L being a summed cross-entropy, by Newton's method.

With the gradient g = L'(W) + 2 s W and the Hessian H = L''(W) + 2 s I, a step D minimises the
quadratic model of f around W,

    f(W + D) ~ f(W) + <g, D> + <D, H D> / 2,    where H D = -g,

by conjugate gradients, which ask for products of H alone, and a search along D finds how far to go.

Words used below:
    bound: <g, g> / (4 s), which f(W) - min f cannot exceed: H has no eigenvalue below 2 s.
    decrease: How much the model falls from 0 to D, which estimates f(W) - min f.
    scale: What a bound or an estimate is a share of; see ``Solutions.bounds``.
    pairs: Directions V of conjugate gradients, each with L''(W) V, the latest last. Neighbouring
        problems curve alike: the pairs of one precondition the next (Morales and Nocedal 2000).
"""

import math
from collections import deque
from typing import NamedTuple

import torch
from torch import Tensor

from star_head.evaluation._cross_entropy import Point, Problem

_MAX_ITERATIONS = 5000
_MAX_PRODUCTS = 500
_MAX_TRIALS = 30
_HISTORY = 20

_Pairs = list[tuple[Tensor, Tensor]]


class Solution(NamedTuple):
    """As in ``Solutions``, of one strength; the weights are in the eigenbasis."""

    weights: Tensor
    converged: bool
    iterations: int
    bound: float
    estimate: float


class _Step(NamedTuple):
    """A step of Newton's method.

    Attributes:
        change: D, (C, D + 1).
        decrease: How much the quadratic model falls.
        pairs: Those that came up.
        iterations: Iterations of conjugate gradients.
        solved: Whether the model's minimum is near.
    """

    change: Tensor
    decrease: float
    pairs: _Pairs
    iterations: int
    solved: bool


def minimise(
    problem: Problem, strength: float, weights: Tensor, tolerance: float, pairs: _Pairs
) -> tuple[Solution, _Pairs]:
    """Newton's method from weights (C, D + 1) until the bound or the estimate is in tolerance.

    Args:
        problem: Gives L and its derivatives.
        strength: s.
        weights: Where to start.
        tolerance: Tolerance of the bound or the estimate, as a share of the scale.
        pairs: Pairs of the last problem solved.

    Returns:
        What was found, and the pairs for the next.
    """
    point = problem.cross_entropy(weights)
    iterations = 0
    estimate = math.inf
    while True:
        gradient = point.gradient + 2 * strength * weights
        penalty = strength * _dot(weights, weights)
        objective = point.loss + penalty
        # At the minimum this is the penalty at least; the difference alone may be all rounding.
        gained = max(penalty, problem.loss_of_zeros - objective)
        scale = min(objective, gained)
        bound = _share(_dot(gradient, gradient) / (4 * strength), scale)
        near = min(bound, estimate)
        if near <= tolerance or iterations >= _MAX_ITERATIONS:
            return Solution(weights, near <= tolerance, iterations, bound, near), pairs
        step = _newton_step(problem, point, gradient, strength, tolerance * scale, pairs)
        pairs = [*pairs, *step.pairs][-_HISTORY:]
        iterations += step.iterations
        # About what this point exceeds the minimum by, and the next less.
        estimate = _share(step.decrease, scale) if step.solved else math.inf
        moved = _search(problem, weights, gradient, step.change, strength)
        if moved is None:  # as near as rounding lets one see
            return Solution(weights, estimate <= tolerance, iterations, bound, estimate), pairs
        weights, point = moved


def _newton_step(
    problem: Problem, point: Point, gradient: Tensor, strength: float, enough: float, pairs: _Pairs
) -> _Step:
    """Conjugate gradients on H D = -g, from D = 0, until the model's minimum is near.

    With the residual r = -g - H D and the preconditioner P, each turn goes along a direction V:

        size = <r, P r> / <V, H V>,   D += size V,   r -= size H V,   the model falls by
        size <r, P r> / 2,   and then   V = P r + (<r, P r> / its value before) V.

    Args:
        problem: Gives L''(W) V.
        point: L at W.
        gradient: g.
        strength: s.
        enough: A decrease of the model that is not worth a further turn.
        pairs: Those that the preconditioner learns from.
    """
    conditioner = _Conditioner(problem, point, strength, pairs)
    change, residual = torch.zeros_like(gradient), -gradient
    direction = conditioned = conditioner(residual)
    square = first = _dot(residual, conditioned)
    decrease = 0.0
    new: deque[tuple[Tensor, Tensor]] = deque(maxlen=_HISTORY)
    for iteration in range(1, _MAX_PRODUCTS + 1):
        of_loss = problem.curve(point, direction)
        curved = of_loss + 2 * strength * direction
        curvature = _dot(direction, curved)
        if not curvature > 0:  # all is lost to rounding
            break
        new.append((direction, of_loss))
        size = square / curvature
        change = change + size * direction
        residual = residual - size * curved
        decrease += size * square / 2
        conditioned = conditioner(residual)
        before, square = square, _dot(residual, conditioned)
        if square <= 0.1 * first or square / 2 <= enough / 30:
            return _Step(change, decrease, list(new), iteration, True)
        direction = conditioned + square / before * direction
    return _Step(change, decrease, list(new), iteration, False)


class _Conditioner:
    """About the inverse of H: a diagonal, corrected by what is known of H from pairs, as L-BFGS.

    The diagonal inverts what H would be, in the features' eigenbasis, if the variance p (1 - p) of
    a class did not vary with the features.
    """

    def __init__(self, problem: Problem, point: Point, strength: float, pairs: _Pairs) -> None:
        p = point.probabilities
        variance = (p.sum(0) - p.square().sum(0)).clamp_min(0).unsqueeze(1) / len(p)
        self.diagonal = 1 / (variance * problem.eigenvalues + 2 * strength)
        regularised = [(v, of_loss + 2 * strength * v) for v, of_loss in pairs]
        self.history = [(v, curved, 1 / _dot(v, curved)) for v, curved in regularised]

    def __call__(self, vector: Tensor) -> Tensor:
        """L-BFGS's two loops over (V, H V, 1 / <V, H V>), the latest first and then last."""
        shares = []
        for v, curved, scale in reversed(self.history):
            share = _dot(v, vector) * scale
            vector = vector - share * curved
            shares.append(share)
        vector = vector * self.diagonal
        for (v, curved, scale), share in zip(self.history, reversed(shares), strict=True):
            vector = vector + (share - _dot(curved, vector) * scale) * v
        return vector


def _search(
    problem: Problem, weights: Tensor, gradient: Tensor, step: Tensor, strength: float
) -> tuple[Tensor, Point] | None:
    """The weights W + t D at which |slope along D| has shrunk; None if rounding hides where.

    Slopes, not values of f, are compared, since near the minimum rounding misleads values first.
    """
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


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.inf if part else 0.0


def _dot(a: Tensor, b: Tensor) -> float:
    return torch.dot(a.flatten(), b.flatten()).item()
