"""The part of the page that says which expert serves what."""

from collections.abc import Mapping, Sequence
from typing import Any

from star_head.evaluation.measures import TASKS, role_name
from star_head.evaluation.report import plots
from star_head.evaluation.report.html import escape, figure, note, number, paragraph, table


def routing_section(found: Mapping[str, dict[str, Any]], n: int, views: int) -> str:
    """The section on routing, HTML.

    Args:
        found: The numbers of each checkpoint.
        n: Images embedded.
        views: Views embedded.
    """
    text = paragraph(
        "Each task mixes the outputs of the same experts by a softmax of its own over them, image "
        "by image. What an expert gets is its share: all shares of a task sum to 1. An expert is "
        "called shared unless one task takes more than twice the share that the other takes; "
        "experts stand in the order of that preference throughout."
    )
    for name, f in found.items():
        text += f"<h3>{escape(name)}</h3>"
        if f["routing weights"] is None:
            head = f["settings"].get("head", "Of this head")
            text += note(
                f"{head}: there are no routers, and experts serve their tasks by "
                f"a fixed matrix, so there is no routing to measure."
            )
        else:
            text += _routing_of(f["routing weights"], f["parameters"]["units"], n, views)
    return text


def _routing_of(routing: Mapping[str, Any], units: Mapping[str, str], n: int, views: int) -> str:
    order = expert_order(routing)
    roles = {
        role: [str(e) for e in order if role_name(routing["roles"][e]) == role]
        for role in (TASKS[0], "shared", TASKS[1], "unused")
    }
    listed = "; ".join(
        f"{len(experts)} {role} ({', '.join(experts)})"
        for role, experts in roles.items()
        if experts
    )
    text = paragraph(
        f"Of {len(order)} experts: {listed}. The two routings diverge by "
        f"{routing['divergence']:.2f} (Jensen-Shannon divergence over log 2, mean over images: 0 "
        f"where both tasks take the same experts, 1 where they share none). Their entropy, over "
        f"that of an even mix, is {routing['entropy'][TASKS[0]]:.2f} for the invariant task and "
        f"{routing['entropy'][TASKS[1]]:.2f} for the equivariant one: 0 where each image takes one "
        f"expert, 1 where it takes all alike."
    )
    text += figure(
        plots.draw_usage(routing, order),
        f"Left: share of each expert in each task, over {n:,} images. Right: the same shares "
        f"against each other, on logarithmic axes; in the shaded parts one task takes more than "
        f"twice what the other takes.",
        "Share of each expert in each task as bars, and as a scatter plot",
    )
    if routing["usage by class"] is not None:
        text += figure(
            plots.draw_class_usage(routing, order),
            f"Share of each expert for the images of each class, in per cent; {n:,} images. A "
            f"column of one shade is an expert that does not tell classes apart.",
            "Share of each expert by class, for each task",
        )
    else:
        text += note("The images have no classes, so there is no usage by class.")
    text += figure(
        plots.draw_correlations(routing, units, order),
        f"Pearson correlation of routing weight and augmentation parameter over {views:,} views; "
        f"written where it is at least 0.1. Of those of an expert that ignores a parameter, 95 in "
        f"100 are within &plusmn;{routing['correlation by chance']:.3f}. Grey: a "
        f"parameter that does not vary.",
        "Correlation of each expert's routing weight with each parameter, for each task",
    )
    chance = routing["correlation by chance"]
    rows = [
        [escape(label), *(_follower(of_parameter[task], chance) for task in TASKS)]
        for label, of_parameter in routing["correlation with parameters"].items()
    ]
    return text + table(
        ["Who follows what", *(f"{task} task" for task in TASKS)],
        rows,
        "For each parameter the expert whose weight goes with it most, and the correlation; faint "
        "where it is within what an expert that ignores the parameter has.",
        kind="narrow",
    )


def expert_order(routing: Mapping[str, Any]) -> list[int]:
    """Experts from the invariant task's own to the equivariant task's."""
    return sorted(range(len(routing["roles"])), key=lambda e: routing["roles"][e] or 0.0)


def _follower(correlations: Sequence[float | None], chance: float) -> str:
    defined = {e: r for e, r in enumerate(correlations) if r is not None}
    if not defined:
        return number(None)
    expert = max(defined, key=lambda e: abs(defined[e]))
    text = f"expert {expert}, {number(defined[expert], 2)}"
    return text if abs(defined[expert]) > chance else f'<span class="faint">{text}</span>'
