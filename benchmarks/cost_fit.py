"""Laws fitted to measured points: of operations and bytes for steps, of powers for the rest."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import nnls

from benchmarks.cost_counts import FLOAT_BYTES, Sizes, Work, head_step

Point = Mapping[str, Any]


class StepFit(NamedTuple):
    """Seconds of a step = overhead + operations / rate + bytes / bandwidth.

    Attributes:
        overhead: Seconds.
        rate: Operations a second; infinite where these explain nothing.
        bandwidth: Bytes a second; likewise.
        errors: (predicted - measured) / measured of each point.
    """

    overhead: float
    rate: float
    bandwidth: float
    errors: list[float]

    def seconds(self, work: Work) -> float:
        """What the fitted model predicts for some work."""
        moved = FLOAT_BYTES * work.numbers
        return self.overhead + work.operations / self.rate + moved / self.bandwidth


class PowerFit(NamedTuple):
    """A value = factor x a power of each size.

    Attributes:
        factor: The value where all sizes are 1.
        exponents: By the sizes' names.
        errors: (predicted - measured) / measured of each point.
    """

    factor: float
    exponents: dict[str, float]
    errors: list[float]


class Share(NamedTuple):
    """The head beside one backbone at one batch.

    Attributes:
        settings: Of the backbone's point.
        alone: Seconds of the backbone's three passes.
        experts: Numbers of experts.
        shares: The head's share of the step with each.
        fixed: Seconds of the step without an expert, by the line through the steps.
        of_expert: Seconds that one more expert takes.
    """

    settings: Mapping[str, Any]
    alone: float
    experts: list[int]
    shares: list[float]
    fixed: float
    of_expert: float

    def experts_at(self, share: float) -> float:
        """How many experts make the head this share of the step."""
        step = self.alone / (1 - share)
        return (step - self.fixed) / self.of_expert if self.of_expert > 0 else float("inf")


def least_seconds(point: Point) -> float:
    """The shortest of its runs: whatever else a machine does only makes them longer."""
    seconds: list[float] = point["seconds"]
    return min(seconds)


def of_part(points: Sequence[Point], part: str) -> list[Point]:
    """Points of one kind."""
    return [point for point in points if point["settings"]["part"] == part]


def head_sizes(settings: Mapping[str, Any]) -> Sizes:
    """Of a point of the head alone."""
    return Sizes(settings["batch"], settings["width"], settings["experts"])


def fit_line(columns: np.ndarray, values: Sequence[float]) -> np.ndarray:
    """Coefficients of at least 0 that make the relative errors least, in squares.

    Args:
        columns: (points, coefficients).
        values: Positive, one for each point.
    """
    scaled = columns / np.asarray(values)[:, None]
    size = np.linalg.norm(scaled, axis=0)  # or the solver would take small columns for nothing
    found, _ = nnls(scaled / size, np.ones(len(values)))
    coefficients: np.ndarray = found / size
    return coefficients


def fit_head(points: Sequence[Point]) -> StepFit:
    """The model fitted to the head alone."""
    heads = of_part(points, "head")
    works = [head_step(head_sizes(point["settings"])) for point in heads]
    measured = [least_seconds(point) for point in heads]
    columns = np.array([[1.0, work.operations, FLOAT_BYTES * work.numbers] for work in works])
    overhead, per_operation, per_byte = fit_line(columns, measured).tolist()
    rate = 1 / per_operation if per_operation else float("inf")
    bandwidth = 1 / per_byte if per_byte else float("inf")
    fit = StepFit(overhead, rate, bandwidth, [])
    errors = [fit.seconds(work) / s - 1 for work, s in zip(works, measured, strict=True)]
    return fit._replace(errors=errors)


def fit_powers(sizes: Mapping[str, Sequence[float]], values: Sequence[float]) -> PowerFit:
    """Least squares of logarithms.

    Args:
        sizes: One for each point, by name.
        values: One for each point.
    """
    logs = np.log(np.array([[1.0] * len(values), *sizes.values()], dtype=float))
    columns = np.column_stack([np.ones(len(values)), *logs[1:]])
    found = np.linalg.lstsq(columns, np.log(values), rcond=None)[0]
    errors = np.exp(columns @ found) / np.asarray(values) - 1
    exponents = dict(zip(sizes, found[1:].tolist(), strict=True))
    return PowerFit(float(np.exp(found[0])), exponents, errors.tolist())


def fit_sizes(points: Sequence[Point], values: Sequence[float]) -> PowerFit:
    """:func:`fit_powers` of all sizes in the points' settings."""
    names = [name for name in points[0]["settings"] if name != "part"]
    return fit_powers({n: [point["settings"][n] for point in points] for n in names}, values)


def head_shares(points: Sequence[Point]) -> list[Share]:
    """The head beside each backbone and batch of which both were measured."""
    shares = []
    for backbone in of_part(points, "backbone"):
        settings = {k: v for k, v in backbone["settings"].items() if k != "part"}
        steps = [
            point
            for point in of_part(points, "step")
            if settings.items() <= point["settings"].items()
        ]
        if len(steps) < 2:
            continue
        alone = least_seconds(backbone)
        experts = [point["settings"]["experts"] for point in steps]
        seconds = [least_seconds(point) for point in steps]
        columns = np.array([[1.0, e] for e in experts])
        fixed, of_expert = fit_line(columns, seconds).tolist()
        found = [1 - alone / s for s in seconds]
        shares.append(Share(settings, alone, experts, found, fixed, of_expert))
    return shares


def describe_errors(errors: Sequence[float]) -> str:
    """Median and largest error, as read."""
    sizes = [abs(error) for error in errors]
    return f"{statistics.median(sizes):.0%} (median), {max(sizes):.0%} (largest)"
