"""Trains a small network with frozen norms for 20 steps, in as many processes as torchrun starts.

Writes every step's loss and the final weights to the folder that is its argument; with
``BYOLTransform`` as another, on the views of that.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from lightly.transforms import BYOLTransform, BYOLView1Transform, BYOLView2Transform
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from star_head.adapters.lightly import STARTransform
from star_head.examples.data.data_module import ImageDataModule
from star_head.examples.pretrain import create_module
from star_head.examples.training.processes import leave_group

WORLD = torch.distributed.is_torchelastic_launched()


class Losses(Callback):
    """Keeps the mean loss over processes."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: Any
    ) -> None:
        self.seen.append(trainer.strategy.reduce(outputs["loss"].detach().clone()).item())


def main(folder: Path, name: str = "STARTransform") -> None:
    torch.manual_seed(0)
    transform: Any = STARTransform(16)
    if name == "BYOLTransform":
        views = BYOLView1Transform(16, rr_prob=0.5), BYOLView2Transform(16, rr_prob=0.5)
        transform = BYOLTransform(*views)
    paper = "stl10" if name == "STARTransform" else None
    data = ImageDataModule("digits", None, 64, transform, paper, num_workers=0)
    module = create_module(
        data.statistics, 64, backbone="test_resnet", num_experts=4, hidden_dim=64
    )
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.eval()
            # As they start, they would let the residual blocks' last layers at zero.
            nn.init.constant_(layer.weight, 0.5)
    losses = Losses()
    trainer = Trainer(
        accelerator="cpu",
        strategy="ddp" if WORLD else "auto",
        devices=2 if WORLD else 1,
        max_epochs=1,
        limit_train_batches=20,
        limit_val_batches=0,
        callbacks=[losses],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        default_root_dir=folder,
    )
    trainer.fit(module, data)
    if trainer.is_global_zero:
        torch.save({"losses": losses.seen, "weights": module.state_dict()}, folder / "result.pt")
    leave_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
