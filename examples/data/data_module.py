"""Images for pretraining as a LightningDataModule."""

import functools
from pathlib import Path
from typing import Any, Literal

import torch
from lightly.transforms.utils import IMAGENET_NORMALIZE
from torch.utils.data import DataLoader, Dataset

from star_head import estimate_statistics
from star_head._checks import check_count
from star_head._seeds import all_seeded
from star_head.adapters._images import Color
from star_head.adapters._pixel_range import PixelRange
from star_head.adapters._settings import check_same_settings
from star_head.adapters.device import BatchTransform, RecordedImages, RecordingTransform, collate
from star_head.adapters.lightly import STL10_NORMALIZE, STARTransform
from star_head.augmentation import Parameter, ParameterSpec, Statistics
from star_head.examples.data.image_data import (
    VIEW_SIZES,
    DatasetName,
    Images,
    ImageSplits,
    load_images,
)
from star_head.examples.data.recorded_views import AnyTransform, recorded, statistics_of
from star_head.examples.data.seeded_data import SeededDataModule, Shuffled
from star_head.examples.data.splits import Folders

# Sides of the images of data sets that may have to be fetched first, in pixels.
_SIDES: dict[DatasetName, int] = {
    "digits": 8,
    "fashion-mnist": 28,
    "cifar10": 32,
    "cifar100": 32,
    "stl10": 96,
}

# Drawn for the statistics: of STARTransform, and of others, which take twenty times as long.
_RECORDS = {True: 20_000, False: 4_000}


