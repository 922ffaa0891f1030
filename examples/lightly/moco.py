"""MoCo v2 (arXiv 2003.04297) with STAR."""

import copy
from typing import Any

import torch
from lightly.loss import NTXentLoss
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.utils.scheduler import cosine_schedule
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from star_head import STAREmbeddings, STARProjectionHead
from star_head.adapters.lightly import equivariant_loss
from star_head.examples.lightly.run_method import run_method


class MoCo(LightningModule):
    """The online network sees the first view alone, and serves both tasks with it."""

    def __init__(self, backbone: nn.Module, width: int, hidden_dim: int = 128, **star: Any) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection_head = STARProjectionHead(
            width, hidden_dim, 128, num_layers=2, norm_layer=None, **star
        )
        self.backbone_momentum = copy.deepcopy(self.backbone)
        self.projection_head_momentum = copy.deepcopy(self.projection_head)
        deactivate_requires_grad(self.backbone_momentum)
        deactivate_requires_grad(self.projection_head_momentum)
        self.criterion = NTXentLoss(temperature=0.2, memory_bank_size=(1024, 128))
        self.equivariant_criterion = NTXentLoss(temperature=0.2)

    def forward(self, x: Tensor) -> STAREmbeddings:
        return self.projection_head(self.backbone(x).flatten(start_dim=1))

    def forward_momentum(self, x: Tensor) -> Tensor:
        y = self.backbone_momentum(x).flatten(start_dim=1)
        return self.projection_head_momentum(y).invariant.detach()

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        momentum = cosine_schedule(
            self.trainer.global_step, self.trainer.estimated_stepping_batches, 0.99, 1
        )
        update_momentum(self.backbone, self.backbone_momentum, m=momentum)
        update_momentum(self.projection_head, self.projection_head_momentum, m=momentum)
        views = batch[0]
        query, key = views.views
        z = self(query)
        invariant = self.criterion(z.invariant, self.forward_momentum(key))
        equivariant = equivariant_loss(
            self, self.projection_head, views, [z], self.equivariant_criterion
        )
        return invariant + equivariant

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


if __name__ == "__main__":
    run_method(MoCo)
