"""The numbers of a trained head: plain values, from what a network makes of images.

Those that a head does not have are ``None``, and so is a number that is not defined, such as the
correlation with a parameter that never varies.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from star_head._nearest import nearest
from star_head._view_parameters import images_held_out, view_parameter_r2
from star_head.evaluation.embeddings import Embedded, Viewed
from star_head.metrics import (
    canonical_correlations,
    canonical_correlations_by_chance,
    expert_roles,
    expert_usage,
    retrieval,
    retrieval_chance,
    routing_divergence,
    routing_entropy,
    usage_by_group,
    usage_correlation,
)

TASKS = ("invariant", "equivariant")

# An expert is shared unless one task takes more than twice the share that the other takes of it.
SHARED_BELOW = 1 / 3


def redundancy(tasks: Tensor, seed: int) -> dict[str, Any] | None:
    """Canonical correlations of the two tasks' embeddings, and those of chance.

    Any two sets of n samples in d dimensions correlate, the more so the fewer samples: chance is
    what is left when the invariant embeddings meet the equivariant ones of other images.

    Args:
        tasks: Embeddings of n images, (n, T, d).
        seed: Seed of the order that chance pairs them in.

    Returns:
        ``None`` with one task, or with no more images than dimensions.
    """
    n, num_tasks, width = tasks.shape
    if num_tasks < 2 or n <= width:
        return None
    invariant, equivariant = tasks.unbind(dim=1)
    spectrum = canonical_correlations(invariant, equivariant)
    chance = canonical_correlations_by_chance(invariant, equivariant, seed)
    return {
        "images": n,
        "mean": spectrum.mean().item(),
        "mean by chance": chance.mean().item(),
        "canonical correlations": spectrum.tolist(),
        "canonical correlations by chance": chance.tolist(),
    }


def routing(
    embedded: Embedded,
    viewed: Viewed,
    parameters: Sequence[str],
    labels: Tensor | None,
    class_names: Sequence[str],
) -> dict[str, Any]:
    """Which task takes how much of which expert: on average, by class, along each parameter.

    Args:
        embedded: Embeddings of the images.
        viewed: Embeddings of the views, for the correlation with their parameters.
        parameters: A name for each of these.
        labels: The images' classes, (n,); ``None`` where they have none.
        class_names: A name for each class.
    """
    usage = expert_usage(embedded.weights)
    correlation = usage_correlation(viewed.weights.flatten(0, 1), viewed.params.flatten(0, 1))
    by_class = None
    if labels is not None:
        groups = usage_by_group(embedded.weights, labels)
        by_class = {
            name: _by_task(shares)
            for name, shares in zip(class_names, groups, strict=True)
            if not shares.isnan().any()
        }
    return {
        "usage": _by_task(usage),
        "usage's standard deviation over images": _by_task(embedded.weights.std(dim=0)),
        "roles": plain(expert_roles(usage)),
        "entropy": dict(zip(TASKS, routing_entropy(embedded.weights).tolist(), strict=True)),
        "divergence": routing_divergence(embedded.weights).item(),
        "usage by class": by_class,
        "correlation with parameters": {
            name: _by_task(correlation[:, :, column]) for column, name in enumerate(parameters)
        },
        "correlation by chance": 1.96 / math.sqrt(viewed.params[..., 0].numel()),
    }


def role_name(role: float | None) -> str:
    """Whether an expert of this role serves one task or both; ``None`` is neither."""
    if role is None:
        return "unused"
    if abs(role) <= SHARED_BELOW:
        return "shared"
    return TASKS[role > 0]


def equivariance(viewed: Viewed, std: Tensor) -> dict[str, Any] | None:
    """Retrieval of views by the embeddings predicted for them, with chance.

    Args:
        viewed: Embeddings of the views.
        std: The run's standard deviation of each parameter, (P,).
    """
    if viewed.predicted is None:
        return None
    found = retrieval(viewed.predicted, viewed.tasks[:, :, 1], viewed.params, std)
    chance = retrieval_chance(viewed.params, std)
    return {"measured": found._asdict(), "by chance": chance._asdict()}


def parameters_read_off(viewed: Viewed, units: Mapping[str, str], seed: int) -> dict[str, Any]:
    """R^2 of each parameter, read off the features or an embedding of original and view.

    A fifth of the images is held out, with all their views.

    Args:
        viewed: Embeddings of the views.
        units: The unit of each parameter, by its name.
        seed: Seed of the images that are held out.
    """
    m = len(viewed.params)
    held_out = images_held_out(m, seed)
    r2 = {}
    of_images, of_views = spaces(viewed.original), spaces(viewed)
    for name in of_images:
        values = view_parameter_r2(of_images[name], of_views[name], viewed.params, held_out)
        r2[name] = dict(zip(units, plain(values), strict=True))
    return {
        "images trained on": m - int(held_out.sum()),
        "images held out": int(held_out.sum()),
        "units": dict(units),
        "R^2": r2,
    }


def spaces(made: Embedded | Viewed) -> dict[str, Tensor]:
    """What images or views become, by name: the features and the embedding of each task."""
    tasks = made.tasks.unbind(dim=-2)
    named = {f"{task} embedding": z for task, z in zip(TASKS, tasks, strict=False)}
    return {"features": made.features} | named


def neighbours(
    embedded: Embedded, routing: str, labels: Tensor | None, queries: Tensor, count: int
) -> dict[str, Any]:
    """Each query's nearest other images, in every space; how many images find their own class.

    Spaces are the features, the embedding of each task and, where tasks share them, the output of
    each expert. With separate heads or a single one, an expert is its task's embedding.

    Args:
        embedded: Embeddings of n images.
        routing: Routing of the head.
        labels: The images' classes, (n,); ``None`` where they have none.
        queries: Indices of the images to look for neighbours of.
        count: Neighbours of each, less than n.
    """
    named = spaces(embedded)
    if routing in ("mmoe", "shared"):
        outputs = embedded.experts.unbind(dim=1)
        named |= {f"expert {e}": output for e, output in enumerate(outputs)}
    found: dict[str, list[list[int]]] = {}
    same_class: dict[str, float] = {}
    for name, z in named.items():
        indices = nearest(z, z, count, others_only=True).indices
        found[name] = indices[queries].tolist()
        if labels is not None:
            same_class[name] = (labels[indices] == labels[:, None]).double().mean().item()
    chance = None
    if labels is not None:
        counts, n = labels.bincount(), len(labels)
        chance = (counts * (counts - 1)).sum().item() / (n * (n - 1))
    return {
        "queries": queries.tolist(),
        "nearest": found,
        "share of the same class": same_class or None,
        "share of the same class by chance": chance,
    }


def plain(values: Tensor) -> list[float | None]:
    """A vector as a list, ``None`` for nan: JSON has none."""
    return [None if math.isnan(value) else value for value in values.tolist()]


def _by_task(shares: Tensor) -> dict[str, list[float | None]]:
    return {task: plain(row) for task, row in zip(TASKS, shares, strict=True)}
