"""The paper's STL10 run for some steps: images a second, and how much of that is waiting for them.

The images are made up, in files of STL10's sizes.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.gpu.cases import Case, Figures
from benchmarks.gpu.pretraining import NEEDS, accelerator
from benchmarks.gpu.sizes import Sizes

# Bytes of STL10's files, as its makers published it: 96 x 96 pixels of three colours, one label.
PIXELS = {"train_X.bin": 5_000, "unlabeled_X.bin": 100_000, "test_X.bin": 8_000}
LABELS = {"train_y.bin": 5_000, "test_y.bin": 8_000}
SIDE = 96
# TF32 is how PyTorch computes convolutions in "32-true" anyway; float32 is what the config says.
MODES = {"float32": "32-true", "bf16": "bf16-mixed"}
ROOT = Path(__file__).parents[2]


def cases(device: str, sizes: Sizes) -> Iterator[Case]:
    """Views made by the loader's workers, as the config says, and on the device."""
    with tempfile.TemporaryDirectory() as name:
        images = Path(name)
        make_up_stl10(images / "stl10_binary", whole=sizes.full)
        for precision in (p for p in sizes.precisions if p in MODES):
            for augment in ("host", "device"):
                flags = (
                    f"--data.augment={augment}",
                    f"--trainer.precision={MODES[precision]}",
                )
                run = partial(train, device, sizes, images, flags)
                yield Case(f"views on the {augment}, {precision}", run, NEEDS)


def train(device: str, sizes: Sizes, images: Path, flags: tuple[str, ...]) -> Figures:
    """Run the command, in a process of its own.

    Args:
        device: Where it trains.
        sizes: Steps, and flags of its own.
        images: Folder with the data set.
        flags: Further ones.

    Raises:
        RuntimeError: If it fails; the message is its last line.
    """
    with tempfile.TemporaryDirectory() as name:
        times = Path(name, "times.json")
        command = [
            *(sys.executable, str(ROOT / "examples/pretrain.py"), "--config=stl10_resnet18"),
            *(f"--data.data_dir={images}", f"--trainer.default_root_dir={Path(name, 'run')}"),
            *(f"--trainer.max_steps={sizes.steps_trained}", "--trainer.limit_val_batches=0"),
            f"--data.batch_size={sizes.batch_trained}",
            *("--trainer.enable_progress_bar=false", "--trainer.profiler=simple"),
            "--trainer.callbacks=benchmarks.gpu.batch_times.BatchTimes",
            f"--trainer.callbacks.path={times}",
            *(*accelerator(device), *sizes.flags, *flags),
        ]
        paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = os.environ | {"PYTHONPATH": paths}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            print(done.stdout, done.stderr)
            last = (done.stderr or done.stdout).strip().rpartition("\n")[2]
            raise RuntimeError(f"pretrain ended with {done.returncode}: {last}")
        read = json.loads(times.read_text())
    return speed(read["ends"], read["waited"], sizes.batch_trained)


def speed(ends: list[float], waited: list[float], batch: int) -> Figures:
    """Images a second and the loader's share, without the first fifth of the steps.

    Args:
        ends: When each batch was done.
        waited: How long each was waited for.
        batch: Images in one.
    """
    first = max(1, len(ends) // 5)
    took = ends[-1] - ends[first - 1]
    counted = len(ends) - first
    return {
        "images/s": batch * counted / took,
        "loader's share": sum(waited[-counted:]) / took,
        "steps": counted,
    }


def make_up_stl10(folder: Path, whole: bool) -> None:
    """Write files of STL10's names and sizes.

    Args:
        folder: Made for them.
        whole: Write all pixels, 3.1 GB; else the first 1,000 images, the rest of a file is sparse.
    """
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    coarse = generator.integers(256, size=(1000, 3, SIDE // 8, SIDE // 8), dtype=np.uint8)
    images = coarse.repeat(8, axis=2).repeat(8, axis=3).tobytes()
    for name, count in PIXELS.items():
        with open(folder / name, "wb") as file:
            for _ in range(count // 1000 if whole else 1):
                file.write(images)
            file.truncate(count * 3 * SIDE * SIDE)
    for name, count in LABELS.items():
        generator.integers(1, 11, count, dtype=np.uint8).tofile(folder / name)
