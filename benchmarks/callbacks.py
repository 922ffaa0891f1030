"""What all callbacks of star_head.adapters.callbacks add to an epoch, at their defaults.

    python -m benchmarks.callbacks               # an epoch of STL10's 105,000 images: for a GPU
    python -m benchmarks.callbacks --images 2000 --batch_size 64 --rounds 2 --only_all

ResNet-18 at 96 pixels with STAR's head, two views, on the GPU if there is one. Epochs without any
callback, with each alone, with all, and with all as ``star-head pretrain`` has them, which read
validation loaders, take turns. Batches lie ready in memory, so that nothing but training is beside
what callbacks take. What they do once, before the first epoch (measure the untrained network, draw
the views), is shown by itself.
"""

import argparse
import inspect
import logging
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from star_head import NTXentLoss, STARProjectionHead
from star_head.adapters.callbacks import (
    EquivarianceMonitor,
    NearestNeighbours,
    OnlineLinearProbe,
    RankMonitor,
    RedundancyMonitor,
    RoutingMonitor,
)
from star_head.adapters.lightly import STARTransform
from star_head.adapters.timm import create_backbone
from star_head.examples.data.data_module import ImageDataModule

SIDE, CLASSES = 96, 10
PRETRAIN = "all, pretrain"
PAPER_IMAGES = 105_000  # of an epoch of STL10


class Method(LightningModule):
    """A contrastive method of two views; its head has what every callback looks at."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = create_backbone("resnet18")
        self.head = STARProjectionHead(512, 512, 128, num_experts=16, statistics="stl10")
        self.criterion = NTXentLoss(0.2)

    def forward(self, images: Tensor) -> Any:
        """Both embeddings of images."""
        return self.head(self.backbone(images))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The loss of two views."""
        z1, z2 = (self(view) for view in batch[0])
        loss: Tensor = self.criterion(z1.invariant, z2.invariant)
        return loss

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Leave the batch to the callbacks."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD as in the paper."""
        return torch.optim.SGD(self.parameters(), lr=0.03, momentum=0.9)


class Clock(Callback):
    """Seconds before the epoch and of the epoch, the callbacks' own work at its end included."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Start, as the first of all callbacks."""
        self.start = now()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """All is measured that is measured before training."""
        self.begun = now()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The epoch is over."""
        self.ended = now()


def now() -> float:
    """Seconds: of a GPU once it has done all that it was given, else of this process on CPU."""
    if not torch.cuda.is_available():
        return time.process_time()  # other load on the machine does not count
    torch.cuda.synchronize()
    return time.perf_counter()


def pictures(count: int) -> list[tuple[Image.Image, int]]:
    """Images of noise and their classes."""
    generator = np.random.default_rng(count)
    pixels = generator.integers(0, 255, (count, SIDE, SIDE, 3), dtype=np.uint8)
    return [(Image.fromarray(image), i % CLASSES) for i, image in enumerate(pixels)]


def contenders() -> dict[str, Callable[[], list[Callback]]]:
    """Each callback at its defaults, all of them, and all on the Trainer's validation loaders."""
    transform = STARTransform(SIDE)
    bank, queries = pictures(2000), pictures(1500)
    plain: dict[str, Any] = {"transform": transform.original}

    def weights(module: Any, images: Tensor) -> Tensor:
        found: Tensor = module.head.routing_weights(module.backbone(images))
        return found

    each: dict[str, Callable[[], Callback]] = {
        "OnlineLinearProbe": lambda: OnlineLinearProbe("backbone", queries, **plain),
        "NearestNeighbours": lambda: NearestNeighbours("backbone", bank, queries, **plain),
        "RankMonitor": lambda: RankMonitor("backbone"),
        "RedundancyMonitor": lambda: RedundancyMonitor("forward", queries, **plain),
        "RoutingMonitor": lambda: RoutingMonitor(weights),
        "EquivarianceMonitor": lambda: EquivarianceMonitor(
            "backbone", queries, transform, embeddings="forward", predict="head.predict"
        ),
    }
    alone = {name: (lambda make=make: [make()]) for name, make in each.items()}
    loaders = [OnlineLinearProbe, NearestNeighbours]
    return {
        "none": list,
        **alone,
        "all": lambda: [make() for make in each.values()],
        PRETRAIN: lambda: [
            *(kind("backbone") for kind in loaders),
            RedundancyMonitor("forward"),
            *(each[name]() for name in ("RankMonitor", "RoutingMonitor", "EquivarianceMonitor")),
        ],
    }


