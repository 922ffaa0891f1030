"""Pretrain and measure SimCLR, separate heads, STAR-SS and STAR-MMoE, all with the same budget.

    python -m benchmarks.evidence.collect                          # what docs/evidence.md reports
    python -m benchmarks.evidence.collect --datasets '[openclipart]' --epochs 60 --seeds '[0]'
    python -m benchmarks.evidence.collect --datasets '[cifar10,stl10]' --epochs 4    # fetches them

Each run is examples/pretrain.py as a user starts it, on one thread, several runs at a time. What it
gave is one JSON file in benchmarks/evidence/results/, where those of docs/evidence.md are; a run
that has one is not done again, and one that was broken off goes on where it was.
evidence_report.py makes the tables and pictures.
"""

import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import torch
from tqdm import tqdm

from benchmarks.evidence.data_sets import OFFLINE, DataName, prepare
from benchmarks.evidence.measures import measure_run
from benchmarks.evidence.methods import METHODS
from star_head._whole_files import write_json
from star_head.examples.command_line import run

_ROOT = Path(__file__).parents[2]
_PRETRAIN = _ROOT / "examples" / "pretrain.py"
EPOCHS: dict[DataName, int] = {"fashion-mnist": 4, "openclipart": 6, "cifar10": 4, "stl10": 4}
# 0.7 million parameters, 192 features; the paper's recipe with a larger rate for a short run.
SETTINGS = (
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.log_every_n_steps=10",
    "--trainer.callbacks=benchmarks.evidence.epoch_time.EpochTime",
    "--model.backbone=resnet10t",
    "--model.backbone_args={channels: [24, 48, 96, 192], stem_width: 8}",
    "--model.channels_last=true",
    "--model.learning_rate=0.12",
    "--data.dataset=folder",
    "--data.transform=STARTransform",
    "--data.transform.input_size=32",
    "--data.augment=device",
    "--data.batch_size=64",
    "--data.num_workers=1",
)


class Task(NamedTuple):
    """One run.

    Attributes:
        dataset: That it is trained on.
        method: Of ``METHODS``.
        seed: Seed of weights, views and order.
        epochs: Passes over the images.
    """

    dataset: DataName
    method: str
    seed: int
    epochs: int

    @property
    def name(self) -> str:
        """Of its folder and file."""
        return f"{self.dataset}_{self.method}_{self.epochs}_{self.seed}"


def main(
    datasets: tuple[DataName, ...] = OFFLINE,
    methods: tuple[str, ...] = tuple(METHODS),
    seeds: tuple[int, ...] = (0, 1, 2),
    epochs: int | None = None,
    jobs: int = 2,
    output: Path = Path("runs/evidence"),
    results: Path = Path(__file__).parent / "results",
) -> None:
    """Do those runs that have not been done.

    Args:
        datasets: What to train on. Each is measured on the others too; a single one on those that
            need no download.
        methods: Which; all unless given.
        seeds: A run of each method for each.
        epochs: Passes over the images; 4, of openclipart 6, unless given.
        jobs: Runs at a time.
        output: Folder for data and runs.
        results: Folder for what was measured.
    """
    if unknown := [name for name in methods if name not in METHODS]:
        raise ValueError(f"methods: expected some of {list(METHODS)}, got {unknown}")
    measured = datasets if len(datasets) > 1 else tuple(dict.fromkeys((*datasets, *OFFLINE)))
    for dataset in measured:
        prepare(dataset, output / "data")
    # All methods of a seed before the next seed: what was done when time runs out is comparable.
    tasks = [
        Task(dataset, method, seed, epochs or EPOCHS[dataset])
        for seed in seeds
        for method in methods
        for dataset in datasets
    ]
    left = [task for task in tasks if not result_file(task, results).exists()]
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_one_thread) as pool:
        futures = [pool.submit(do, task, measured, output, results) for task in left]
        try:
            for future in tqdm(as_completed(futures), total=len(futures), unit="run"):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # or the rest would still be run
            raise


def _one_thread() -> None:
    torch.set_num_threads(1)


def result_file(task: Task, results: Path) -> Path:
    """Where a run's numbers go."""
    return results / f"{task.name}.json"


def do(task: Task, measured: tuple[DataName, ...], output: Path, results: Path) -> None:
    """Train and measure, on the other data sets too.

    Raises:
        RuntimeError: If the training fails.
    """
    folder = output / "runs" / task.name
    train(task, folder, output / "data" / task.dataset)
    others = [output / "data" / name for name in measured if name != task.dataset]
    found = measure_run(folder, output / "data" / task.dataset, others, output / "features")
    write_json(result_file(task, results), {**task._asdict(), **found})


def train(task: Task, folder: Path, data_dir: Path) -> None:
    """Run examples/pretrain.py, from where it stopped if it was begun."""
    method = METHODS[task.method]
    command = [
        *(sys.executable, str(_PRETRAIN), *SETTINGS),
        f"--seed_everything={task.seed}",
        f"--trainer.default_root_dir={folder}",
        f"--trainer.max_epochs={task.epochs}",
        # The monitor before the first epoch and after the last.
        f"--trainer.check_val_every_n_epoch={task.epochs}",
        f"--keep_every_n_epochs={task.epochs}",
        f"--model.routing={method.routing}",
        f"--model.num_experts={method.num_experts}",
        f"--data.data_dir={data_dir}",
        "--ckpt_path=last",
    ]
    paths = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    folder.parent.mkdir(parents=True, exist_ok=True)
    log = folder.with_name(f"{task.name}.log")
    with open(log, "w") as file:
        done = subprocess.run(
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        )
    if done.returncode:
        raise RuntimeError(f"{task.name} ended with {done.returncode}; see {log}")


if __name__ == "__main__":
    run(main)
