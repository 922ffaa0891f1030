"""SwaV (arXiv 2006.09882) with STAR."""

from functools import partial
from typing import Any

import torch
from lightly.loss import NTXentLoss, SwaVLoss
from lightly.models.modules import SwaVPrototypes
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from star_head import STAREmbeddings, STARProjectionHead
from star_head.adapters.lightly import equivariant_loss
from star_head.examples.lightly.multi_crop import multi_crop
from star_head.examples.lightly.run_method import run_method


class SwaV(LightningModule):
    """Small crops serve the invariant task alone."""

    def __init__(self, backbone: nn.Module, width: int, hidden_dim: int = 128, **star: Any) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection_head = STARProjectionHead(width, hidden_dim, 128, num_layers=2, **star)
        self.prototypes = SwaVPrototypes(128, n_prototypes=32)
        self.criterion = SwaVLoss()
        self.equivariant_criterion = NTXentLoss(temperature=0.2)

    def forward(self, x: Tensor) -> STAREmbeddings:
        return self.projection_head(self.backbone(x).flatten(start_dim=1))

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        self.prototypes.normalize()
        views = batch[0]
        embeddings = [self(x) for x in views.views]
        normalized = [nn.functional.normalize(z.invariant, dim=1) for z in embeddings]
        similarities = [self.prototypes(z) for z in normalized]
        invariant = self.criterion(similarities[:2], similarities[2:])
        equivariant = equivariant_loss(
            self, self.projection_head, views, embeddings[:2], self.equivariant_criterion
        )
        return invariant + equivariant

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


if __name__ == "__main__":
    run_method(SwaV, partial(multi_crop, min_scale=0.3))
