"""What README and docs promise, each with its bar. A figure beyond its bar ends in an error status.

Where a page has a figure of the CPU, the bar leaves room for another machine: it is broken by
what would make the page's sentence wrong, not by some percent.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

from benchmarks.gpu.cases import Row


class Promise(NamedTuple):
    """A bar for a figure.

    Attributes:
        part: Part whose rows have it.
        figure: Its name.
        least: It may not be less.
        most: It may not be more.
        full_size: It is about speed or memory at real sizes on a GPU, and says nothing about toys.
        text: What is promised, and where.
    """

    part: str
    figure: str
    least: float
    most: float
    full_size: bool
    text: str

    def keeps(self, figure: float) -> bool:
        """Whether a figure is within the bars; nan never is."""
        return self.least <= figure <= self.most

    def bar(self) -> str:
        """The bar in words."""
        if self.most < math.inf:
            return f"at most {self.most:g}"
        return f"at least {self.least:g}"


def at_least(part: str, figure: str, bar: float, text: str) -> Promise:
    """A promise of speed."""
    return Promise(part, figure, bar, math.inf, full_size=True, text=text)


def at_most(part: str, figure: str, bar: float, text: str, full_size: bool = False) -> Promise:
    """A promise of a cost, or of agreement."""
    return Promise(part, figure, -math.inf, bar, full_size, text)


COST, GPU = "docs/cost.md: ", "docs/gpu.md: "
AGREEMENT = GPU + "losses equal to 1e-9, 1e-4 and 5e-2"
PROMISES = (
    at_least("head", "loop / ours", 1.0, GPU + "not slower than a loop of experts"),
    at_most(
        "head", "ops, ours / loop", 0.2, COST + "31 operations in place of 654", full_size=True
    ),
    at_most("compiled", "compiled apart", 1e-2, GPU + "equal to 1e-2"),
    at_least("loss", "lightly / ours", 1.0, GPU + "not slower than lightly's NT-Xent"),
    at_most("loss", "peak, ours / lightly", 0.25, COST + "a tenth of the memory", full_size=True),
    at_most("loss", "loss apart", 1e-5, GPU + "equal to lightly's to rounding"),
    at_most("loss", "gradient apart", 1e-3, GPU + "equal to lightly's to rounding"),
    at_most("step", "STAR / three passes", 1.15, COST + "1.02 to 1.08 times", full_size=True),
    at_most("step", "STAR / two passes", 1.85, COST + "1.5 to 1.8 times SimCLR", full_size=True),
    at_least("views", "device / workers", 1.0, "docs/views.md: for GPUs that wait for PIL"),
    at_most("views", "levels apart", 0.1, "docs/pretraining.md: 0.01 to 0.04 of a level"),
    at_most("agreement", "float64 apart", 1e-9, AGREEMENT),
    at_most("agreement", "float32 apart", 1e-4, AGREEMENT),
    at_most("agreement", "bf16 apart", 5e-2, AGREEMENT),
    at_most("resume", "differences", 0, "docs/testing.md: resumed bit for bit"),
)


class Verdict(NamedTuple):
    """A promise held against a figure.

    Attributes:
        promise: Which.
        figure: What was measured.
        kept: Whether it is within the bar.
    """

    promise: Promise
    figure: float
    kept: bool


def judge(row: Row, full_size: bool) -> list[Verdict]:
    """Hold a row against the promises about it.

    Args:
        row: What was measured.
        full_size: Whether it was at full size on a GPU.
    """
    found = []
    for promise in PROMISES:
        figure = row.figures.get(promise.figure)
        if promise.part == row.part and figure is not None and (full_size or not promise.full_size):
            found.append(Verdict(promise, figure, promise.keeps(figure)))
    return found


def problems(rows: Iterable[Row], full_size: bool) -> list[str]:
    """What is wrong with a run, a line each: broken promises and cases that failed."""
    found = []
    for row in rows:
        where = f"{row.part}, {row.case}"
        if row.failed is not None:
            found.append(f"{where}: failed: {row.failed}")
        found += [
            f"{where}: {verdict.promise.figure} is {verdict.figure:.3g}, promised "
            f"{verdict.promise.bar()} ({verdict.promise.text})"
            for verdict in judge(row, full_size)
            if not verdict.kept
        ]
    return found
