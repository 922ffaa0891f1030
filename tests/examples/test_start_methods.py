"""Loader workers end with the training process alone, however they are started.

Python starts processes by fork until 3.13 on Linux, from 3.14 on by a server that forks them, and
by spawn elsewhere.
"""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from star_head.examples.training.trainers import SeededData

METHODS = ["fork", "forkserver", pytest.param("spawn", marks=pytest.mark.slow)]


@pytest.fixture
def start_method(request: pytest.FixtureRequest) -> Iterator[str]:
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method(request.param, force=True)
    yield request.param
    multiprocessing.set_start_method(before, force=True)


def from_elsewhere(pid: int) -> None:
    """Send SIGTERM as a cluster does: not from the training process."""
    script = f"import os, signal; os.kill({pid}, signal.SIGTERM)"
    subprocess.run([sys.executable, "-S", "-c", script], check=True)


@pytest.mark.parametrize("start_method", METHODS, indirect=True)
def test_workers_outlive_a_clusters_signal_but_not_the_training_process(start_method: str) -> None:
    items = [(i, 10 * i) for i in range(40)]
    data = SeededData(items, items, batch_size=2, seed=0, num_workers=1)
    progress = SimpleNamespace(epoch_progress=SimpleNamespace(current=SimpleNamespace(processed=0)))
    data.trainer = SimpleNamespace(
        world_size=1,
        global_rank=0,
        num_devices=1,
        fit_loop=progress,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )
    batches = iter(data.train_dataloader())
    next(batches)
    (worker,) = batches._workers
    assert multiprocessing.get_start_method() == start_method
    assert worker.is_alive()

    from_elsewhere(worker.pid)
    for first, second in batches:  # none is missing
        assert torch.equal(second, 10 * first)
    assert worker.is_alive()

    worker.terminate()
    worker.join(60)
    assert worker.exitcode == 0


SCRIPT = """
import multiprocessing, sys
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv.pop(1))
    from star_head.examples import pretrain
    pretrain.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_pretraining_run_ends_in_order(tmp_path: Path, method: str) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [
            *(sys.executable, str(script), method),
            f"--trainer.default_root_dir={tmp_path / 'run'}",
            "--trainer.accelerator=cpu",
            "--trainer.max_epochs=3",
            "--trainer.limit_val_batches=0",
            "--model.backbone=test_resnet",
            "--model.num_experts=2",
            "--data.num_workers=1",
            "--trainer.callbacks=breaking_off.BreakOff",
            "--trainer.callbacks.step=8",
            "--trainer.callbacks.name=SIGTERM",
            "--trainer.callbacks.to_group=True",
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    assert done.returncode == 143, done.stderr[-3000:]
    assert "--ckpt_path=last goes on" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
