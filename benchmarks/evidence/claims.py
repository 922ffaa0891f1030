"""README's table: what the paper claims, its number, what came out here, and the verdict."""

from collections.abc import Sequence
from statistics import mean
from typing import NamedTuple

from benchmarks.evidence.budgets import ELSEWHERE
from benchmarks.page_blocks import table
from star_head.examples.comparing.results import CORRELATION, Comparison, Measure


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


CLAIMS = (
    Claim(
        "STAR beats SimCLR on data not trained on, linear accuracy in %",
        "45.55 → 53.07",
        "simclr",
        "star-mmoe-16",
        ELSEWHERE,
        1,
    ),
    Claim(
        "it beats separate heads there, linear accuracy in %",
        "49.54 → 53.07",
        "equimod",
        "star-mmoe-16",
        ELSEWHERE,
        1,
    ),
    Claim(
        "16 experts make the two embeddings less redundant than 2 do, canonical correlation",
        "about 0.55 → 0.30",
        "star-mmoe-2",
        "star-mmoe-16",
        CORRELATION,
        -1,
    ),
    Claim(
        "they are less redundant than those of separate heads, canonical correlation",
        "no figure found",
        "equimod",
        "star-mmoe-16",
        CORRELATION,
        -1,
    ),
)


def claims_table(budgets: Sequence[Comparison]) -> list[str]:
    """A row for each claim: means over seeds, and in how many seeds it holds."""
    titles = "; ".join(budget.title for budget in budgets)
    header = ("the paper's claim", "the paper's number", f"measured here ({titles})", "verdict")
    return table(header, (_row(claim, budgets) for claim in CLAIMS))


def _row(claim: Claim, budgets: Sequence[Comparison]) -> list[str]:
    changes, differences = [], []
    for budget in budgets:
        before, after = (
            f"{mean(budget.values(method, claim.measure)):.{min(claim.measure.digits, 2)}f}"
            for method in (claim.before, claim.after)
        )
        changes.append(f"{before} → {after}")
        differences += budget.differences(claim.after, claim.before, claim.measure)
    held = sum(claim.sign * difference > 0 for difference in differences)
    return [claim.words, claim.paper, "; ".join(changes), _verdict(held, len(differences))]


def _verdict(held: int, seeds: int) -> str:
    if held == seeds:
        word = "reproduced"
    elif held == 0:
        word = "not reproduced: the opposite"
    else:
        word = "undecided"
    return f"**{word}**, {held} of {seeds} runs"
