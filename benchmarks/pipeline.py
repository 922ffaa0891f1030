"""Images per second of loading, of training, and of both together: PIL workers and the device path.

    python -m benchmarks.pipeline
    python -m benchmarks.pipeline --backbone=resnet50 --size=224 --source=400 --batch_size=256

Trains on JPEG files made for it, through the data module of examples/pretrain.py. The loader alone
runs without training; the step alone repeats a batch that is there; both together is a Lightning
``Trainer``. In the device rows the views are made within the step. "cache" rows read decoded images
from the memory-mapped cache in place of the files.
"""

import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image

from star_head.adapters.lightly import STARTransform
from star_head.adapters.lightning import STARModule
from star_head.examples.command_line import run
from star_head.examples.data.data_module import ImageDataModule
from star_head.examples.pretrain import create_module

WARMUP = 3


class Clock(Callback):
    """Notes when each batch is done."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: object
    ) -> None:
        """Look at the clock once the device is done."""
        self.times.append(now())


def now() -> float:
    """The time when everything asked of a GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def rate(times: list[float], batch_size: int) -> float:
    """Images per second between batches, without the first few."""
    return batch_size * (len(times) - WARMUP) / (times[-1] - times[WARMUP - 1])


def write_photographs(folder: Path, count: int, size: int) -> None:
    """Smooth noise as JPEG files, in two class folders."""
    generator = np.random.default_rng(0)
    for i in range(count):
        path = folder / f"class{i % 2}" / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        noise = generator.integers(256, size=(size // 8, size // 6, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((size * 4 // 3, size)).save(path, quality=90)


def loading(data: ImageDataModule, batches: int) -> float:
    """The loader alone."""
    times = []
    for _ in itertools.islice(endlessly(data), batches):
        times.append(now())
    return rate(times, data.batch_size)


def endlessly(data: ImageDataModule) -> Iterator[Any]:
    """Batches, epoch after epoch."""
    loader = data.train_dataloader()
    while True:
        yield from loader


def stepping(module: STARModule, data: ImageDataModule, batches: int) -> float:
    """The training step alone, on one batch."""
    batch = next(endlessly(data))
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3, momentum=0.9)
    device = data.trainer.strategy.root_device  # type: ignore[union-attr]
    module.to(device)
    times = []
    for _ in range(batches):
        moved = module.transfer_batch_to_device(batch, device, 0)
        views, _ = data.on_after_batch_transfer(moved, 0)
        optimizer.zero_grad()
        module.star(views).total.backward()
        optimizer.step()
        times.append(now())
    return rate(times, data.batch_size)


def main(
    backbone: str = "resnet18",
    size: int = 96,
    source: int = 96,
    batch_size: int = 64,
    batches: int = 12,
    workers: int = 2,
    images: int = 1024,
) -> None:
    """Print a row for each way of making the views.

    Args:
        backbone: Any timm model.
        size: Side of the views in pixels.
        source: Shorter side of the images in pixels.
        batch_size: Images in a batch.
        batches: Trained on in each measurement.
        workers: Loader processes.
        images: Made for it.
    """
    print(f"{backbone}, {size} pixels, batch {batch_size}, images a second")
    print("views             loader alone  step alone      both   slower half / both")
    with tempfile.TemporaryDirectory() as folder:
        photographs, cache = Path(folder, "photographs"), Path(folder, "cache")
        photographs.mkdir()
        write_photographs(photographs, images, source)
        for augment, cached in itertools.product(("host", "device"), (False, True)):
            torch.manual_seed(0)
            data = ImageDataModule(
                "folder",
                photographs,
                batch_size,
                STARTransform(size),
                statistics="stl10",
                augment=augment,  # type: ignore[arg-type]
                num_workers=workers,
                cache=cache if cached else None,
            )
            module = create_module("stl10", batch_size, backbone)
            clock = Clock()
            trainer = Trainer(
                max_steps=batches,
                max_epochs=batches,
                limit_val_batches=0,
                callbacks=[clock],
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                default_root_dir=folder,
            )
            trainer.fit(module, data)
            both = rate(clock.times, batch_size)
            loader = loading(data, 4 * batches)
            step = stepping(module, data, batches)
            name = f"{augment}{', cache' if cached else ''}"
            ratio = min(loader, step) / both
            print(f"{name:16} {loader:13.0f} {step:11.1f} {both:9.1f} {ratio:20.2f}")


if __name__ == "__main__":
    run(main)