class ImageDataModule(SeededDataModule):
    """Views of images to train on, and images without augmentation for what monitors a run.

    Which images make a batch, and how each is augmented, follows from the seed and the epoch
    alone: it is the same with any number of loader workers and of processes, and in a run that
    was interrupted. The last incomplete batch is dropped.

    Args:
        dataset: What to train on; see ``image_data.load_images``.
        data_dir: Where its files are, or are fetched to; default ``data``.
        batch_size: Images in a batch, over all processes together.
        transform: Makes the views: STARTransform (default: at the data set's usual size), or any
            other of torchvision or lightly, which RecordedTransform wraps; its images are made
            RGB first.
        statistics: Mean and standard deviation of the augmentation parameters: the authors' of a
            data set; default: estimated for these images and this transform.
        augment: ``"host"``: loader workers make the views with Pillow. ``"device"``: they only
            fetch images and draw records, and the views are made in batches on the device that
            trains.
        num_workers: Loader processes beside each training process; default: as many as it has
            processors to itself, at most 16.
        class_names: For ``"imagenet100"``, a file with the class folders to take, one a line.
        skip_unreadable: Leave out image files that cannot be read, where they stop the run else.
        cache: Folder for the decoded images of a folder of images, which are then read from
            there, memory-mapped, in every later epoch and run.
        pixel_range: The pixel values (low, high) that become black and white, in image files of
            more than 8 bits; the transform's unless given.
        background: The colour (red, green, blue) under transparent pixels of image files; the
            transform's unless given.
        folders: What the folders at the top of a folder of images are, "classes", "splits" or
            "unlabelled", where their names do not say.
        monitor_images: How many images the validation loaders have, always the same: so many
            labelled training images and so many test images, or of what is pretrained on where
            there are no labels.

    Raises:
        TypeError: If the transform has operations that are not known, or makes no tensors.
        ValueError: If the transform does not make two views of one size or records nothing, the
            statistics are of other parameters, the batch does not divide over the processes or
            exceeds the data set, or a checkpoint is of other data.
    """

    def __init__(
        self,
        dataset: DatasetName = "digits",
        data_dir: Path | None = None,
        batch_size: int = 256,
        transform: AnyTransform | None = None,
        statistics: Literal["stl10", "imagenet100"] | None = None,
        augment: Literal["host", "device"] = "host",
        num_workers: int | None = None,
        class_names: Path | None = None,
        skip_unreadable: bool = False,
        cache: Path | None = None,
        pixel_range: PixelRange | None = None,
        background: Color | None = None,
        folders: Folders | None = None,
        monitor_images: int = 2000,
    ) -> None:
        super().__init__(batch_size, torch.initial_seed(), num_workers)
        check_count("monitor_images", monitor_images)
        self.monitor_images = monitor_images
        if transform is None:
            photographs = dataset in ("imagenet100", "folder")
            transform = STARTransform(
                VIEW_SIZES[dataset],
                normalize=IMAGENET_NORMALIZE if photographs else STL10_NORMALIZE,
            )
        elif not isinstance(transform, STARTransform):
            transform = recorded(transform, pixel_range, background)
        self.dataset = dataset
        self.transform = transform
        self.augment = augment
        self._statistics = None if statistics is None else statistics_of(statistics, transform)
        self.pixel_range = transform.pixel_range if pixel_range is None else pixel_range
        self._load = functools.partial(
            load_images,
            dataset,
            data_dir,
            class_names=class_names,
            pixel_range=self.pixel_range,
            background=transform.background if background is None else background,
            folders=folders,
        )
        self._read_options: dict[str, Any] = {"skip_unreadable": skip_unreadable, "cache": cache}
        self._splits: ImageSplits | None = None
        self._batch_transform: BatchTransform | None = None
        if augment == "device":
            if not isinstance(transform, STARTransform):
                raise ValueError(
                    f"augment: 'device' makes STARTransform's views only; expected 'host' with "
                    f"{type(transform.transform).__name__}"
                )
            self._batch_transform = BatchTransform(transform)
            self._recording = RecordingTransform(transform)

    @property
    def in_chans(self) -> int:
        """Channels of the views."""
        return getattr(self.transform, "in_chans", 3)

    @property
    def parameters(self) -> tuple[Parameter | ParameterSpec, ...]:
        """What each number is that is recorded of a view."""
        return tuple(self.transform.parameters)

    @property
    def input_size(self) -> int:
        """Side of the views in pixels."""
        return self.transform.input_size

    @functools.cached_property
    def statistics(self) -> Statistics:
        """Mean and standard deviation of each augmentation parameter; looks once at the files."""
        if self._statistics is not None:
            return self._statistics
        side = _SIDES.get(self.dataset)
        sizes = self._load().pretrain.image_sizes() if side is None else [(side, side)]
        records = _RECORDS[isinstance(self.transform, STARTransform)]
        return estimate_statistics(self.transform, sizes, records)

    def prepare_data(self) -> None:
        """Fetch, check and decode what is to be, in one process of each machine."""
        self._splits = self._load(**self._read_options)

    def setup(self, stage: str) -> None:
        """Open the images."""
        assert self.trainer is not None
        self.seed = self.trainer.strategy.broadcast(self.seed)
        if self.dataset in ("folder", "imagenet100") and self._read_options["cache"] is None:
            # Which files can be read is found out once, for all processes.
            self._splits = self.trainer.strategy.broadcast(self._splits)
        elif self._splits is None:
            self._splits = self._load(**self._read_options)
        assert self._splits is not None
        self._check_batch(len(self._splits.pretrain), "images")
        precision = str(self.trainer.precision)
        if self.augment == "device" and precision.endswith("-true") and precision != "32-true":
            raise ValueError(
                f"augment: 'device' works in float32, and the trainer casts what it works on: "
                f"expected precision '32-true' or a mixed one, got {precision!r}"
            )

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches of (views, labels)."""
        assert self._splits is not None
        on_host = self._batch_transform is None
        transform = self.transform if on_host else self._recording
        images = self._splits.pretrain.with_transform(transform)
        return self._train_loader(SeededViews(images), collate_fn=None if on_host else collate)

    @property
    def is_labelled(self) -> bool:
        """Whether there are labelled images to learn from and to measure on."""
        assert self._splits is not None
        return self._splits.train is not None and self._splits.test is not None

    @property
    def held_out(self) -> Images:
        """The test images; those that are trained on where there are no others."""
        assert self._splits is not None
        return self._splits.pretrain if self._splits.test is None else self._splits.test

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """Of labelled images a bank and queries, else images alone; without augmentation."""
        assert self._splits is not None
        parts = [part for part in self._splits[1:] if part is not None] or [self._splits.pretrain]
        plain = [part.with_transform(self.transform.original) for part in parts]
        return [self._loader(Shuffled(images, self.monitor_images)) for images in plain]

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Make the views of recorded images on the device."""
        if not isinstance(batch[0], RecordedImages):
            return batch
        assert self._batch_transform is not None
        recorded, labels = batch
        return self._batch_transform.to(labels.device)(recorded), labels

    def state_dict(self) -> dict[str, Any]:
        """What a run was trained on, and what whoever uses its encoder must know."""
        assert self._splits is not None
        return {
            "dataset": self.dataset,
            "images": len(self._splits.pretrain),
            "batch_size": self.batch_size,
            "input_size": self.transform.input_size,
            "normalize": self.transform.normalize,
            "pixel_range": self.pixel_range,
            "seed": self.seed,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the seed of a run on the same data; refuse another's."""
        own = {name: value for name, value in self.state_dict().items() if name != "seed"}
        # As what is absent is None, so is the range of version 0.1, whose runs had none.
        check_same_settings({**dict.fromkeys(own), **state_dict}, own)
        self.seed = state_dict["seed"]


class SeededViews(Dataset[Any]):
    """Images whose random views follow from the seed that the sampler sends along."""

    def __init__(self, images: Images) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, item: tuple[int, int] | int) -> tuple[Any, int]:
        # Trainer(overfit_batches=...) brings a sampler of its own; its views stay the same.
        index, seed = item if isinstance(item, tuple) else (item, item)
        with all_seeded(seed):  # lightly's own operations draw from NumPy
            return self.images[index]
