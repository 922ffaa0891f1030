"""The main numbers of each checkpoint, and the section that shows them first."""

from collections.abc import Mapping
from typing import Any

from star_head.evaluation.report.html import escape, number, paragraph, table


def summary(results: Mapping[str, Any]) -> dict[str, dict[str, tuple[float | None, float | None]]]:
    """The main numbers of each checkpoint, each with what chance gives, if that is not 0."""
    rows = {}
    for name, found in results["checkpoints"].items():
        redundancy = found["redundancy"] or {}
        routing = found["routing weights"] or {}
        measured, chance = (
            (found["equivariance"] or {}).get(key, {}) for key in ("measured", "by chance")
        )
        near = found["neighbours"]
        r2 = [
            value for value in found["parameters"]["R^2"]["features"].values() if value is not None
        ]
        rows[name] = {
            "mean canonical correlation": (
                redundancy.get("mean"),
                redundancy.get("mean by chance"),
            ),
            "divergence of routings": (routing.get("divergence"), None),
            **{
                label: (measured.get(key), chance.get(key))
                for key, label in (
                    ("mean_reciprocal_rank", "MRR"),
                    ("hit_at_1", "hit@1"),
                    ("hit_at_5", "hit@5"),
                    ("prediction_retrieval_error", "retrieval error"),
                )
            },
            "mean R^2": (sum(r2) / len(r2) if r2 else None, None),
            "same class": (
                (near["share of the same class"] or {}).get("features"),
                near["share of the same class by chance"],
            ),
        }
    return rows


def summary_section(results: Mapping[str, Any]) -> str:
    """The table of main numbers, and what was measured."""
    rows = summary(results)
    headings = [
        *("", "mean canonical correlation", "divergence of routings"),
        *("MRR", "hit@1", "hit@5", "retrieval error", "mean <i>R</i>&sup2;", "same class"),
    ]
    cells = [
        [
            named(name, results["checkpoints"][name]),
            *(number(value, 3, chance) for value, chance in row.values()),
        ]
        for name, row in rows.items()
    ]
    caption = (
        "The lower the canonical correlation, the less the two embeddings repeat each other. The "
        "higher MRR and hit rates and the lower the retrieval error, the better the equivariant "
        "embedding follows augmentations. Mean <i>R</i>&sup2;: over the parameters that vary, "
        "from the features. Same class: share of the five nearest images, by features. Each is "
        "explained in its section; a dash stands for what a head does not have."
    )
    settings = [
        [
            escape(name),
            *(
                escape(found["settings"].get(key, "-"))
                for key in ("backbone", "trained on", "views", "checkpoint")
            ),
        ]
        for name, found in results["checkpoints"].items()
    ]
    of = of_data(results)
    data = f"The images are {results['images']:,}{of}, drawn at random. " if of else ""
    if results["held out"]:
        data += "No network that was pretrained on this data set has seen them."
    elif results["held out"] is not None:
        data += "A network pretrained on this data set has seen them, without their labels."
    return (
        table(headings, cells, caption)
        + "<h3>What was measured</h3>"
        + (paragraph(data) if data else "")
        + table(["", "backbone", "trained on", "views", "file"], settings, kind="text")
    )


def of_data(results: Mapping[str, Any]) -> str:
    """Which data set the images are of; empty where they were given without one."""
    if results["dataset"] is None:
        return ""
    folder = results["dataset"] == "folder"
    return (
        f" of the folder {escape(results['data_dir'])}"
        if folder
        else f" of {escape(results['dataset'])}"
    )


def named(name: str, found: Mapping[str, Any]) -> str:
    """A checkpoint's name, with its head in small below."""
    return f"{escape(name)}<small>{escape(found['settings'].get('head', '-'))}</small>"
