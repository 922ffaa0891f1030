"""The runs: what is trained, by which command, and where it goes."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from star_head.examples.comparing.methods import Method, find_method

_ROOT = Path(__file__).parents[2]
_PRETRAIN = _ROOT / "examples" / "pretrain.py"
# 64 features of 24-pixel views; the paper's recipe at a rate of 0.06.
SETTINGS = (
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.log_every_n_steps=50",
    "--model.backbone=resnet10t",
    "--model.backbone_args={channels: [16, 32, 48, 64], stem_width: 8}",
    "--model.channels_last=true",
    "--model.learning_rate=0.24",
    "--model.output_dim=32",
    "--data.dataset=folder",
    "--data.transform=STARTransform",
    "--data.transform.input_size=24",
    "--data.augment=device",
    "--data.batch_size=64",
    "--data.num_workers=0",
)


METHODS: dict[str, Method] = {
    "separate": Method("separate heads", "separate"),
    **{f"mmoe{count}": find_method(f"star-mmoe-{count}") for count in (2, 4, 8, 16)},
}
# One setting each that is another than in SETTINGS.
CHANGES: dict[str, tuple[str, ...]] = {
    "none": (),
    "width 16": ("--model.output_dim=16",),
    "temperature 0.1": ("--model.temperature=0.1",),
    "temperature 0.5": ("--model.temperature=0.5",),
    "rate 0.02": ("--model.learning_rate=0.08",),
    "rate 0.18": ("--model.learning_rate=0.72",),
}


class Run(NamedTuple):
    """One run.

    Attributes:
        method: Of ``METHODS``.
        change: Of ``CHANGES``.
        epochs: Passes over the drawings, of 47 steps.
        seed: Seed of weights, views and order.
    """

    method: str
    change: str
    epochs: int
    seed: int

    @property
    def name(self) -> str:
        """Of its folder and file."""
        changed = "" if self.change == "none" else f"_{self.change.replace(' ', '_')}"
        return f"{self.method}{changed}_{self.epochs}_{self.seed}"


def train(run: Run, folder: Path, data_dir: Path, cache: Path, kept: int) -> None:
    """Run examples/pretrain.py on one thread, from where it stopped if it was begun.

    Args:
        run: Which.
        folder: Where it goes; what it prints, beside it.
        data_dir: The folder of images.
        cache: Folder for the decoded images.
        kept: How many checkpoints are kept.

    Raises:
        RuntimeError: If the training fails.
    """
    every = max(1, run.epochs // kept)
    command = [
        *(sys.executable, str(_PRETRAIN), *SETTINGS),
        f"--seed_everything={run.seed}",
        f"--trainer.default_root_dir={folder}",
        f"--trainer.max_epochs={run.epochs}",
        f"--trainer.check_val_every_n_epoch={every}",
        f"--keep_every_n_epochs={every}",
        *METHODS[run.method].flags(),
        *CHANGES[run.change],
        f"--data.data_dir={data_dir}",
        f"--data.cache={cache}",
        "--ckpt_path=last",
    ]
    folder.parent.mkdir(parents=True, exist_ok=True)
    log = folder.with_name(f"{run.name}.log")
    with open(log, "w") as file:
        done = subprocess.run(
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
    if done.returncode:
        raise RuntimeError(f"{run.name} ended with {done.returncode}; see {log}")
