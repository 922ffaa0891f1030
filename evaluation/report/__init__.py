"""The one-file page on what heads learned."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from star_head._checks import check_folder, describe
from star_head._whole_files import replacing, write_json
from star_head.evaluation.head import HeadMeasures
from star_head.evaluation.report.page import render


def write_report(
    measures: Mapping[str, HeadMeasures],
    folder: Path | str,
    *,
    dataset: str | None = None,
    data_dir: Path | str | None = None,
    held_out: bool | None = None,
) -> dict[str, Any]:
    """Write report.html, a page that holds all that it shows, and its numbers as report.json.

    Args:
        measures: What :func:`~star_head.evaluation.measure_head` gives, by a name for each head;
            all of the same images and views.
        folder: Where both files go.
        dataset: What the images are of, for the reader.
        data_dir: Where they lay.
        held_out: Whether no network that was pretrained on this data set has seen them; with
            ``None`` the page says nothing of it.

    Returns:
        What report.json holds.

    Raises:
        TypeError: If ``measures`` are others.
        ValueError: If there are none, or heads were measured on other images, views or seeds.
        OSError: If the files cannot be written.
    """
    if not isinstance(measures, Mapping):
        raise TypeError(
            f"measures: expected a dictionary of names and measures, got {describe(measures)}; "
            f'{{"a name": measures}} is one'
        )
    for name, found in measures.items():
        if not isinstance(name, str):
            raise TypeError(f"measures: expected names as keys, got {describe(name)}")
        if not isinstance(found, HeadMeasures):
            raise TypeError(
                f"measures: expected what measure_head gives, got {describe(found)} as {name!r}; "
                f"measure_head(trained, data_set) measures a head"
            )
    if not measures:
        raise ValueError("measures: expected at least one head's, got an empty dictionary")
    if held_out is not None and not isinstance(held_out, bool):
        raise TypeError(f"held_out: expected True, False or None, got {describe(held_out)}")
    if dataset is not None and not isinstance(dataset, str):
        raise TypeError(f"dataset: expected a name, got {describe(dataset)}")
    folder = check_folder("folder", folder)
    first, *others = measures.values()
    for other in others:
        if other[1:6] != first[1:6]:  # all but numbers and pictures
            raise ValueError(
                f"measures: expected heads measured on the same images and views with one seed, "
                f"got {_conditions(first)}, and {_conditions(other)}"
            )
    results: dict[str, Any] = {
        "dataset": dataset,
        "data_dir": None if data_dir is None else str(data_dir),
        "held out": held_out,
        "images": first.images,
        "images with views": first.viewed,
        "views of each": first.views,
        "seed": first.seed,
        "checkpoints": {name: found.numbers for name, found in measures.items()},
    }
    pictures = {name: found.pictures for name, found in measures.items()}
    text = render(results, pictures, first.classes)
    write_json(folder / "report.json", results, allow_nan=False)
    with replacing(folder / "report.html") as scratch:
        scratch.write_text(text, encoding="utf-8")
    return results


def _conditions(found: HeadMeasures) -> str:
    return f"{found.images} images, {found.viewed} with {found.views} views each, seed {found.seed}"
