"""Batches that follow from a seed and the epoch alone, for any number of processes and workers."""

import functools
import os
import signal
import threading
from collections.abc import Iterator, Sized
from typing import Any, cast

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from star_head._processors import available_processors
from star_head._seeds import mix_seeds


class SeededDataModule(LightningDataModule):
    """Loaders of a batch that is divided over the processes, the same batch however many.

    Args:
        batch_size: Items in a batch, over all processes together.
        seed: Seed of the run.
        num_workers: Loader processes beside each training process; default: as many as it has
            processors to itself, at most 16.
    """

    def __init__(self, batch_size: int, seed: int, num_workers: int | None) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.seed = seed
        self.num_workers = num_workers

    def _check_batch(self, count: int, what: str) -> None:
        assert self.trainer is not None
        processes = self.trainer.world_size
        if self.batch_size < 1 or self.batch_size % processes:
            raise ValueError(
                f"batch_size: expected a multiple of the {processes} processes over which a batch "
                f"is divided, got {self.batch_size}"
            )
        if count < self.batch_size:
            raise ValueError(
                f"batch_size: expected at most the {count} {what}, got {self.batch_size}"
            )

    def _train_loader(self, dataset: Dataset[Any], **options: Any) -> DataLoader[Any]:
        """Shuffled batches of this process; items are asked for by (index, seed)."""
        assert self.trainer is not None
        sampler = SeededSampler(
            dataset,
            num_replicas=self.trainer.world_size,
            rank=self.trainer.global_rank,
            seed=self.seed,
            drop_last=True,
        )
        # Lightning does so too, but in a resumed run only after workers took their first indices.
        progress: Any = self.trainer.fit_loop.epoch_progress.current
        sampler.set_epoch(progress.processed)
        return self._loader(
            dataset,
            sampler=sampler,
            drop_last=True,
            persistent_workers=self._workers() > 0,
            **options,
        )

    def _loader(self, dataset: Dataset[Any], **options: Any) -> DataLoader[Any]:
        assert self.trainer is not None
        return DataLoader(
            dataset,
            batch_size=self.batch_size // self.trainer.world_size,
            num_workers=self._workers(),
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
            # Its own, so that loaders leave the training's random numbers alone.
            generator=torch.Generator(),
            worker_init_fn=functools.partial(_stop_for_trainer_only, os.getpid()),
            **options,
        )

    def _workers(self) -> int:
        assert self.trainer is not None
        if self.num_workers is not None:
            return self.num_workers
        if "SLURM_CPUS_PER_TASK" in os.environ:  # this process's own
            return min(16, int(os.environ["SLURM_CPUS_PER_TASK"]))
        return min(16, max(1, available_processors() // self.trainer.num_devices))


class SeededSampler(DistributedSampler[tuple[int, int]]):
    """Yields (index, seed of the item): both functions of the run's seed and the epoch."""

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """One epoch's share of this process."""
        generator = torch.Generator().manual_seed(mix_seeds(self.seed, self.epoch))
        items = len(cast(Sized, self.dataset))
        order = torch.randperm(items, generator=generator)
        order = order[self.rank : self.total_size : self.num_replicas]
        seeds = torch.randint(2**62, (items,), generator=generator)[order]
        return zip(order.tolist(), seeds.tolist(), strict=True)


class Shuffled(Dataset[Any]):
    """Some of a data set's items, or all, in an order that is the same on every call.

    The first ones are of all classes, also where a data set lies class by class.
    """

    def __init__(self, dataset: Dataset[Any], items: int) -> None:
        self.dataset = dataset
        self.order = fixed_order(len(cast(Sized, dataset)))[:items]

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[self.order[index]]


def fixed_order(count: int) -> list[int]:
    """The numbers below ``count`` in a random order, the same on every call."""
    order: list[int] = torch.randperm(count, generator=torch.Generator().manual_seed(0)).tolist()
    return order


def _stop_for_trainer_only(trainer: int, worker_id: int) -> None:
    """Leave it to the training process to stop its loader workers.

    A cluster sends SIGTERM to all processes of a job. A training process that loses its workers
    fails, where it should end in order.

    Args:
        trainer: The training process's id. It need not be the worker's parent, which can be a
            server that forks the workers: Python's default from 3.14 on.
        worker_id: The worker's number, unused.
    """
    if not hasattr(signal, "sigwaitinfo"):  # macOS
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != trainer:
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
