"""The model card beside an exported encoder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "README.md"
_MARK = "<!-- Written by star_head's export_encoder; without this line it is never replaced. -->"


def may_write(folder: Path) -> bool:
    """Whether there is no card yet, or one that :func:`model_card` wrote."""
    card = folder / FILE
    return not card.is_file() or _MARK in card.read_text(encoding="utf-8", errors="replace")


def model_card(config: Mapping[str, Any], training: Mapping[str, Any]) -> str:
    """The text of a card.

    Args:
        config: What was written to ``config.json``.
        training: How the weights came about: a row for each name and value.
    """
    images = config["pretrained_cfg"]
    channels, height, width = images["input_size"]
    small = "star_head" in config
    rows = {
        "architecture": f"{config['architecture']} of timm"
        + (", with star_head's stem for small images" if small else ""),
        "output": (
            f"{config['num_classes']} classes"
            if config["num_classes"]
            else f"{config['num_features']} features"
        ),
        "images": f"{height} x {width} pixels, {channels} channels",
        "resized by": f"{images['interpolation']}, crop {images['crop_pct']:g}",
        "mean": ", ".join(f"{value:g}" for value in images["mean"]),
        "standard deviation": ", ".join(f"{value:g}" for value in images["std"]),
    }
    opening = (
        "from star_head.adapters.timm import load_encoder\n\nencoder = load_encoder(FOLDER).eval()"
        if small
        else "import timm\n\n"
        'encoder = timm.create_model("local-dir:FOLDER", pretrained=True).eval()'
    )
    return "\n".join(
        [
            "---",
            "library_name: timm",
            "pipeline_tag: "
            + ("image-classification" if config["num_classes"] else "image-feature-extraction"),
            "tags: [timm, star-head]",
            "---",
            _MARK,
            "",
            f"# {config['architecture']}, trained with star-head",
            "",
            "## Model",
            "",
            *_table(rows),
            "",
            "## Training",
            "",
            *(_table(training) if training else ["Not recorded."]),
            "",
            "The weights are not those that timm publishes under this name. No licence is stated: "
            "it is for whoever trained them to choose.",
            "",
            "## Use",
            "",
            "```python",
            opening,
            "```",
            "",
        ]
    )


def _table(rows: Mapping[str, Any]) -> list[str]:
    def cell(value: Any) -> str:
        return str(value).replace("|", "\\|").replace("\n", " ")

    return ["| | |", "|---|---|", *(f"| {cell(k)} | {cell(v)} |" for k, v in rows.items())]
