"""The page on what heads learned, from its numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from star_head.evaluation.measures import TASKS, role_name
from star_head.evaluation.report import plots
from star_head.evaluation.report.grids import draw_neighbours
from star_head.evaluation.report.html import escape, figure, note, number, page, paragraph, table
from star_head.evaluation.report.routing import expert_order, routing_section
from star_head.evaluation.report.summary import named, of_data, summary_section

_PAPER = "Jeon, Jang, Sohn and Lee, NeurIPS 2025, arXiv 2510.27222"

# The paper's mean canonical correlation by number of experts, read off its figure.
_PAPER_REDUNDANCY = {2: 0.55, 4: 0.42, 8: 0.35, 16: 0.30}

Checkpoints = Mapping[str, dict[str, Any]]


def render(
    results: Mapping[str, Any],
    pictures: Mapping[str, Mapping[int, np.ndarray]],
    classes: Sequence[str] | None,
) -> str:
    """The page as HTML, with all pictures in it.

    Args:
        results: What report.json holds.
        pictures: Pictures of each checkpoint, those of the images to show, by index.
        classes: The name of each image's class; ``None`` where they have none.
    """
    found: Checkpoints = results["checkpoints"]
    n, m, k = (results[key] for key in ("images", "images with views", "views of each"))
    introduction = paragraph(
        f"{len(found)} checkpoint{'s' * (len(found) > 1)} on {n:,} "
        f"{'held-out ' if results['held out'] else ''}images{of_data(results)}, and "
        f"on {k} recorded views of each of {m:,} of them: {m * k:,} views.",
        "lead",
    )
    introduction += paragraph(
        f"The method is STAR, soft task-aware routing of experts ({_PAPER}). All numbers are of "
        f"one draw of images and views (seed {results['seed']}). The paper&rsquo;s own are marked "
        f"as such; all others were measured here."
    )
    sections = [
        ("Summary", summary_section(results)),
        ("Redundancy", _redundancy(found, n)),
        ("Routing", routing_section(found, n, m * k)),
        ("Equivariance", _equivariance(found, m, k)),
        ("Augmentation parameters", _parameters(found, k)),
        ("Neighbours", _neighbours(found, pictures, classes, n)),
    ]
    footer = "Made by star-head. All numbers are in report.json."
    return page("What the head learned", introduction, sections, footer)


def _redundancy(found: Checkpoints, n: int) -> str:
    text = paragraph(
        "How far do the two embeddings hold the same? Canonical correlations (Bj&ouml;rck and "
        "Golub 1973) compare two sets of embeddings whatever their axes and scales: 1 for a "
        "direction that both hold, 0 for one that has no counterpart. Their mean is the "
        "paper&rsquo;s measure of redundancy. Any two sets of samples correlate somewhat, the more "
        "so the fewer they are: the dotted lines show how much, with the invariant embedding of "
        "one image paired with the equivariant one of another. Only what lies above them is shared."
    )
    measured = {name: f["redundancy"] for name, f in found.items() if f["redundancy"]}
    for name, f in found.items():
        if f["routing"] == "invariant":
            text += note(f"{name} is left out: it has no equivariant embedding.")
        elif f["redundancy"] is None:
            text += note(
                f"{name} is left out: {n} images are not more than its embeddings have dimensions, "
                f"and any two such sets correlate perfectly."
            )
    if measured:
        spectra = {
            name: (r["canonical correlations"], r["canonical correlations by chance"])
            for name, r in measured.items()
        }
        text += figure(
            plots.draw_spectra(spectra),
            f"Canonical correlations of invariant and equivariant embeddings of {n:,} images, "
            f"largest first. Dotted: chance level, of embeddings of different images.",
            "Canonical correlations against their rank, a line for each checkpoint",
        )
        rows = [
            [
                named(name, found[name]),
                number(r["mean"]),
                number(r["mean by chance"]),
                f"{len(r['canonical correlations'])}",
                f"{r['images']:,}",
            ]
            for name, r in measured.items()
        ]
        text += table(
            ["", "mean", "chance level of the mean", "correlations", "images"], rows, kind="narrow"
        )
    paper = [["mean canonical correlation", *(f"{v:.2f}" for v in _PAPER_REDUNDANCY.values())]]
    caption = (
        f"STAR-MMoE of the paper ({_PAPER}), read off a figure, not measured here. Other data, "
        f"epochs and numbers of images give other values: what can be compared is the fall with "
        f"the number of experts."
    )
    headings = ["The paper, by number of experts", *map(str, _PAPER_REDUNDANCY)]
    return text + table(headings, paper, caption, kind="narrow")


def _equivariance(found: Checkpoints, m: int, k: int) -> str:
    text = paragraph(
        f"From an image without augmentation and the parameters of a view, the head predicts the "
        f"view&rsquo;s equivariant embedding. Each prediction ranks the "
        f"{k} views of its own image by cosine similarity, and the true view should come first "
        f"(after Garrido et al. 2023, SIE, arXiv 2302.10283)."
    )
    text += """<dl>
