"""SwaV (arXiv 2006.09882) with STAR."""

from typing import Any

import torch
from lightly.loss import NTXentLoss, SwaVLoss
from lightly.models.modules import SwaVPrototypes
from lightly.transforms.dino_transform import DINOViewTransform
from lightning.pytorch import LightningModule
from run_method import run_method
from torch import Tensor, nn

from star_head import STAREmbeddings, STARProjectionHead
from star_head.adapters.lightly import (
    STARMultiViewTransform,
    STARTransform,
    equivariant_loss,
)


class SwaV(LightningModule):
    """Small crops serve the invariant task alone."""

    def __init__(self, backbone: nn.Module, width: int, **star: Any) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection_head = STARProjectionHead(width, 512, 128, num_layers=2, **star)
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


def multi_crop(size: int, normalize: dict[str, list[float]]) -> STARMultiViewTransform:
    """Two large views, recorded, and four small ones as lightly makes them for DINO."""
    large = STARTransform(size, min_scale=0.3, normalize=normalize)
    # Three quarters, for a half would leave too little of small images.
    small = DINOViewTransform(
        crop_size=3 * size // 4,
        crop_scale=(0.05, 0.3),
        gaussian_blur=0.5,
        solarization_prob=0,
        normalize=normalize,
    )
    return STARMultiViewTransform([large, large], [small] * 4)


if __name__ == "__main__":
    run_method(SwaV, multi_crop)
