"""SwaV (arXiv 2006.09882) with STAR."""

from typing import Any

import torch
from lightly.loss import NTXentLoss, SwaVLoss
from lightly.models.modules import SwaVPrototypes
from lightning.pytorch import LightningModule
from run_method import run_method
from torch import Tensor, nn

from star_head import STAREmbeddings, STARProjectionHead
from star_head.adapters.lightly import (
    STARMultiViewTransform,
    STARTransform,
    STARViewTransform,
    equivariant_loss,
)


class SwaV(LightningModule):
    """Small crops serve the invariant task alone."""

    def __init__(self, backbone: nn.Module, width: int, **star: Any) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection_head = STARProjectionHead(width, 512, 128, num_layers=2, **star)
        self.prototypes = SwaVPrototypes(128, n_prototypes=128)
        self.criterion = SwaVLoss()
        self.equivariant_criterion = NTXentLoss(temperature=0.2)

    def forward(self, x: Tensor) -> STAREmbeddings:
        return self.projection_head(self.backbone(x).flatten(start_dim=1))

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        self.prototypes.normalize()
        views = batch[0]
        embeddings = [self(x) for x in views.views]
        codes = [self.prototypes(nn.functional.normalize(z.invariant, dim=1)) for z in embeddings]
        invariant = self.criterion(codes[:2], codes[2:])
        equivariant = equivariant_loss(
            self, self.projection_head, views, embeddings[:2], self.equivariant_criterion
        )
        return invariant + equivariant

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def multi_crop(size: int, **options: Any) -> STARMultiViewTransform:
    """Two large views, recorded, and six small ones."""
    large = STARTransform(size, min_scale=0.3, **options)
    small = STARViewTransform(size // 2, min_scale=0.1, **options)
    return STARMultiViewTransform([large, large], [lambda image: small(image)[0]] * 6)


if __name__ == "__main__":
    run_method(SwaV, multi_crop)
