"""A pretraining that goes on from a checkpoint ends bit for bit as one that was never stopped."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.gpu.cases import Case, Figures
from benchmarks.gpu.pretraining import NEEDS, accelerator
from benchmarks.gpu.sizes import Sizes


def cases(device: str, sizes: Sizes) -> Iterator[Case]:
    """One run, and one from its first epoch's checkpoint."""
    yield Case("test_resnet on digits, deterministic kernels", partial(resume, device), NEEDS)


def resume(device: str) -> Figures:
    """Where the two differ at the end: weights, momentum, schedule, random state."""
    from benchmarks.hold_up.run_files import checkpoint_differences, count_tensors
    from benchmarks.hold_up.watched_run import SMALL, run_through
    from star_head.examples.training.checkpoints import load_training_checkpoint

    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # deterministic matrix products of CUDA
    arguments = (
        *SMALL,
        *accelerator(device),
        *("--trainer.deterministic=true", "--trainer.max_epochs=2", "--keep_every_n_epochs=1"),
        "--trainer.limit_val_batches=0",
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_through(folder / "through", *arguments)
        one, two = (folder / run / "checkpoints" / "last.ckpt" for run in ("through", "resumed"))
        two.parent.mkdir(parents=True)
        shutil.copy(one.with_name("epoch=0.ckpt"), two)
        run_through(folder / "resumed", *arguments)
        differences = checkpoint_differences(one, two)
        tensors = count_tensors(load_training_checkpoint(one))
    print("\n".join(differences))
    return {"differences": len(differences), "tensors compared": tensors}
