"""Methods compared over seeds: means, spreads, and paired differences with their intervals."""

import math
from collections.abc import Sequence
from statistics import mean, stdev
from typing import NamedTuple

from star_head._checks import describe


class PairedDifference(NamedTuple):
    """How far one method's runs lie above another's, seed by seed.

    Attributes:
        mean: Mean of the differences.
        interval: Half the width of its 95% interval; ``None`` of a single pair.
        pairs: Number of differences.
    """

    mean: float
    interval: float | None
    pairs: int

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.interval is not None and abs(self.mean) > self.interval


def paired_difference(values: Sequence[float], reference: Sequence[float]) -> PairedDifference:
    """Mean difference of paired values, with the 95% interval of Student's t.

    Runs of one seed share data, views and initial weights, so that much of what differs between
    seeds is the same in both and falls out. The interval takes the differences for draws of a
    normal distribution; of a few seeds it is wide. It holds for one comparison: of twenty, one is
    expected to leave out zero by chance.

    Args:
        values: A measure of a method, a value for each seed.
        reference: The same measure of another, of the same seeds in the same order.

    Raises:
        ImportError: Without SciPy.
        TypeError: If a value is no number.
        ValueError: If there are none, one is not finite, or the two differ in length.

    Example:
        >>> found = paired_difference([3.0, 5.0, 4.0], [1.0, 2.0, 3.0])
        >>> f"{found.mean:+.1f} ± {found.interval:.2f} of {found.pairs} pairs"
        '+2.0 ± 2.48 of 3 pairs'
    """
    for name, given in (("values", values), ("reference", reference)):
        if isinstance(given, str) or not all(isinstance(value, int | float) for value in given):
            raise TypeError(f"{name}: expected numbers, got {describe(given)}")
        if not given or not all(map(math.isfinite, given)):
            raise ValueError(f"{name}: expected finite numbers, one or more, got {list(given)}")
    if len(values) != len(reference):
        raise ValueError(
            f"reference: expected as many as of values, {len(values)}, got {len(reference)}"
        )
    differences = [a - b for a, b in zip(values, reference, strict=True)]
    return PairedDifference(mean(differences), half_interval(differences), len(differences))


def half_interval(values: Sequence[float]) -> float | None:
    """Half the width of the mean's 95% interval by Student's t; ``None`` of a single value."""
    n = len(values)
    if n < 2:
        return None
    try:
        from scipy.special import stdtrit
    except ImportError as error:
        raise ImportError(
            'star_head.evaluation.comparison needs SciPy: pip install "star-head[evaluation]"'
        ) from error
    quantile = float(stdtrit(n - 1, 0.975))
    return quantile * stdev(values) / math.sqrt(n)
