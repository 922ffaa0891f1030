"""Binary logistic regression of each class against the rest, for many small tasks at once."""

import math

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


def _solve(kernel: Tensor, targets: Tensor, strength: float, tol: float) -> Tensor:
    """A for each task and class, (B, classes, n), from kernels (B, n, n)."""
    b, c, n = targets.shape
    # Problems that are solved leave, so that none waits for the slowest with all.
    y, task = targets.reshape(b * c, n), torch.arange(b).repeat_interleave(c)
    solution = torch.zeros_like(y)
    open_problems = torch.arange(b * c)
    a = _first_step(kernel, targets, strength).flatten(0, 1)
    f = (a.view(b, c, n) @ kernel).flatten(0, 1)
    value = _objective(a, f, y, strength)
    # A step from zero that is too long is not made.
    worse = value > strength * n * math.log(2)
    a[worse], f[worse] = 0, 0
    value[worse] = strength * n * math.log(2)
    for _ in range(100):
        p = torch.sigmoid(-y * f)
        wrong = (a - strength * y * p).abs().amax(dim=1)
        solved = wrong <= tol * strength
        solution[open_problems[solved]] = a[solved]
        left = ~solved
        if not left.any():
            return solution.view(b, c, n)
        if solved.any():
            open_problems, y, a, f, p, value, task = (
                t[left] for t in (open_problems, y, a, f, p, value, task)
            )
        a, f, value = _step(kernel, task, y, a, f, p, value, strength)
    raise RuntimeError(f"{len(a)} of {b * c} problems not solved to {tol}")


def _first_step(kernel: Tensor, targets: Tensor, strength: float) -> Tensor:
    """Newton's step from zero, where a task's classes share one system: (B, classes, n)."""
    system = strength / 4 * kernel
    system.diagonal(dim1=1, dim2=2).add_(1)
    right = strength / 2 * targets.mT
    return torch.cholesky_solve(right, torch.linalg.cholesky(system)).mT


def _step(
    kernel: Tensor,
    task: Tensor,
    y: Tensor,
    a: Tensor,
    f: Tensor,
    p: Tensor,
    value: Tensor,
    strength: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """One Newton step for a: (a, f = kernel a, objective).

    With the root r of the loss's second derivatives, (I + r K r) is solved, whose eigenvalues are
    at least 1 whatever the kernel's rank.
    """
    k = kernel[task]
    r = (strength * p * (1 - p)).sqrt()
    b = r.square() * f + strength * y * p
    system = k * r.unsqueeze(1) * r.unsqueeze(2)
    system.diagonal(dim1=1, dim2=2).add_(1)
    factor = torch.linalg.cholesky(system)
    right = (r * (k @ b.unsqueeze(2)).squeeze(2)).unsqueeze(2)
    step = b - r * torch.cholesky_solve(right, factor).squeeze(2) - a
    change = (k @ step.unsqueeze(2)).squeeze(2)
    size = torch.ones_like(value)
    for _ in range(_HALVINGS):
        new_a, new_f = a + size.unsqueeze(1) * step, f + size.unsqueeze(1) * change
        new_value = _objective(new_a, new_f, y, strength)
        # Within rounding of the minimum, values do not tell which is less.
        worse = new_value > value + 1e-12 * value.abs()
        if not worse.any():
            break
        size = torch.where(worse, size / 2, size)
    return new_a, new_f, new_value


def _objective(a: Tensor, f: Tensor, y: Tensor, strength: float) -> Tensor:
    loss = torch.nn.functional.softplus(-y * f).sum(dim=1)
    return (a * f).sum(dim=1) / 2 + strength * loss
