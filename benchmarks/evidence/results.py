"""The runs' numbers, read and put together over seeds."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from benchmarks.evidence.methods import METHODS

Run = Mapping[str, Any]
"""What collect.py wrote of one run."""

GEOMETRY = ("crop top", "crop left", "crop height", "crop width", "flip")
COLOUR = ("brightness", "contrast", "saturation", "hue", "grayscale")


class Measure(NamedTuple):
    """A number of a run.

    Attributes:
        title: Of its column.
        of: Gives it, ``None`` where a run does not have it.
        digits: Behind the point.
        chance: Gives what comes out by chance, where that is not 0.
    """

    title: str
    of: Callable[[Run], float | None]
    digits: int = 3
    chance: Callable[[Run], float | None] | None = None


def _inside(*keys: str) -> Callable[[Run], float | None]:
    def look(run: Run) -> float | None:
        found: Any = run
        for key in keys:
            if found is None:
                return None
            found = found[key]
        return float(found)

    return look


def _r2(names: tuple[str, ...]) -> Callable[[Run], float | None]:
    """The mean over some parameters; those that do not vary have none and are left out."""

    def average(run: Run) -> float | None:
        return mean(value for name in names if (value := run["R^2"][name]) is not None)

    return average


def _elsewhere(run: Run) -> float | None:
    return mean(run["linear elsewhere"].values())


def _percent(of: Callable[[Run], float | None]) -> Callable[[Run], float | None]:
    def scaled(run: Run) -> float | None:
        value = of(run)
        return None if value is None else 100 * value

    return scaled


NEAREST = Measure("1-NN, %", _percent(_inside("1-NN")), 1)
LINEAR = Measure("linear, %", _percent(_inside("linear")), 1)
ELSEWHERE = Measure("linear, other set, %", _percent(_elsewhere), 1)
CORRELATION = Measure(
    "canonical correlation",
    _inside("canonical correlation", "measured"),
    chance=_inside("canonical correlation", "by chance"),
)
R2_GEOMETRY = Measure("R^2, geometry", _r2(GEOMETRY))
R2_COLOUR = Measure("R^2, colour", _r2(COLOUR))
RANK = Measure(
    "MRR",
    _inside("equivariance", "measured", "mean_reciprocal_rank"),
    chance=_inside("equivariance", "by chance", "mean_reciprocal_rank"),
)
ERROR = Measure(
    "prediction error",
    _inside("equivariance", "measured", "prediction_retrieval_error"),
    2,
    chance=_inside("equivariance", "by chance", "prediction_retrieval_error"),
)
SECONDS = Measure("s an epoch", _inside("processor seconds an epoch"), 1)
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


class Budget(NamedTuple):
    """Runs that may be compared: of the same data and length.

    Attributes:
        dataset: That they were trained on.
        epochs: Passes over its images.
        runs: By method and then by seed; methods stand in the order of ``METHODS``.
    """

    dataset: str
    epochs: int
    runs: dict[str, dict[int, Run]]

    @property
    def title(self) -> str:
        """Of its table."""
        return f"{self.dataset}, {self.epochs} epochs"

    @property
    def seeds(self) -> list[int]:
        """Those of which any method has a run."""
        return sorted({seed for of_seed in self.runs.values() for seed in of_seed})

    def values(self, method: str, measure: Measure) -> list[float]:
        """A measure of a method's runs, of those that have it."""
        found = (measure.of(run) for run in self.runs[method].values())
        return [value for value in found if value is not None]

    def differences(self, method: str, other: str, measure: Measure) -> list[float]:
        """A measure of a method less another's, for each seed that both have."""
        pairs = (
            (measure.of(self.runs[method][seed]), measure.of(self.runs[other][seed]))
            for seed in sorted(self.runs[method].keys() & self.runs[other].keys())
        )
        return [a - b for a, b in pairs if a is not None and b is not None]


def read_budgets(folder: Path) -> list[Budget]:
    """All runs of a folder, the shortest budgets first.

    Raises:
        FileNotFoundError: If there are none.
    """
    found: dict[tuple[int, str], dict[str, dict[int, Run]]] = {}
    for path in sorted(folder.glob("*.json")):
        run = json.loads(path.read_text())
        of_budget = found.setdefault((run["epochs"], run["dataset"]), {})
        of_budget.setdefault(run["method"], {})[run["seed"]] = run
    if not found:
        raise FileNotFoundError(f"folder: expected results of collect.py in {folder}, found none")
    return [
        Budget(dataset, epochs, {name: runs[name] for name in METHODS if name in runs})
        for (epochs, dataset), runs in sorted(found.items())
    ]


def spread(values: Iterable[float], digits: int) -> str:
    """Mean and standard deviation over seeds; of one run, the value."""
    values = list(values)
    if not values:
        return "-"
    shown = f"{mean(values):.{digits}f}"
    # In a narrow column a cell would else be broken around the sign.
    return shown if len(values) < 2 else f"{shown}\u00a0±\u00a0{stdev(values):.{digits}f}"
