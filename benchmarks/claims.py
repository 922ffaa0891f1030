"""README's table: what the paper claims, its number, what came out here, and the verdict."""

from collections.abc import Sequence
from statistics import mean
from typing import NamedTuple

from benchmarks.evidence.data_sets import OFFLINE
from benchmarks.page_blocks import table
from star_head.evaluation.comparison import PairedDifference, paired_difference
from star_head.examples.comparing.page import signed
from star_head.examples.comparing.results import CORRELATION, Comparison, Measure, Run


def _elsewhere(run: Run) -> float | None:
    """On the one of the two sets that was not trained on."""
    accuracies = [
        run["linear elsewhere"][name] for name in OFFLINE if name in run["linear elsewhere"]
    ]
    return 100 * mean(accuracies) if accuracies else None


class Claim(NamedTuple):
    """A change that the paper reports, from one method to another.

    Attributes:
        words: The claim in README's table.
        paper: The paper's number, of its STL10 ResNet-18; its correlations are read off a figure.
        before: The method that is compared with.
        after: The method of which something is claimed.
        measure: What is compared.
        sign: 1 if the claim is that it rises, -1 if it falls.
    """

    words: str
    paper: str
    before: str
    after: str
    measure: Measure
    sign: int


ELSEWHERE = Measure("linear, other set, %", _elsewhere, 1)
CLAIMS = (
    Claim(
        "STAR beats SimCLR on data not trained on, linear accuracy in %",
        "45.55 → 53.07",
        "simclr",
        "star-mmoe",
        ELSEWHERE,
        1,
    ),
    Claim(
        "it beats separate heads there, linear accuracy in %",
        "49.54 → 53.07",
        "equimod",
        "star-mmoe",
        ELSEWHERE,
        1,
    ),
    Claim(
        "16 experts make the two embeddings less redundant than 2 do, canonical correlation",
        "about 0.55 → 0.30",
        "star-mmoe-2",
        "star-mmoe",
        CORRELATION,
        -1,
    ),
    Claim(
        "they are less redundant than those of separate heads, canonical correlation",
        "no figure found",
        "equimod",
        "star-mmoe",
        CORRELATION,
        -1,
    ),
)


def claims_table(comparisons: Sequence[Comparison]) -> list[str]:
    """A row for each claim: means over seeds, the paired difference, and what follows from it.

    Raises:
        KeyError: If a method has no runs.
        ValueError: If two of one comparison share fewer than two seeds.
    """
    titles = "; ".join(comparison.title for comparison in comparisons)
    header = ("the paper's claim", "the paper's number", f"measured here ({titles})", "verdict")
    return table(header, (_row(claim, comparisons) for claim in CLAIMS))


def _row(claim: Claim, comparisons: Sequence[Comparison]) -> list[str]:
    digits = min(claim.measure.digits, 2)
    cells, differences = [], []
    for comparison in comparisons:
        pairs = comparison.pairs(claim.after, claim.before, claim.measure)
        if len(pairs) < 2:
            raise ValueError(
                f"comparisons: expected two seeds or more of {claim.after} and {claim.before} on "
                f"{comparison.dataset}, got {len(pairs)}"
            )
        after, before = zip(*pairs, strict=True)
        difference = paired_difference(after, before)
        cells.append(
            f"{mean(before):.{digits}f} → {mean(after):.{digits}f} ({signed(difference, digits)})"
        )
        differences.append(difference)
    verdict = _verdict(claim.sign, differences)
    return [claim.words, claim.paper, "; ".join(cells), f"**{verdict}**"]


def _verdict(sign: int, differences: Sequence[PairedDifference]) -> str:
    """What follows if every interval leaves out zero on the same side; else nothing does."""
    if all(difference.is_clear for difference in differences):
        as_claimed = {sign * difference.mean > 0 for difference in differences}
        if as_claimed == {True}:
            return "reproduced"
        if as_claimed == {False}:
            return "not reproduced: the opposite"
    return "undecided"