<dt>MRR</dt><dd>mean of 1 / rank of the true view; 1 is perfect</dd>
<dt>hit@1, hit@5</dt><dd>share of predictions whose true view is first, or among the first five</dd>
<dt>retrieval error</dt><dd>distance between the parameters of the view that comes first and those
of the true one, each divided by its standard deviation in the run; 0 is perfect</dd>
</dl>"""
    rows = []
    for name, f in found.items():
        if f["equivariance"] is None:
            text += note(f"{name} is left out: it has no equivariant task to predict for.")
            continue
        measured, chance = f["equivariance"]["measured"], f["equivariance"]["by chance"]
        rows.append([named(name, f), *(number(measured[key], 3, chance[key]) for key in measured)])
    if rows:
        text += table(
            ["", "MRR", "hit@1", "hit@5", "retrieval error"],
            rows,
            f"Over {m * k:,} predictions: {k} views of each of {m:,} images. Chance level: "
            f"every order of the views is as likely. Ties count as their expected value.",
            kind="narrow",
        )
    return text


def _parameters(found: Checkpoints, k: int) -> str:
    counts = next(iter(found.values()))["parameters"]
    trained, held_out = counts["images trained on"], counts["images held out"]
    text = paragraph(
        "What was done to a view, read off by ridge regression from two vectors, that of the "
        "original and that of the view: the backbone&rsquo;s features, or "
        "either embedding. <i>R</i>&sup2; is 1 where a parameter can be told exactly, "
        "0 or less where no better than by its mean. An invariant embedding should not tell, an "
        "equivariant one should, and features serve both."
    )
    units: dict[str, str] = {}
    for f in found.values():
        units |= f["parameters"]["units"]
    text += figure(
        plots.draw_r2({name: f["parameters"]["R^2"] for name, f in found.items()}, units),
        f"<i>R</i>&sup2; of each parameter: fitted on {trained * k:,} views of "
        f"{trained:,} images, measured on {held_out * k:,} views of {held_out:,} others. Values "
        f"below &minus;0.2 stand at &minus;0.2.",
        "R squared of each parameter for each checkpoint, from features and embeddings",
    )
    caption = (
        "<i>R</i>&sup2; from the features, and from the invariant and the equivariant embedding."
    )
    names = list(found)
    # More do not fit beside each other.
    for some in (names[i : i + 3] for i in range(0, len(names), 3)):
        of_some = {name: found[name]["parameters"]["R^2"] for name in some}
        text += _r2_table(of_some, units, caption)
    return text


def _r2_table(
    r2: Mapping[str, Mapping[str, Mapping[str, float | None]]],
    units: Mapping[str, str],
    caption: str,
) -> str:
    rows = [
        [escape(f"{name} ({unit})")]
        + [number(of.get(name), 2) for sources in r2.values() for of in sources.values()]
        for name, unit in units.items()
    ]
    return table(
        ["", *(source.partition(" ")[0] for sources in r2.values() for source in sources)],
        rows,
        caption,
        kind="narrow",
        groups=[(escape(name), len(sources)) for name, sources in r2.items()],
    )


def _neighbours(
    found: Checkpoints,
    pictures: Mapping[str, Mapping[int, np.ndarray]],
    classes: Sequence[str] | None,
    n: int,
) -> str:
    text = paragraph(
        "What does each expert hold to be alike? In each row stand the images whose output of that "
        "expert, or embedding, is nearest to the query&rsquo;s by cosine "
        "similarity, nearest first, the query itself left out."
    )
    if classes is not None:
        text += paragraph(
            "Neighbours of another class than the query&rsquo;s are framed in orange. At the "
            "right: the share of neighbours of the same class, with every image as a query."
        )
    for name, f in found.items():
        near = f["neighbours"]
        rows = {space: space for space in near["nearest"] if not space.startswith("expert")}
        rows |= {f"expert {e}": f"expert {e}, {role}" for e, role in _roles(f).items()}
        chance = near["share of the same class by chance"]
        text += f"<h3>{escape(name)}</h3>"
        if f["routing"] in ("separate", "invariant"):
            text += note("An expert here is the embedding of its task.")
        text += figure(
            draw_neighbours(pictures[name], near, classes, rows),
            f"The {len(near['nearest']['features'][0])} nearest of {n:,} images to "
            f"each of {len(near['queries'])} queries."
            + ("" if chance is None else f" Chance level of the same class: {chance:.3f}."),
            "Queries and the images nearest to them, a row for each expert",
        )
    return text


def _roles(found: Mapping[str, Any]) -> dict[int, str]:
    """What each expert serves, where tasks share experts, in the order of their preference."""
    if found["routing weights"] is not None:
        routing = found["routing weights"]
        return {e: role_name(routing["roles"][e]) for e in expert_order(routing)}
    return dict(enumerate((*TASKS, "shared"))) if found["routing"] == "shared" else {}
