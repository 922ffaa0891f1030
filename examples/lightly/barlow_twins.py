"""Barlow Twins (arXiv 2103.03230) with STAR."""

from typing import Any

import torch
from lightly.loss import BarlowTwinsLoss
from lightly.transforms import BYOLTransform, BYOLView1Transform, BYOLView2Transform
from lightly.transforms.utils import IMAGENET_NORMALIZE
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from star_head import STAREmbeddings, STARProjectionHead
from star_head.adapters.lightly import equivariant_loss
from star_head.adapters.torchvision import RecordedTransform

HIDDEN_DIM = 128  # of each of 16 experts: 512 / √16 (docs/methods.md)
OUTPUT_DIM = 512  # Barlow Twins has 8,192
LEARNING_RATE = 1e-3  # AdamW's default, for short runs on small data


class BarlowTwins(LightningModule):
    """Both tasks make a cross-correlation the identity; neither needs negatives."""

    def __init__(
        self, backbone: nn.Module, width: int, hidden_dim: int = HIDDEN_DIM, **star: Any
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection_head = STARProjectionHead(width, hidden_dim, OUTPUT_DIM, **star)
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
        return torch.optim.AdamW(self.parameters(), lr=LEARNING_RATE)


def create_transform(
    input_size: int = 224, normalize: dict[str, list[float]] = IMAGENET_NORMALIZE
) -> RecordedTransform:
    """The two different views of lightly's BYOL, which Barlow Twins has too, recorded."""
    return RecordedTransform(
        BYOLTransform(
            BYOLView1Transform(input_size, normalize=normalize),
            BYOLView2Transform(input_size, normalize=normalize),
        )
    )


if __name__ == "__main__":
    from star_head.examples.lightly.run_method import run_method

    run_method(BarlowTwins, create_transform)
