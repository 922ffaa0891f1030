"""Whether something measured over time rises or falls."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats


class Trend(NamedTuple):
    """A straight line through measurements.

    Attributes:
        mean: Mean of the measurements.
        per_hour: The line's slope.
        low: Lower end of the slope's 95% interval.
        high: Its upper end.
    """

    mean: float
    per_hour: float
    low: float
    high: float

    def in_percent(self) -> "Trend":
        """The same of the mean."""
        return Trend(self.mean, *(100 * value / self.mean for value in self[1:]))

    def rounded(self) -> dict[str, Any]:
        """For a JSON file."""
        return {name: float(f"{value:.4g}") for name, value in self._asdict().items()}


def fit_trend(seconds: Sequence[float], values: Sequence[float], blocks: int = 20) -> Trend:
    """Fit a line by least squares to the means of blocks of time.

    Single measurements lie close to those before them, and an interval that takes them for
    independent would be too narrow; the means of long blocks nearly are.

    Args:
        seconds: When each value was measured, rising.
        values: What was measured.
        blocks: Of equal length, into which the time is divided; empty ones do not count.

    Raises:
        ValueError: If fewer than three blocks have values.
    """
    times, measured = np.asarray(seconds, float), np.asarray(values, float)
    edges = np.linspace(times[0], times[-1], blocks + 1) if len(times) else np.zeros(1)
    block = np.searchsorted(edges[1:-1], times, side="right")
    used = np.unique(block)
    if len(used) < 3:
        raise ValueError(f"values: expected some in three blocks of time or more, got {len(used)}")
    hours = [times[block == b].mean() / 3600 for b in used]
    means = [measured[block == b].mean() for b in used]
    line = stats.linregress(hours, means)
    half = stats.t.ppf(0.975, len(used) - 2) * line.stderr
    return Trend(float(np.mean(measured)), line.slope, line.slope - half, line.slope + half)
