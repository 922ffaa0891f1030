"""Barlow Twins (arXiv 2103.03230) with STAR."""

from typing import Any

import torch
from lightly.loss import BarlowTwinsLoss
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from star_head import STAREmbeddings, STARProjectionHead
from star_head.adapters.lightly import equivariant_loss
from star_head.examples.lightly.run_method import run_method


class BarlowTwins(LightningModule):
    """Both tasks make a cross-correlation the identity; neither needs negatives."""

    def __init__(self, backbone: nn.Module, width: int, hidden_dim: int = 128, **star: Any) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection_head = STARProjectionHead(width, hidden_dim, 512, **star)
        self.criterion = BarlowTwinsLoss()

    def forward(self, x: Tensor) -> STAREmbeddings:
        return self.projection_head(self.backbone(x).flatten(start_dim=1))

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        views = batch[0]
        z0, z1 = (self(x) for x in views.views)
        invariant = self.criterion(z0.invariant, z1.invariant)
        equivariant = equivariant_loss(self, self.projection_head, views, (z0, z1), self.criterion)
        return invariant + equivariant

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


if __name__ == "__main__":
    run_method(BarlowTwins)
