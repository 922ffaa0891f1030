"""The runs' numbers, read and put together over seeds."""

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from star_head.evaluation.comparison import PairedDifference, paired_difference
from star_head.examples.comparing.methods import UNTRAINED, title_of

Run = Mapping[str, Any]
"""What was written of one run."""

GEOMETRY = (
    *("crop top", "crop left", "crop height", "crop width", "flip", "vertical flip", "scale"),
    *("rotation", "rotation sine", "rotation cosine", "shift x", "shift y", "shear x", "shear y"),
)
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


def inside(*keys: str, scale: float = 1) -> Callable[[Run], float | None]:
    """What gives a number by its keys, one within the other."""

    def look(run: Run) -> float | None:
        found: Any = run
        for key in keys:
            if found is None:
                return None
            found = found.get(key)
        return None if found is None else scale * float(found)

    return look


def _r2(chosen: Callable[[str], bool]) -> Callable[[Run], float | None]:
    """The mean over some parameters; those that do not vary have none and are left out."""

    def average(run: Run) -> float | None:
        r2 = run.get("R^2") or {}
        values = [v for name, v in r2.items() if chosen(name) and v is not None]
        return mean(values) if values else None

    return average


NEAREST = Measure("1-NN, %", inside("1-NN", scale=100), 1)
LINEAR = Measure("linear, %", inside("linear", scale=100), 1)
FEW_SHOT = Measure("5-way 5-shot, %", inside("5-shot", scale=100), 1)
CORRELATION = Measure(
    "canonical correlation",
    inside("canonical correlation", "measured"),
    chance=inside("canonical correlation", "by chance"),
)
R2_GEOMETRY = Measure("R², geometry", _r2(GEOMETRY.__contains__))
R2_COLOUR = Measure("R², colour", _r2(COLOUR.__contains__))
R2_OTHERS = Measure("R², blur and others", _r2(lambda name: name not in (*GEOMETRY, *COLOUR)))
RANK = Measure(
    "MRR",
    inside("equivariance", "measured", "mean_reciprocal_rank"),
    chance=inside("equivariance", "by chance", "mean_reciprocal_rank"),
)
PROCESSOR = Measure("step, CPU ms", inside("step", "processor seconds", scale=1e3), 1)
WALL = Measure("step, ms", inside("step", "wall seconds", scale=1e3), 1)
MEMORY = Measure("memory, MB", inside("step", "memory", scale=1e-6), 0)

KEPT = (CORRELATION, RANK, R2_GEOMETRY, R2_COLOUR, R2_OTHERS)
COSTS = (PROCESSOR, WALL, MEMORY)


def accuracies(transfer: Iterable[str]) -> tuple[tuple[Measure, ...], ...]:
    """What is measured of frozen features: in domain, and of each kind on further data sets."""
    names = list(transfer)
    linear, few_shot = (
        tuple(
            Measure(f"{kind} on {name}, %", inside(f"{kind} elsewhere", name, scale=100), 1)
            for name in names
        )
        for kind in ("linear", "5-shot")
    )
    return (NEAREST, LINEAR, FEW_SHOT), linear, few_shot


