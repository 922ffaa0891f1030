"""Prints what the runs of the methods beside this file found, as a Markdown table.

    python examples/lightly/byol.py
    python examples/lightly/byol.py --routing invariant
    python examples/lightly/table.py

A row needs a run with STAR and one without, of the same budget and seed.
"""

import json
from pathlib import Path
from typing import Any

from star_head.examples.command_line import run


def main(folder: Path = Path("runs/lightly")) -> None:
    """Print a row for each budget and seed that has both a run with STAR and one without.

    Args:
        folder: Folder of the runs' JSON files.
    """
    runs: dict[tuple[Any, ...], dict[str, Any]] = {}
    for path in sorted(folder.glob("*.json")):
        found = json.loads(path.read_text())
        if found.get("task", "star") != "star":
            continue
        names = ("method", "seed", "dataset", "epochs", "data_dir", "backbone", "images")
        budget = tuple(found.get(name) for name in (*names, "batch_size"))
        runs.setdefault(budget, {})[found["routing"]] = found
    pairs = {budget: both for budget, both in runs.items() if {"mmoe", "invariant"} <= both.keys()}
    if not pairs:
        raise ValueError(f"folder: expected runs of one method with both routings in {folder}")
    print("| method | data set | seed | epochs | untrained | alone | with STAR | MRR (chance) |")
    print("|---|---|---|---|---|---|---|---|")
    for (method, seed, dataset, epochs, *_), both in pairs.items():
        star, alone = both["mmoe"], both["invariant"]
        cells = [
            method,
            dataset,
            seed,
            epochs,
            f"{star['1-NN accuracy before']:.3f}",
            f"{alone['1-NN accuracy after']:.3f}",
            f"{star['1-NN accuracy after']:.3f}",
            f"{star['MRR']:.3f} ({star['MRR by chance']:.3f})",
        ]
        print("| " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
    run(main)