def batches(images: int, batch_size: int) -> DataLoader[Any]:
    """An epoch of ready batches of two views and labels, on the device where they are trained."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    views = torch.randn(2, batch_size, 3, SIDE, SIDE, device=device)
    batch = list(views), torch.arange(batch_size, device=device) % CLASSES
    ready: Any = [batch] * (images // batch_size)
    return DataLoader(ready, batch_size=None)


def validation(batch_size: int) -> list[DataLoader[Any]]:
    """A bank and queries, of as many images as ``star-head pretrain`` gives its monitors."""
    images = int(inspect.signature(ImageDataModule).parameters["monitor_images"].default)
    labels = torch.arange(images) % CLASSES
    pixels = torch.randn(images, 3, SIDE, SIDE)
    return [DataLoader(TensorDataset(pixels, labels), batch_size)] * 2


def run(
    module: LightningModule,
    callbacks: list[Callback],
    loader: DataLoader[Any],
    validation: list[DataLoader[Any]] | None,
) -> Clock:
    """Train for an epoch."""
    clock = Clock()
    trainer = Trainer(
        max_epochs=1,
        devices=1,
        callbacks=[clock, *callbacks],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=-1,
    )
    trainer.fit(module, loader, validation)
    return clock


def main() -> None:
    """Print seconds of an epoch and what callbacks add to it, in percent.

    And in percent of the paper's epoch, at as many seconds an image: nearly all that callbacks add
    is at an epoch's end, and the same for a short one.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=PAPER_IMAGES, help="of an epoch")
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only_all", action="store_true", help="leave out each alone")
    arguments = parser.parse_args()
    if not 0 < arguments.batch_size <= arguments.images:
        parser.error(f"--images: expected those of a batch at least, got {arguments.images}")
    if arguments.rounds < 1:
        parser.error(f"--rounds: expected at least 1, got {arguments.rounds}")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", "(?!.*left out)")
    makers = contenders()
    if arguments.only_all:
        makers = {name: makers[name] for name in ("none", "all", PRETRAIN)}
    module = Method()
    loader = batches(arguments.images, arguments.batch_size)
    held_out = validation(arguments.batch_size)
    clocks: dict[str, list[Clock]] = {name: [] for name in makers}
    for turn in range(-1, arguments.rounds):  # the first to warm up
        for name, make in makers.items():
            given = held_out if name == PRETRAIN else None
            clock = run(module, make(), loader, given)
            if turn >= 0:
                clocks[name].append(clock)
    base = statistics.median(clock.ended - clock.begun for clock in clocks["none"])
    print(f"{len(loader)} steps of batch {arguments.batch_size}, {arguments.rounds} rounds")
    long = base * PAPER_IMAGES / (len(loader) * arguments.batch_size)
    print(f"{'callbacks':20} epoch, s   added   of {PAPER_IMAGES:,} images   once before, s")
    for name, timed in clocks.items():
        epoch = statistics.median(clock.ended - clock.begun for clock in timed)
        once = statistics.median(clock.begun - clock.start for clock in timed)
        added = epoch - base
        print(
            f"{name:20} {epoch:8.2f} {100 * added / base:+6.1f}% {100 * added / long:+16.2f}% "
            f"{once:16.2f}"
        )


if __name__ == "__main__":
    main()
