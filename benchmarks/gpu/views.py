"""Views made on the device against those of loader workers, and against kornia's."""

from collections.abc import Callable, Iterator
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.gpu.cases import Case, Figures
from benchmarks.gpu.sizes import Sizes
from benchmarks.timing import time_in_turn
from star_head._processors import available_processors

if TYPE_CHECKING:
    from PIL import Image

# Each of the eight workers makes a first batch that does not count, then four.
WORKERS = 8
BATCHES, WARMUP = 5 * WORKERS, WORKERS


def cases(device: str, sizes: Sizes) -> Iterator[Case]:
    """Agreement, then batches that are there, then a whole loader."""
    needs = ("lightly",)
    yield Case("from the same records", partial(levels_apart, device, sizes), needs)
    yield Case("batches, loading left out", partial(batches, device, sizes), needs)
    yield Case("with loader workers", partial(loaders, device, sizes), needs)
    yield Case("kornia's", partial(kornias, device, sizes), ("lightly", "kornia"))


def levels_apart(device: str, sizes: Sizes) -> Figures:
    """Mean difference from the views of one image at a time on the CPU, of 255 levels."""
    from benchmarks.transform import photographs
    from star_head.adapters.device import BatchTransform, RecordingTransform, collate
    from star_head.adapters.lightly import STARTransform

    side, count = sizes.views
    transform = STARTransform(side, normalize=None)
    images = photographs(min(count, 64), side)
    torch.manual_seed(0)
    on_host = torch.stack([view for image in images for view in transform(image).views])
    torch.manual_seed(0)
    recorded = collate([RecordingTransform(transform)(image) for image in images])
    views = BatchTransform(transform).to(device)(recorded.to(device)).views
    on_device = torch.stack(list(views), dim=1).flatten(0, 1).cpu()
    return {"levels apart": float(255 * (on_host - on_device).abs().mean())}


def batches(device: str, sizes: Sizes) -> Figures:
    """Views a second on the device, two views an image."""
    return in_batches(device, sizes, ["star-head, on the device"])


def kornias(device: str, sizes: Sizes) -> Figures:
    """The same of kornia's, plain and recorded, with ours in turn."""
    return in_batches(device, sizes, ["star-head, on the device", "kornia", "kornia, recorded"])


def in_batches(device: str, sizes: Sizes, names: list[str]) -> Figures:
    """Views a second of contenders by name."""
    from benchmarks.transform import batch_contenders, photographs

    side, count = sizes.views
    contenders = batch_contenders(photographs(count, side), device)
    with torch.no_grad():
        timed = time_in_turn({name: contenders[name] for name in names}, most_seconds=sizes.seconds)
    return {f"{name}, views/s": 2 * count / seconds for name, seconds in timed.items()}


class Photographs(Dataset[Any]):
    """Images in memory, again and again, through a transform.

    Args:
        images: What is there.
        transform: What a worker makes of each.
        length: How many the data set pretends to have.
    """

    def __init__(
        self, images: "list[Image.Image]", transform: Callable[[Any], Any], length: int
    ) -> None:
        self.images, self.transform, self.length = images, transform, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return self.transform(self.images[index % len(self.images)])


def loaders(device: str, sizes: Sizes) -> Figures:
    """Views a second on the device by a loader of each kind, by the same number of workers."""
    from benchmarks.transform import photographs
    from star_head.adapters.device import BatchTransform, RecordingTransform, collate
    from star_head.adapters.lightly import STARTransform

    side, count = sizes.views
    images, transform = photographs(count, side), STARTransform(side)
    workers = min(WORKERS, available_processors()) if sizes.full else 1
    batch_transform = BatchTransform(transform).to(device)
    options: dict[str, Any] = {
        "batch_size": count,
        "num_workers": workers,
        "pin_memory": torch.device(device).type == "cuda",
    }

    def rate(transform: Callable[[Any], Any], use: Callable[[Any], Any], **more: Any) -> float:
        data = Photographs(images, transform, BATCHES * count)
        times = []
        for batch in DataLoader(data, **options, **more):
            use(batch.to(device))
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times.append(perf_counter())
        return 2 * count * (len(times) - WARMUP) / (times[-1] - times[WARMUP - 1])

    by_workers = rate(transform, lambda views: views)
    on_device = rate(RecordingTransform(transform), batch_transform, collate_fn=collate)
    return {
        "workers": workers,
        "workers, views/s": by_workers,
        "device, views/s": on_device,
        "device / workers": on_device / by_workers,
    }
