"""The verdicts of README's table."""

import pytest

from benchmarks.claims import CLAIMS, claims_table
from star_head.examples.comparing.results import Comparison

ELSEWHERE = {"fashion-mnist": "openclipart", "openclipart": "fashion-mnist"}


def comparison(dataset: str, gains: list[float]) -> Comparison:
    """Every claimed change is of these sizes, a seed each, and goes the claimed way if positive."""
    runs = {}
    # Accuracy, and correlation in hundredths; of "star-mmoe" both are better by a gain.
    for method, of_method in (
        ("simclr", [0.0] * len(gains)),
        ("equimod", [0.0] * len(gains)),
        ("star-mmoe-2", [0.0] * len(gains)),
        ("star-mmoe", gains),
    ):
        runs[method] = {
            seed: {
                # Linear accuracy on what was made of the set itself is no other data.
                "linear elsewhere": {ELSEWHERE[dataset]: 0.5 + gain / 100, f"{dataset}-hue": 0.9},
                "canonical correlation": {"measured": 0.5 - gain / 100},
            }
            for seed, gain in enumerate(of_method)
        }
    return Comparison(dataset, 3, runs)


@pytest.mark.parametrize(
    ("gains", "others", "verdict"),
    [
        ([2.0, 3.0, 4.0], [5.0, 6.0, 7.0], "reproduced"),
        ([-2.0, -3.0, -4.0], [-5.0, -6.0, -7.0], "not reproduced: the opposite"),
        ([2.0, 3.0, 4.0], [-5.0, -6.0, -7.0], "undecided"),  # one data set says the opposite
        ([2.0, 3.0, 4.0], [1.0, 2.0, 9.0], "undecided"),  # all gain, within what seeds differ by
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0], "undecided"),
    ],
)
def test_a_verdict_follows_from_the_intervals(
    gains: list[float], others: list[float], verdict: str
) -> None:
    found = claims_table([comparison("fashion-mnist", gains), comparison("openclipart", others)])
    rows = [line.split(" | ") for line in found[2:-1]]
    assert len(rows) == len(CLAIMS)
    assert {row[-1] for row in rows} == {f"**{verdict}** |"}


def test_a_cell_has_means_difference_and_interval() -> None:
    found = claims_table([comparison("fashion-mnist", [2.0, 3.0, 4.0])])
    assert "measured here (fashion-mnist, 3 epochs)" in found[0]
    # One standard deviation of 1 over the root of 3 seeds, times 4.303.
    assert found[2].split(" | ")[2] == "50.0 → 53.0 (+3.0\u00a0±\u00a02.5)"
    assert found[4].split(" | ")[2] == "0.50 → 0.47 (-0.03\u00a0±\u00a00.02)"


def test_one_seed_is_no_evidence() -> None:
    with pytest.raises(ValueError, match="two seeds or more of star-mmoe and simclr on fashion-mn"):
        claims_table([comparison("fashion-mnist", [2.0])])
