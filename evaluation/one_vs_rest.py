"""Binary logistic regression of each class against the rest, for many small tasks at once."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

# A Newton step that raises the objective is halved so often before it is given up.
_HALVINGS = 30


def decide(
    support: Tensor, labels: Tensor, queries: Tensor, strength: float = 1.0, tol: float = 1e-9
) -> Tensor:
    """Decision values of one-against-rest logistic regressions, each task on its own.

    For each task and class, the minimum of scikit-learn's ``liblinear`` objective,

        w'w / 2 + C sum_i log(1 + exp(-y_i w'x_i)),  y_i = 1 for the class and -1 for the rest,

    where x has a constant feature of 1 appended, so that the bias is regularised too. As
    w = sum_i a_i x_i, this is a problem in as many unknowns as there are samples, which Newton's
    method with step halving solves in float64 for all tasks and classes together.

    Args:
        support: Labelled samples of each task, (B, n, D).
        labels: Their classes, integers from 0, each class at least once in each task, (B, n).
        queries: What to decide on, (B, q, D).
        strength: C.
        tol: Largest error of a_i = C y_i / (1 + exp(y_i w'x_i)), which holds at the minimum.

    Returns:
        (B, q, classes), float64; the prediction is the largest, the first of several, as
        ``OneVsRestClassifier`` has it.

    Raises:
        ValueError: If a shape does not fit, a task lacks a class, or a feature is not finite.
        RuntimeError: If a problem was not solved to ``tol``.
    """
    if support.ndim != 3 or queries.ndim != 3 or queries.shape[::2] != support.shape[::2]:
        raise ValueError(
            f"support, queries: expected shapes (B, n, D) and (B, q, D), "
            f"got {tuple(support.shape)} and {tuple(queries.shape)}"
        )
    if labels.shape != support.shape[:2]:
        raise ValueError(
            f"labels: expected shape {tuple(support.shape[:2])}, got {tuple(labels.shape)}"
        )
    support, queries = support.double(), queries.double()
    classes = torch.arange(int(labels.max()) + 1)
    targets = (labels.unsqueeze(1) == classes.unsqueeze(1)).double() * 2 - 1  # (B, classes, n)
    if not (targets.amax(dim=2) > 0).all():
        raise ValueError(f"labels: expected each of {len(classes)} classes in each task")
    kernel = support @ support.mT + 1
    if not kernel.isfinite().all():
        raise ValueError("support: expected finite features, got nan, inf or overflow")
    a = _solve(kernel, targets, strength, tol)
    w, bias = a @ support, a.sum(dim=2)
    return queries @ w.mT + bias.unsqueeze(1)


class _Open(NamedTuple):
    """Problems that are not solved yet, m of them, each a class of a task against the rest.

    Attributes:
        number: Index of each among all problems, (m,).
        task: Whose kernel it has, (m,).
        y: 1 for its class and -1 for the rest, (m, n).
        a: The unknowns, (m, n).
        f: K a, the decision values of the samples themselves, (m, n).
        value: a'K a / 2 + C sum_i log(1 + exp(-y_i f_i)), what is minimised, (m,).
    """

    number: Tensor
    task: Tensor
    y: Tensor
    a: Tensor
    f: Tensor
    value: Tensor


def _solve(kernel: Tensor, targets: Tensor, strength: float, tol: float) -> Tensor:
    """The a of each task and class, (B, classes, n), from kernels K (B, n, n).

    Solved are those that have a_i = C y_i p_i, p_i = 1 / (1 + exp(y_i f_i)), within ``tol``: there
    the gradient, K (a - C y p), is zero. They leave, so that none waits for the slowest.
    """
    b, c, n = targets.shape
    solution = torch.zeros(b * c, n, dtype=targets.dtype)
    left = _from_first_step(kernel, targets, strength)
    for _ in range(100):
        p = torch.sigmoid(-left.y * left.f)
        wrong = (left.a - strength * left.y * p).abs().amax(dim=1)
        solved = wrong <= tol * strength
        solution[left.number[solved]] = left.a[solved]
        if solved.all():
            return solution.view(b, c, n)
        if solved.any():
            left, p = _Open(*(part[~solved] for part in left)), p[~solved]
        left = _step(kernel, left, p, strength)
    raise RuntimeError(f"{len(left.a)} of {b * c} problems not solved to {tol}")


def _from_first_step(kernel: Tensor, targets: Tensor, strength: float) -> _Open:
    """All problems after Newton's step from a = 0, where p = 1/2.

    There a task's classes share one system, (I + C/4 K) a = C/2 y.
    """
    b, c, n = targets.shape
    system = strength / 4 * kernel
    system.diagonal(dim1=1, dim2=2).add_(1)
    right = strength / 2 * targets.mT
    first = torch.cholesky_solve(right, torch.linalg.cholesky(system)).mT
    a, f, y = first.flatten(0, 1), (first @ kernel).flatten(0, 1), targets.flatten(0, 1)
    value = _objective(a, f, y, strength)
    # A step from zero that is too long is not made.
    at_zero = strength * n * math.log(2)
    worse = value > at_zero
    a[worse], f[worse], value[worse] = 0, 0, at_zero
    task = torch.arange(b).repeat_interleave(c)
    return _Open(torch.arange(b * c), task, y, a, f, value)


def _step(kernel: Tensor, left: _Open, p: Tensor, strength: float) -> _Open:
    """Newton's step: a moves towards the solution a' of (I + R K) a' = R f + C y p.

    R is diagonal, r_i^2 = C p_i (1 - p_i): the loss's second derivatives. What is factored is
    I + r K r, whose eigenvalues are at least 1 whatever the kernel's rank, and with
    t = R f + C y p,  a' = t - r (I + r K r)^-1 r K t.
    """
    k = kernel[left.task]
    r = (strength * p * (1 - p)).sqrt()
    t = r.square() * left.f + strength * left.y * p
    system = k * r.unsqueeze(1) * r.unsqueeze(2)
    system.diagonal(dim1=1, dim2=2).add_(1)
    factor = torch.linalg.cholesky(system)
    right = (r * (k @ t.unsqueeze(2)).squeeze(2)).unsqueeze(2)
    step = t - r * torch.cholesky_solve(right, factor).squeeze(2) - left.a
    change = (k @ step.unsqueeze(2)).squeeze(2)
    size = torch.ones_like(left.value)
    for _ in range(_HALVINGS):
        a, f = left.a + size.unsqueeze(1) * step, left.f + size.unsqueeze(1) * change
        value = _objective(a, f, left.y, strength)
        # Within rounding of the minimum, values do not tell which is less.
        worse = value > left.value + 1e-12 * left.value.abs()
        if not worse.any():
            break
        size = torch.where(worse, size / 2, size)
    return left._replace(a=a, f=f, value=value)


def _objective(a: Tensor, f: Tensor, y: Tensor, strength: float) -> Tensor:
    loss = torch.nn.functional.softplus(-y * f).sum(dim=1)
    return (a * f).sum(dim=1) / 2 + strength * loss
