"""Trains STAR in stable-pretraining without norms, in as many processes as torchrun starts.

Writes the logged losses and the final weights to the folder that is its argument.
"""

import sys
from pathlib import Path
from typing import Any

import stable_pretraining as spt
import torch
from lightning.pytorch import Trainer
from torch import nn
from torch.utils.data import DataLoader, Dataset

from star_head import STARProjectionHead
from star_head._gather import rank, world_size
from star_head.adapters.stable_pretraining import star
from star_head.examples.training.processes import leave_group

IMAGES, BATCH, WIDTH = 96, 16, 12


class Views(Dataset[dict[str, Any]]):
    """Recorded views of noise, this process's part of each batch after that of those before."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.rand(3, IMAGES, 3, 8, 8, generator=generator)
        self.params = torch.rand(2, IMAGES, 11, generator=generator)

    def __len__(self) -> int:
        return IMAGES // world_size()

    def __getitem__(self, index: int) -> dict[str, Any]:
        part = BATCH // world_size()
        i = index // part * BATCH + rank() * part + index % part
        first, second, original = (images[i] for images in self.images)
        pairs = zip((first, second), self.params[:, i], strict=True)
        views = [{"image": view, "params": params, "label": i % 3} for view, params in pairs]
        return {"views": views, "original": {"image": original, "label": i % 3}}


def main(folder: Path) -> None:
    spt.set(verbose="ERROR", cache_dir=str(folder), default_callbacks={"env_dump": False})
    torch.manual_seed(0)
    pooled = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    module = spt.Module(
        forward=star,
        backbone=nn.Sequential(nn.Conv2d(3, WIDTH, 3), nn.ReLU(), *pooled),
        projector=STARProjectionHead(
            WIDTH, WIDTH, 8, num_experts=3, norm_layer=None, statistics="stl10"
        ),
        optim={"optimizer": {"type": "SGD", "lr": 0.1, "momentum": 0.9}},
    )
    world = torch.distributed.is_torchelastic_launched()
    trainer = Trainer(
        accelerator="cpu",
        strategy="ddp" if world else "auto",
        devices=2 if world else 1,
        max_epochs=3,
        use_distributed_sampler=False,  # Views takes its part itself
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    batch = BATCH // (2 if world else 1)
    trainer.fit(module, DataLoader(Views(), batch))
    if trainer.is_global_zero:
        losses = {k: v for k, v in trainer.callback_metrics.items() if k.startswith("fit/")}
        weights = {k: v.clone() for k, v in module.state_dict().items()}
        torch.save({"losses": losses, "weights": weights}, folder / "result.pt")
    leave_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
