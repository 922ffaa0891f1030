"""Differences between methods over seeds."""

import math

import numpy as np
import pytest
from scipy import stats

from star_head.evaluation import PairedDifference, paired_difference
from star_head.evaluation.comparison import half_interval


@pytest.mark.parametrize("pairs", [2, 3, 5, 30])
def test_the_interval_is_that_of_a_paired_t_test(pairs: int) -> None:
    rng = np.random.default_rng(pairs)
    values, reference = rng.normal(1, 2, pairs), rng.normal(0, 3, pairs)
    found = paired_difference(values.tolist(), reference.tolist())
    low, high = stats.ttest_rel(values, reference).confidence_interval(0.95)
    assert found.mean == pytest.approx((low + high) / 2)
    assert found.interval == pytest.approx((high - low) / 2)
    assert found.pairs == pairs
    assert found.is_clear == (stats.ttest_rel(values, reference).pvalue < 0.05)


def test_an_interval_by_hand() -> None:
    """Differences 2, 3, 1: standard deviation 1; t of 2 degrees of freedom is 4.3027."""
    found = paired_difference([3.0, 5.0, 4.0], [1.0, 2.0, 3.0])
    assert found.mean == 2
    assert found.interval == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert not found.is_clear
    assert paired_difference([30.0, 31.0, 29.0], [1.0, 1.0, 1.0]).is_clear


def test_what_is_the_same_in_all_seeds_falls_out() -> None:
    """A seed that is good for both methods widens no interval."""
    reference = [10.0, 50.0, 90.0]
    found = paired_difference([value + 1 for value in reference], reference)
    assert found == PairedDifference(1.0, 0.0, 3)
    assert found.is_clear


def test_one_seed_claims_no_interval() -> None:
    found = paired_difference([3.0], [1.0])
    assert found == PairedDifference(2.0, None, 1)
    assert not found.is_clear
    assert half_interval([3.0]) is None


def test_intervals_hold_what_they_promise() -> None:
    """Of many experiments with five seeds each, 95% have the truth within."""
    rng = np.random.default_rng(0)
    draws = rng.normal(0.5, 1, (2000, 5)).tolist()
    covered = [
        abs(found.mean - 0.5) <= found.interval
        for found in (paired_difference(draw, [0.0] * 5) for draw in draws)
        if found.interval is not None
    ]
    assert len(covered) == 2000
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(
    ("values", "reference", "message"),
    [
        ([], [], r"^values: expected finite numbers, one or more, got \[\]"),
        ([1.0, math.nan], [1.0, 2.0], r"^values: expected finite numbers.*nan"),
        ([1.0], [math.inf], r"^reference: expected finite numbers.*inf"),
        ([1.0, 2.0], [1.0], r"^reference: expected as many as of values, 2, got 1"),
    ],
)
def test_other_numbers_are_refused(
    values: list[float], reference: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        paired_difference(values, reference)


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^values: expected numbers, got"):
        paired_difference("12", [1.0, 2.0])
