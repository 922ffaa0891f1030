"""Write the tables of docs/compare.md and README from the runs that `star-head compare` left.

    python -m benchmarks.comparison_tables

What is in the page was made from results/compare/ beside this file: a folder for each data set,
with the JSON files of its runs.
"""

from pathlib import Path

from benchmarks.claims import claims_table
from benchmarks.evidence.data_sets import OFFLINE
from benchmarks.page_blocks import fill_page
from star_head.examples.command_line import run
from star_head.examples.comparing.methods import METHODS, UNTRAINED
from star_head.examples.comparing.page import markdown
from star_head.examples.comparing.results import read_comparison

RESULTS = Path(__file__).parent / "results" / "compare"


def main(
    folder: Path = RESULTS,
    page: Path = Path("docs/compare.md"),
    readme: Path = Path("README.md"),
) -> None:
    """Fill in the pages' tables and print them.

    Args:
        folder: Folder of the data sets' folders.
        page: The Markdown file.
        readme: The Markdown file with the table of the paper's claims.
    """
    blocks, comparisons = {}, {}
    for place in sorted(path for path in folder.glob("*") if path.is_dir()):
        found = [path.stem.rpartition("_") for path in place.glob("*.json")]
        seeds = sorted({int(seed) for _, _, seed in found})
        others = sorted({name for name, _, _ in found} - {*METHODS, UNTRAINED})
        comparison = read_comparison(place, [*METHODS, *others], seeds)
        comparisons[place.name] = comparison
        first = next(iter(comparison.runs["simclr"].values()))
        lines = [
            f"**Trained on {comparison.title}**, {first['steps']:,} steps, {len(seeds)} seeds:",
            "",
            *markdown(comparison),
        ]
        blocks[f"compare: {place.name}"] = lines
    fill_page(page, blocks)
    fill_page(readme, {"claims": claims_table([comparisons[name] for name in OFFLINE])})


if __name__ == "__main__":
    run(main)
