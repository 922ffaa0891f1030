"""NNCLR (arXiv 2104.14548) with STAR."""

from typing import Any

import torch
from lightly.loss import NTXentLoss
from lightly.models.modules import NNCLRPredictionHead, NNMemoryBankModule
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from star_head import STAREmbeddings, STARProjectionHead
from star_head.adapters.lightly import equivariant_loss
from star_head.examples.lightly.run_method import run_method


class NNCLR(LightningModule):
    """The nearest neighbours are looked for among invariant embeddings."""

    def __init__(self, backbone: nn.Module, width: int, hidden_dim: int = 128, **star: Any) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection_head = STARProjectionHead(width, hidden_dim, 128, **star)
        self.projection_norm = nn.BatchNorm1d(128)  # NNCLR's heads end with it
        self.prediction_head = NNCLRPredictionHead(128, 512, 128)
        self.memory_bank = NNMemoryBankModule(size=(1024, 128))
        self.criterion = NTXentLoss(temperature=0.2)

    def forward(self, x: Tensor) -> STAREmbeddings:
        return self.projection_head(self.backbone(x).flatten(start_dim=1))

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        views = batch[0]
        z0, z1 = (self(x) for x in views.views)
        i0, i1 = (self.projection_norm(z.invariant) for z in (z0, z1))
        p0, p1 = self.prediction_head(i0), self.prediction_head(i1)
        n0 = self.memory_bank(i0.detach(), update=False)
        n1 = self.memory_bank(i1.detach(), update=True)
        invariant = 0.5 * (self.criterion(n0, p1) + self.criterion(n1, p0))
        equivariant = equivariant_loss(self, self.projection_head, views, (z0, z1), self.criterion)
        return invariant + equivariant

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


if __name__ == "__main__":
    run_method(NNCLR)
