"""Runs that can be broken off at any moment and resumed, and never write over each other."""

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from star_head.examples.training.processes import leave_group


class LastCheckpoint(ModelCheckpoint):
    """Keeps last.ckpt, written anew after every epoch.

    A class of its own, by whose name Lightning tells its state from another ModelCheckpoint's.

    Args:
        folder: Where it lies.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(
            folder, filename="last", enable_version_counter=False, save_on_train_epoch_end=True
        )


class StopOnSigterm(Callback):
    """Ends a run of several processes in order when a cluster signals any of them.

    Lightning's own handler tells the others by a collective operation from within the handler,
    which waits forever where a process is in the midst of another.
    """

    def __init__(self) -> None:
        self._signalled = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the handler's place, which the trainer has installed by now."""
        if trainer.world_size > 1:
            signal.signal(signal.SIGTERM, self._note)

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As early: that check may be a long one."""
        self.on_train_start(trainer, pl_module)

    def _note(self, *_: Any) -> None:
        self._signalled = True

    def _stop_together(self, trainer: Trainer) -> None:
        if trainer.world_size > 1 and trainer.strategy.reduce_boolean_decision(
            self._signalled, all=False
        ):
            raise SIGTERMException

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Stop before a batch that others would be waited for in."""
        self._stop_together(trainer)

    def on_validation_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Likewise while the monitor is at work."""
        self._stop_together(trainer)


def check_folder(folder: Path, module: LightningModule, ckpt_path: str | None, name: str) -> None:
    """Raise before training where its results could not be written or would replace others'.

    Args:
        folder: Where they go.
        module: What is trained.
        ckpt_path: What it goes on from.
        name: Name of the argument that gave the folder.

    Raises:
        FileExistsError: If the folder holds a run and ``ckpt_path`` is not of that run.
        OSError: If the folder is not writable, or its disk too full for two checkpoints.
    """
    last = folder / "checkpoints" / "last.ckpt"
    own = ckpt_path == "last" or (
        ckpt_path is not None and Path(ckpt_path).resolve().parent == last.parent.resolve()
    )
    if last.exists() and not own:
        raise FileExistsError(
            f"{name}: {folder} holds a run; go on with it by --ckpt_path=last, "
            f"or name another folder"
        )
    try:
        last.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=last.parent) as file:
            file.write(b"0")
    except OSError as error:
        raise OSError(f"{name}: {folder} is not writable: {error}") from error
    # Weights and momentum; a checkpoint is written beside the one that it replaces.
    tensors = [*module.parameters(), *module.buffers()]
    size = 2 * sum(tensor.nbytes for tensor in tensors)
    free = shutil.disk_usage(folder).free
    if free < 2 * size:
        raise OSError(
            f"{name}: two checkpoints need {2 * size / 1e6:.0f} MB, "
            f"and {folder} has {free / 1e6:.0f} MB free"
        )


def fit(
    trainer: Trainer,
    module: LightningModule,
    data: LightningDataModule,
    ckpt_path: str | None,
    name: str,
) -> None:
    """Train, from a checkpoint on where one is given; end in order when a cluster says so.

    Args:
        trainer: With a :class:`LastCheckpoint` and :class:`StopOnSigterm`.
        module: What is trained.
        data: What it is trained on.
        ckpt_path: A checkpoint of this run, ``"last"`` for its last one where there is one.
        name: Name of the argument that gave the trainer's folder.

    Raises:
        FileExistsError: If the folder holds a run and ``ckpt_path`` is not of that run.
        OSError: If the folder is not writable, or its disk too full for two checkpoints.
    """
    if ckpt_path is not None:
        ckpt_path = os.path.expanduser(ckpt_path)
    if trainer.is_global_zero:
        check_folder(Path(trainer.default_root_dir), module, ckpt_path, name)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    except SIGTERMException:
        if trainer.is_global_zero:
            print("Stopped by SIGTERM; --ckpt_path=last goes on from the last epoch's end.")
        leave_group()
        sys.exit(128 + signal.SIGTERM)
