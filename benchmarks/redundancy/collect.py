"""Train long runs of STAR-MMoE and of separate heads, and measure them as they go.

    python -m benchmarks.redundancy.collect                  # the paper's 80,000 steps: hours
    python -m benchmarks.redundancy.collect --epochs 340     # 16,000 steps
    python -m benchmarks.redundancy.collect --methods '[mmoe16,separate]' --change 'width 16'

Each run is examples/pretrain.py as a user starts it, on drawings of Debian's openclipart-png, on
one thread, several runs at a time. Its curves are one JSON file in benchmarks/redundancy/results/;
a run that has one is not done again, and one that was interrupted is resumed.
"""

from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks.evidence.data_sets import prepare
from benchmarks.redundancy.measure import measure_run
from benchmarks.redundancy.runs import CHANGES, METHODS, Run, train
from star_head._whole_files import write_json
from star_head.examples.command_line import run as run_command

RESULTS = Path(__file__).with_name("results")


def main(
    methods: tuple[str, ...] = tuple(METHODS),
    seeds: tuple[int, ...] = (0, 1),
    epochs: int = 1703,
    change: str = "none",
    kept: int = 20,
    jobs: int = 2,
    output: Path = Path("runs/redundancy"),
    results: Path = RESULTS,
) -> None:
    """Do those runs that have not been done.

    Args:
        methods: Names of the methods; default: all.
        seeds: A run of each method for each.
        epochs: Passes over the drawings, of 47 steps each; default: the paper's 80,000 steps.
        change: Which setting is another, by its name in runs.py; default: none.
        kept: Points of the curves.
        jobs: Runs at a time.
        output: Folder for data and runs.
        results: Folder for what was measured.
    """
    if unknown := [name for name in methods if name not in METHODS]:
        raise ValueError(f"methods: expected some of {list(METHODS)}, got {unknown}")
    if change not in CHANGES:
        raise ValueError(f"change: expected one of {list(CHANGES)}, got {change!r}")
    prepare("openclipart", output / "data")
    runs = [Run(method, change, epochs, seed) for seed in seeds for method in methods]
    left = [run for run in runs if not (results / f"{run.name}.json").exists()]
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_one_thread) as pool:
        futures = [pool.submit(do, run, kept, output, results) for run in left]
        try:
            for future in tqdm(as_completed(futures), total=len(futures), unit="run"):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # or the rest would still be run
            raise


def _one_thread() -> None:
    torch.set_num_threads(1)


def do(run: Run, kept: int, output: Path, results: Path) -> None:
    """Train and measure."""
    folder, data_dir = output / "runs" / run.name, output / "data" / "openclipart"
    train(run, folder, data_dir, output / "decoded", kept)
    points = measure_run(folder, data_dir, output / "features")
    results.mkdir(parents=True, exist_ok=True)
    write_json(results / f"{run.name}.json", {**run._asdict(), "points": points})


if __name__ == "__main__":
    run_command(main)
