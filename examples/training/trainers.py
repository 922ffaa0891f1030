"""What scripts that train on labels share: seeded loaders, a trainer to resume, exact evaluation.

A run follows from its seed alone: which images make a batch, how each is augmented and what a step
draws are functions of the seed and the step, so that an interrupted run ends as one that was not.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sized
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from star_head._seeds import mix_seeds
from star_head.adapters._settings import check_same_settings
from star_head.examples.data.seeded_data import SeededDataModule, fixed_order
from star_head.examples.training.checkpoints import SafeCheckpointIO
from star_head.examples.training.lightning_messages import leave_out_needless_messages
from star_head.examples.training.resumable import LastCheckpoint, StopOnSigterm


class Items(Protocol):
    """A data set of which an item is a tuple."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Any, ...]: ...


class SeededData(SeededDataModule):
    """Batches to train on, and test items of which none counts twice.

    An item of the test loader has one more entry than its data set's: whether it counts. Several
    processes see equally many; what was repeated for that does not count.

    Args:
        train: What is trained on; the last incomplete batch of an epoch is dropped.
        test: What is measured on.
        batch_size: Items in a batch, over all processes together.
        seed: Seed of the run.
        num_workers: Loader processes beside each training process; default: as many as it has
            processors to itself, at most 16.
        collate_fn: Makes a batch of items; default: PyTorch's.
        settings: What else must be the same when a run goes on, plain values by name.

    Raises:
        ValueError: If the batch does not divide over the processes or exceeds the data set, or
            a checkpoint is of a run that had other data or settings.
    """

    def __init__(
        self,
        train: Items,
        test: Items,
        *,
        batch_size: int,
        seed: int,
        num_workers: int | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(batch_size, seed, num_workers)
        self.train, self.test = train, test
        self.collate_fn = collate_fn
        self.settings = dict(settings or {})

    def setup(self, stage: str) -> None:
        """Check that the batch fits."""
        self._check_batch(len(self.train), "images to train on")

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled batches of this process."""
        return self._train_loader(_SeededItems(self.train), collate_fn=self.collate_fn)

    def test_dataloader(self) -> DataLoader[Any]:
        """The test items of this process, each with whether it counts."""
        assert self.trainer is not None
        items = _CountedItems(self.test)
        sampler = _EvaluationSampler(
            items, num_replicas=self.trainer.world_size, rank=self.trainer.global_rank
        )
        return self._loader(items, sampler=sampler, collate_fn=self.collate_fn)

    def state_dict(self) -> dict[str, Any]:
        """What a run's end depends on, beside its weights."""
        own = {
            "train images": len(self.train),
            "test images": len(self.test),
            "batch_size": self.batch_size,
            "seed": self.seed,
        }
        return own | self.settings

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse to go on with a run that had other data or settings."""
        assert self.trainer is not None
        if not self.trainer.training:
            return
        own = self.state_dict()
        check_same_settings({**dict.fromkeys(own), **state_dict}, own)


class StepSeeds(Callback):
    """Seeds all generators before each step, by the run's seed, the step and the process."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed them."""
        mixed = mix_seeds(self.seed, trainer.current_epoch, batch_idx, trainer.global_rank)
        _seed_host(mixed)
        torch.manual_seed(mixed)


def create_trainer(
    output: Path,
    seed: int,
    options: Mapping[str, Any] | None,
    callbacks: list[Callback],
    **own: Any,
) -> Trainer:
    """A trainer that logs and keeps checkpoints/last.ckpt in a folder.

    Args:
        output: The folder.
        seed: Seed of the run.
        options: The user's own arguments of Lightning's Trainer.
        callbacks: Beside those for seeds, signals and the last checkpoint, before which they come.
        **own: The script's arguments of Lightning's Trainer.

    Raises:
        ValueError: If an option is one that the script has set.
    """
    leave_out_needless_messages()
    own |= {
        "default_root_dir": output,
        "logger": [TensorBoardLogger(output, "tensorboard"), CSVLogger(output, "csv")],
        "callbacks": [
            *callbacks,
            StepSeeds(seed),
            StopOnSigterm(),
            LastCheckpoint(output / "checkpoints"),
        ],
        "plugins": [SafeCheckpointIO()],
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
    }
    if taken := sorted(own.keys() & (options or {}).keys()):
        raise ValueError(f"trainer: expected arguments that the script does not set, got {taken}")
    return Trainer(**own, **(options or {}))


class _EvaluationSampler(DistributedSampler[tuple[int, bool]]):
    """Yields (index, whether it counts), equally many in each process.

    In a fixed random order: the first batches, if a trainer looks at no more, have all classes.
    """

    def __iter__(self) -> Iterator[tuple[int, bool]]:
        order = fixed_order(len(cast(Sized, self.dataset)))
        positions = range(self.rank, self.total_size, self.num_replicas)
        return ((order[position % len(order)], position < len(order)) for position in positions)


class _SeededItems(Dataset[Any]):
    """Items whose random transforms follow from the seed that the sampler sends along.

    timm's transforms draw from Python's and NumPy's generators beside torch's.
    """

    def __init__(self, items: Items) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, item: tuple[int, int] | int) -> tuple[Any, ...]:
        # Trainer(overfit_batches=...) brings a sampler of its own.
        index, seed = item if isinstance(item, tuple) else (item, item)
        _seed_host(seed)
        return self.items[index]


class _CountedItems(Dataset[Any]):
    """Items with whether they count."""

    def __init__(self, items: Items) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, item: tuple[int, bool] | int) -> tuple[Any, ...]:
        index, counts = item if isinstance(item, tuple) else (item, True)
        return (*self.items[index], counts)


def _seed_host(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the generator that timm draws from
    # torch.manual_seed would also note the seed down for every GPU.
    torch.default_generator.manual_seed(seed)
