"""Draw what the runs gave and write the tables of docs/evidence_runs.md.

    python -m benchmarks.evidence.evidence_report

What is in the page was made from results/ beside this file: the JSON files of its runs, as
`star-head compare` writes them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean

import torch

from benchmarks.claims import ELSEWHERE
from benchmarks.evidence.budgets import MEASURES, METHODS, read_budgets
from benchmarks.evidence.evidence_plots import draw_experts, draw_redundancy
from benchmarks.page_blocks import fill_page, table
from star_head.examples.command_line import run
from star_head.examples.comparing.methods import title_of
from star_head.examples.comparing.results import (
    CORRELATION,
    LINEAR,
    NEAREST,
    R2_COLOUR,
    R2_GEOMETRY,
    RANK,
    Comparison,
    Measure,
    spread,
)
from star_head.examples.training.plots import draw_usage

RESULTS = Path(__file__).with_name("results")

# What the paper's tables and figures say of two methods: a measure of the first is above the
# second's (+1) or below it (-1). Its accuracies are on data that was not trained on.
ORDERINGS: tuple[tuple[str, str, Measure, int], ...] = (
    ("equimod", "simclr", ELSEWHERE, 1),
    ("star-mmoe-16", "simclr", ELSEWHERE, 1),
    ("star-mmoe-16", "equimod", ELSEWHERE, 1),
    ("star-mmoe-16", "star-mmoe-2", ELSEWHERE, 1),
    ("star-mmoe-16", "star-mmoe-2", CORRELATION, -1),
)
# What it gives no figures for.
QUESTIONS: tuple[tuple[str, str, Measure, int], ...] = (
    ("equimod", "simclr", LINEAR, 1),
    ("star-mmoe-16", "simclr", LINEAR, 1),
    ("star-mmoe-16", "simclr", NEAREST, 1),
    ("star-mmoe-16", "equimod", LINEAR, 1),
    ("star-mmoe-16", "equimod", CORRELATION, -1),
    ("star-mmoe-16", "equimod", RANK, 1),
    ("star-mmoe-16", "simclr", R2_GEOMETRY, 1),
    ("star-mmoe-16", "simclr", R2_COLOUR, 1),
    ("star-ss", "equimod", LINEAR, 1),
    ("star-ss", "equimod", ELSEWHERE, 1),
)


def main(folder: Path = RESULTS, page: Path = Path("docs/evidence_runs.md")) -> None:
    """Draw pictures beside the page, fill in its tables and print them.

    Args:
        folder: Folder of the runs' JSON files.
        page: The Markdown file.
    """
    budgets = read_budgets(folder)
    whole = [budget for budget in budgets if list(budget.runs) == list(METHODS)]
    if not whole:
        raise ValueError(f"folder: expected a run of each of {list(METHODS)} in {folder}")
    draw_redundancy(whole, page.with_name("evidence_redundancy.png"))
    draw_experts(whole, page.with_name("evidence_experts.png"))
    draw_one_usage(whole[-1], page.with_name("evidence_usage.png"))
    fill_page(
        page,
        {
            "evidence: runs": [line for b in budgets for line in runs_table(b)],
            "evidence: orderings": orderings_table(budgets, ORDERINGS),
            "evidence: questions": orderings_table(budgets, QUESTIONS),
        },
    )


def runs_table(budget: Comparison) -> Iterator[str]:
    """Measures of all methods, over seeds."""
    runs = [run for of_seed in budget.runs.values() for run in of_seed.values()]
    chances = (
        f"{measure.title} {spread(found, measure.digits)}"
        for measure in MEASURES
        if measure.chance is not None
        and (found := [c for r in runs if (c := measure.chance(r)) is not None])
    )
    seeds = ", ".join(map(str, budget.seeds))
    yield f"**Trained on {budget.title}**, {'seed' if len(budget.seeds) == 1 else 'seeds'} {seeds}:"
    yield ""
    rows = (
        [
            title_of(name).replace(" ", "\u00a0"),
            *(spread(budget.values(name, m), m.digits) for m in MEASURES),
        ]
        for name in budget.runs
    )
    yield from table(["", *(measure.title for measure in MEASURES)], rows)
    untrained = spread((100 * run["1-NN untrained"] for run in runs), 1)
    yield f"1-NN untrained: {untrained}."
    yield f"Chance level: {'; '.join(chances)}."
    yield ""


def orderings_table(
    budgets: Sequence[Comparison], orderings: Sequence[tuple[str, str, Measure, int]]
) -> list[str]:
    """In how many seeds each holds, and by how much."""
    rows = []
    for first, second, measure, sign in orderings:
        relation = "above" if sign > 0 else "below"
        row = [f"{title_of(first)} {relation} {title_of(second)}", measure.title]
        for budget in budgets:
            both = {first, second} <= budget.runs.keys()
            found = budget.differences(first, second, measure) if both else []
            row.append(_verdict(found, sign, measure.digits))
        rows.append(row)
    return table(["", "measure", *(budget.title for budget in budgets)], rows)


def _verdict(differences: Sequence[float], sign: int, digits: int) -> str:
    if not differences:
        return "-"
    held = sum(sign * difference > 0 for difference in differences)
    return f"{held} of {len(differences)} ({mean(differences):+.{digits}f})"


def draw_one_usage(budget: Comparison, path: Path) -> None:
    """Draw the routing of the first seed's run with 16 experts."""
    runs = budget.runs["star-mmoe-16"]
    routing = runs[min(runs)]["routing"]
    usage, deviation = (torch.tensor(routing[key]) for key in ("usage", "spread"))
    draw_usage(usage, deviation, routing["divergence"], path)


if __name__ == "__main__":
    run(main)
