"""The runs of docs/evidence_runs.md, and what is measured of them beside compare's measures."""

from pathlib import Path

from benchmarks.claims import ELSEWHERE
from star_head.examples.comparing.results import (
    CORRELATION,
    LINEAR,
    NEAREST,
    R2_COLOUR,
    R2_GEOMETRY,
    RANK,
    Comparison,
    Measure,
    inside,
    read_comparison,
)

# STAR-MMoE by its number of experts.
EXPERTS = {f"star-mmoe-{count}": count for count in (2, 4, 8, 16)}
METHODS = ("simclr", "equimod", "star-ss", *EXPERTS)
SEEDS = range(3)


ERROR = Measure(
    "prediction error",
    inside("equivariance", "measured", "prediction_retrieval_error"),
    2,
    chance=inside("equivariance", "by chance", "prediction_retrieval_error"),
)
SECONDS = Measure("s an epoch", inside("processor seconds an epoch"), 1)
MEASURES = (
    NEAREST,
    LINEAR,
    ELSEWHERE,
    CORRELATION,
    R2_GEOMETRY,
    R2_COLOUR,
    RANK,
    ERROR,
    SECONDS,
)


def read_budgets(folder: Path) -> list[Comparison]:
    """All runs of a folder, a folder within it for each data set and length, the shortest first.

    Raises:
        FileNotFoundError: If there are none.
    """
    places = [path for path in folder.glob("*") if path.is_dir()]
    if not places:
        raise FileNotFoundError(f"folder: expected folders of runs in {folder}, found none")
    found = (read_comparison(place, METHODS, SEEDS) for place in places)
    return sorted(found, key=lambda budget: (budget.epochs, budget.dataset))
