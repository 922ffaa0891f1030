"""SimSiam (arXiv 2011.10566) with STAR."""

from typing import Any

import torch
from lightly.loss import NegativeCosineSimilarity, VICRegLoss
from lightly.models.modules import SimSiamPredictionHead
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from star_head import STAREmbeddings, STARProjectionHead
from star_head.adapters.lightly import equivariant_loss
from star_head.examples.lightly.run_method import run_method


class SimSiam(LightningModule):
    """Stops the gradient of the invariant task's targets alone."""

    def __init__(self, backbone: nn.Module, width: int, hidden_dim: int = 128, **star: Any) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection_head = STARProjectionHead(width, hidden_dim, 128, **star)
        self.projection_norm = nn.BatchNorm1d(128, affine=False)  # SimSiam's heads end with it
        self.prediction_head = SimSiamPredictionHead(128, 64, 128)
        self.criterion = NegativeCosineSimilarity()
        self.equivariant_criterion = VICRegLoss()  # without negatives, as SimSiam is

    def forward(self, x: Tensor) -> STAREmbeddings:
        return self.projection_head(self.backbone(x).flatten(start_dim=1))

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        views = batch[0]
        z0, z1 = (self(x) for x in views.views)
        i0, i1 = (self.projection_norm(z.invariant) for z in (z0, z1))
        p0, p1 = self.prediction_head(i0), self.prediction_head(i1)
        invariant = 0.5 * (self.criterion(p0, i1.detach()) + self.criterion(p1, i0.detach()))
        equivariant = equivariant_loss(
            self, self.projection_head, views, (z0, z1), self.equivariant_criterion
        )
        return invariant + 0.04 * equivariant

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


if __name__ == "__main__":
    run_method(SimSiam)
