"""Measures on held-out images: a data set of one's own, or the Trainer's validation loaders."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DistributedSampler

from star_head._checks import check_count, describe
from star_head._gather import rank, world_size
from star_head._seeds import all_seeded
from star_head.adapters._batches import images_in
from star_head.adapters._samples import DataSet, Prepared, check_data_set, stack

from ._monitor import LeftOut, Monitor, looking_at
from ._processes import gather_rows

# Images at a time.
_BATCH = 64

Rows = dict[str, list[Tensor]]
"""Of each source what was read of its images, and their labels last, -1 where there are none."""


class HeldOutMonitor(Monitor):
    """Reads held-out images by the module, joins them over processes, measures, and logs.

    Args:
        sources: Data sets by name; ``None`` for the Trainer's validation loaders.
        transform: Makes a tensor of each image of the data sets.
        images: How many of each data set are read, always the same.
        every_n_epochs: How often data sets are read.
    """

    def __init__(
        self,
        sources: Mapping[str, DataSet | None],
        transform: Callable[[Any], Tensor] | None,
        images: int,
        every_n_epochs: int,
    ) -> None:
        super().__init__()
        check_count("images", images)
        check_count("every_n_epochs", every_n_epochs)
        if transform is not None and not callable(transform):
            raise TypeError(
                f"transform: expected a function from an image to a tensor, got "
                f"{describe(transform)}"
            )
        given = [name for name, data_set in sources.items() if data_set is not None]
        if given and len(given) < len(sources):
            raise ValueError(
                f"{', '.join(sources)}: expected all of them, or none to take the Trainer's "
                f"validation loaders, got {', '.join(given)} alone"
            )
        self._data: dict[str, Prepared] = {}
        for name, data_set in sources.items():
            if data_set is not None:
                try:
                    self._data[name] = Prepared(check_data_set(data_set), transform)
                    self._data[name][0]
                except (TypeError, ValueError) as error:
                    raise type(error)(f"{name}: {error}") from error
        self._sources = tuple(sources)
        self._images = images
        self._every_n_epochs = every_n_epochs
        self._forget()

    @abstractmethod
    def read_images(self, module: Any, images: Tensor) -> Sequence[Tensor]:
        """What the measures need of a batch of images: tensors of a row for each."""

    @abstractmethod
    def measure(self, rows: Rows) -> dict[str, float]:
        """The measures, of all processes' rows."""

    def loader_of(self, source: str, loaders: int) -> int:
        """Which of the Trainer's validation loaders a source is: the sources' own order."""
        return self._sources.index(source)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Measure the network before training, at step 0; say where there is nothing to read."""
        if not self._data and not trainer.enable_validation:
            self.say_once(
                "no loader",
                f"left out: no validation loader; give the Trainer one, or "
                f"{' and '.join(self._sources)} to this callback",
            )
        if self._data and trainer.global_step == 0:
            self.log_now(trainer, self._measure_data(trainer, pl_module))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Read the data sets and measure."""
        if self._data and (trainer.current_epoch + 1) % self._every_n_epochs == 0:
            found = self._measure_data(trainer, pl_module)
            pl_module.log_dict(found, sync_dist=True)

    def _measure_data(self, trainer: Any, module: Any) -> dict[str, float]:
        rows = {name: self._read_data(trainer, module, name) for name in self._data}
        return self._measure(module, rows)

    def _read_data(self, trainer: Any, module: Any, name: str) -> list[Tensor] | None:
        """This process's share of the images."""
        data = self._data[name]
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
        mine = order[: self._images][rank() :: world_size()].tolist()
        parts = []
        with self.left_out(name):
            for start in range(0, len(mine), _BATCH):
                with all_seeded(start):  # a random transform makes the same of them each time
                    images, labels = stack([data[i] for i in mine[start : start + _BATCH]])
                parts.append(self._read(trainer, module, images, labels))
            return [torch.cat(tensors) for tensors in zip(*parts, strict=True)] or None
        return None

    def _read(
        self, trainer: Any, module: Any, images: Tensor, labels: Tensor | None
    ) -> list[Tensor]:
        with looking_at(trainer, module, images) as taken:
            read = self.read_images(module, taken)
        if labels is None:
            labels = torch.full((len(images),), -1)
        return [*read, labels.to(read[0].device)]

    def _measure(self, module: Any, rows: Mapping[str, list[Tensor] | None]) -> dict[str, float]:
        whole: Rows = {}
        for name, parts in rows.items():
            joined = gather_rows(parts, module.device)
            if joined is None:
                self.say_once(
                    "rows", f"left out: no images of {name} could be read, in one process at least"
                )
                return {}
            whole[name] = joined
        with self.left_out("measure"):
            return self.measure(whole)
        return {}

    def _forget(self) -> None:
        self._parts: dict[str, list[list[Tensor]]] = {name: [] for name in self._sources}
        self._failed = False

    def on_validation_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Forget the last validation."""
        self._forget()

    def on_validation_batch_end(
        self,
        trainer: Any,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Read a batch of the Trainer's validation loaders."""
        if self._data or self._failed:
            return
        loaders = len(trainer.num_val_batches)
        for name in self._sources:
            if self.loader_of(name, loaders) == dataloader_idx:
                self._failed = True
                with self.left_out("batch"):
                    images, labels = images_in(batch)
                    self._parts[name].append(self._read(trainer, pl_module, images, labels))
                    self._failed = False

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Measure what was read of the Trainer's validation loaders.

        With ``Trainer(num_sanity_val_steps=-1)`` also of the network before training, at step 0.
        """
        complete = not trainer.sanity_checking or trainer.num_sanity_val_steps == float("inf")
        if self._data or not complete:
            self._forget()
            return
        rows: dict[str, list[Tensor] | None] = {}
        for name, parts in self._parts.items():
            whole = [torch.cat(tensors) for tensors in zip(*parts, strict=True)]
            rows[name] = None if self._failed else whole or None
        self._forget()
        if self._missing_loaders(trainer):
            return
        found = self._measure(pl_module, self._once_each(trainer, pl_module, rows))
        if trainer.sanity_checking:  # when self.log is deaf
            self.log_now(trainer, found)
        else:
            pl_module.log_dict(found, prog_bar=True, sync_dist=True)

    def _missing_loaders(self, trainer: Any) -> bool:
        loaders = len(trainer.num_val_batches)
        missing = [n for n in self._sources if self.loader_of(n, loaders) >= loaders]
        if missing:
            self.say_once(
                "loaders",
                f"left out: expected {len(self._sources)} validation loaders, for "
                f"{' and '.join(self._sources)}, got {loaders}",
            )
        return bool(missing)

    def _once_each(
        self, trainer: Any, module: Any, rows: dict[str, list[Tensor] | None]
    ) -> dict[str, list[Tensor] | None]:
        """Leave out what a distributed sampler repeats to give every process as many images."""
        loaders = trainer.val_dataloaders
        listed = list(loaders) if isinstance(loaders, list | tuple) else [loaders]
        for name, parts in rows.items():
            index = self.loader_of(name, len(listed))
            loader = listed[index] if index < len(listed) else None
            if parts is None or not isinstance(getattr(loader, "sampler", 0), DistributedSampler):
                continue
            # Of m rows here, those whose place in the whole order is within the data set.
            images = len(loader.dataset)  # type: ignore[union-attr]
            mine = len(range(rank(), images, world_size()))
            rows[name] = [part[:mine] for part in parts]
        return rows


def check_labelled(**labels: Tensor) -> None:
    """Raise unless every image has a label, and there are two classes at least."""
    for name, classes in labels.items():
        without = int((classes < 0).sum())
        if without:
            raise LeftOut(
                f"{name}: {without} of {len(classes)} images have no label; accuracy needs them all"
            )
    first, of_first = next(iter(labels.items()))
    if (of_first == of_first[0]).all():
        raise LeftOut(f"{first}: all {len(of_first)} images are of one class, {int(of_first[0])}")
