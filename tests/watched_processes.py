"""Watches a network that does not move, in as many processes as torchrun starts.

Logs to the folder that is its argument, from data sets of its own and from validation loaders.
"""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import watched
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler

from star_head.adapters.callbacks import (
    EquivarianceMonitor,
    NearestNeighbours,
    OnlineLinearProbe,
    RankMonitor,
    RedundancyMonitor,
    RoutingMonitor,
)
from star_head.adapters.lightly import STARTransform
from star_head.examples.training.processes import leave_group

WORLD = 2 if torch.distributed.is_torchelastic_launched() else 1


class Still(watched.Validated):
    """Without batch norm and dropout, which would set one process apart from two."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        backbone = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(3 * watched.SIDE**2, watched.WIDTH)
        )
        super().__init__(backbone, watched.star_head().eval())

    def on_train_epoch_start(self) -> None:
        self.head.eval()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def pictures(count: int) -> list[tuple[Image.Image, int]]:
    generator = np.random.default_rng(count)
    pixels = generator.integers(0, 255, (count, 12, 12, 3), dtype=np.uint8)
    return [(Image.fromarray(image), i % 3) for i, image in enumerate(pixels)]


def weights(module: Any, images: Tensor) -> Tensor:
    found: Tensor = module.head.routing_weights(module.backbone(images))
    return found


def fails_in_the_second(module: Any, images: Tensor) -> Any:
    if module.global_rank:
        raise RuntimeError("no features here")
    return module.backbone(images)


def two_views(samples: list[tuple[Tensor, int]]) -> tuple[list[Tensor], Tensor]:
    images = torch.stack([image for image, _ in samples])
    return [images, images + 0.1], torch.tensor([label for _, label in samples])


def main(folder: Path) -> None:
    """Train with data sets of the callbacks' own, with loaders, and where one process fails."""
    transform = STARTransform(watched.SIDE)
    options: dict[str, Any] = {"transform": transform.original}
    bank, queries = pictures(41), pictures(25)
    predict: dict[str, Any] = {"embeddings": "forward", "predict": "head.predict"}
    own = [
        OnlineLinearProbe("backbone", queries, **options),
        NearestNeighbours("backbone", bank, queries, **options),
        RedundancyMonitor("forward", bank, every_n_steps=3, **options),
        RankMonitor("backbone", samples=40),
        RoutingMonitor(weights, every_n_steps=3),
        EquivarianceMonitor("backbone", queries, transform, views=4, **predict),
    ]
    loaders = [
        OnlineLinearProbe("backbone"),
        NearestNeighbours("backbone"),
        RedundancyMonitor("forward"),
    ]
    validation = [DataLoader(watched.Images(n, seed=n), batch_size=10 // WORLD) for n in (41, 25)]
    failing = [
        OnlineLinearProbe(fails_in_the_second),
        NearestNeighbours(fails_in_the_second, bank, queries, **options),
        RedundancyMonitor(fails_in_the_second, bank, every_n_steps=1, **options),
        RankMonitor(fails_in_the_second),
        RoutingMonitor(fails_in_the_second, every_n_steps=1),
        EquivarianceMonitor(fails_in_the_second, queries, transform, views=2),
    ]
    runs: dict[str, tuple[Any, Any]] = {"own": (own, None), "loaders": (loaders, validation)}
    if WORLD > 1:
        runs["failing"] = failing, validation
    for name, (callbacks, given) in runs.items():
        trainer = watched.trainer_for(
            folder / name,
            callbacks,
            strategy="ddp_find_unused_parameters_true" if WORLD > 1 else "auto",
            devices=WORLD,
            num_sanity_val_steps=-1,
        )
        images = watched.Images(64)
        # Lightning's own would shuffle.
        sampler: Any = DistributedSampler(
            images, WORLD, int(os.environ.get("RANK", 0)), shuffle=False
        )
        loader = watched.train_loader(
            images, batch_size=16 // WORLD, sampler=sampler, shuffle=None, collate_fn=two_views
        )
        trainer.fit(Still(), loader, given)
    leave_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