class Comparison(NamedTuple):
    """Runs that may be compared: of the same data and length.

    Attributes:
        dataset: That they were trained on.
        epochs: Passes over its images.
        runs: By method, the reference first, and then by seed.
    """

    dataset: str
    epochs: int
    runs: dict[str, dict[int, Run]]

    @property
    def title(self) -> str:
        """Of its table."""
        return f"{self.dataset}, {self.epochs} epoch{'s' * (self.epochs != 1)}"

    @property
    def seeds(self) -> list[int]:
        """Those of which any method has a run."""
        return sorted({seed for of_seed in self.runs.values() for seed in of_seed})

    @property
    def methods(self) -> list[str]:
        """Those that were trained."""
        return [name for name in self.runs if name != UNTRAINED]

    @property
    def transfer(self) -> list[str]:
        """Further data sets that were measured on."""
        runs = (run for of_seed in self.runs.values() for run in of_seed.values())
        return list(dict.fromkeys(name for run in runs for name in run["linear elsewhere"]))

    def measured(self, *groups: Sequence[Measure]) -> list[Measure]:
        """Those of some groups that any run has."""
        measures = itertools.chain(*groups)
        return [m for m in measures if any(self.values(name, m) for name in self.runs)]

    def values(self, method: str, measure: Measure) -> list[float]:
        """A measure of a method's runs, of those that have it, by seed."""
        found = (measure.of(self.runs[method][seed]) for seed in sorted(self.runs[method]))
        return [value for value in found if value is not None]

    def chance(self, measure: Measure) -> float | None:
        """What comes out by chance, the mean over all runs."""
        if measure.chance is None:
            return None
        runs = (run for of_seed in self.runs.values() for run in of_seed.values())
        found = [value for run in runs if (value := measure.chance(run)) is not None]
        return mean(found) if found else None

    def pairs(self, method: str, other: str, measure: Measure) -> list[tuple[float, float]]:
        """A measure of a method and of another, for each seed that both have."""
        seeds = sorted(self.runs[method].keys() & self.runs[other].keys())
        found = ((measure.of(self.runs[m][seed]) for m in (method, other)) for seed in seeds)
        return [(a, b) for a, b in found if a is not None and b is not None]

    def differences(self, method: str, other: str, measure: Measure) -> list[float]:
        """A measure of a method less another's, for each seed that both have."""
        return [a - b for a, b in self.pairs(method, other, measure)]

    def difference(self, method: str, measure: Measure) -> PairedDifference | None:
        """How far a method lies above the first, where both have it and it is not the first."""
        first = self.methods[0]
        pairs = [] if method in (first, UNTRAINED) else self.pairs(method, first, measure)
        return paired_difference(*zip(*pairs, strict=True)) if pairs else None

    def summary(self) -> dict[str, Any]:
        """All that the page's table says, as plain values."""
        measures = self.measured(*accuracies(self.transfer), KEPT, COSTS)
        return {
            "dataset": self.dataset,
            "epochs": self.epochs,
            "seeds": self.seeds,
            "reference": self.methods[0],
            "by chance": {m.title: c for m in measures if (c := self.chance(m)) is not None},
            "methods": {
                name: {m.title: self._cell(name, m) for m in measures if self.values(name, m)}
                for name in self.runs
            },
        }

    def _cell(self, method: str, measure: Measure) -> dict[str, Any]:
        values = self.values(method, measure)
        difference = self.difference(method, measure)
        return {
            "mean": mean(values),
            "standard deviation": stdev(values) if len(values) > 1 else None,
            "values": values,
            "difference": None if difference is None else difference._asdict(),
        }


def read_comparison(folder: Path, methods: Sequence[str], seeds: Iterable[int]) -> Comparison:
    """The runs of a comparison's folder ``results``, of those that have been done.

    Args:
        folder: Folder of the runs' JSON files.
        methods: Names, the reference first.
        seeds: Seeds.

    Raises:
        FileNotFoundError: If there is none of the first method.
        ValueError: If they are not of one length and of as many images.
    """
    runs: dict[str, dict[int, Run]] = {}
    for name in (UNTRAINED, *methods):
        paths = {seed: folder / f"{name}_{seed}.json" for seed in seeds}
        runs[name] = {s: json.loads(p.read_text()) for s, p in paths.items() if p.exists()}
    if not runs[methods[0]]:
        raise FileNotFoundError(f"folder: expected a run of {title_of(methods[0])} in {folder}")
    trained = [run for name in methods for run in runs[name].values()]
    for what in ("epochs", "images"):
        found = sorted({run[what] for run in trained if what in run})
        if len(found) > 1:
            raise ValueError(
                f"folder: expected as many {what} of all runs in {folder}, got {found}"
            )
    (run, *_) = runs[methods[0]].values()
    done = {name: of_seed for name, of_seed in runs.items() if of_seed}
    return Comparison(run["dataset"], run["epochs"], done)


def spread(values: Iterable[float], digits: int) -> str:
    """Mean and standard deviation over seeds; of one run, the value."""
    values = list(values)
    if not values:
        return "-"
    shown = f"{mean(values):.{digits}f}"
    # In a narrow column a cell would else be broken around the sign.
    return shown if len(values) < 2 else f"{shown}\u00a0±\u00a0{stdev(values):.{digits}f}"
