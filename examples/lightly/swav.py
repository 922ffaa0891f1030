"""SwaV (arXiv 2006.09882) with STAR."""

from typing import Any

import torch
from lightly.loss import NTXentLoss, SwaVLoss
from lightly.models.modules import SwaVPrototypes
from lightly.transforms import SwaVTransform
from lightly.transforms.utils import IMAGENET_NORMALIZE
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from star_head import STAREmbeddings, STARProjectionHead
from star_head.adapters.lightly import equivariant_loss
from star_head.adapters.torchvision import RecordedTransform

HIDDEN_DIM = 128  # of each of 16 experts: 512 / √16 (docs/methods.md)
OUTPUT_DIM = 128  # SwaV's
PROTOTYPES = 32  # SwaV has 3,000
TEMPERATURE = 0.2  # STAR's (arXiv 2510.27222)
# Of the large crops' side; lightly's 96 of 224 would leave too little of images of 32 pixels.
SMALL_CROP = 3 / 4
LEARNING_RATE = 1e-3  # AdamW's default, for short runs on small data


class SwaV(LightningModule):
    """Small crops serve the invariant task alone."""

    def __init__(
        self, backbone: nn.Module, width: int, hidden_dim: int = HIDDEN_DIM, **star: Any
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection_head = STARProjectionHead(
            width, hidden_dim, OUTPUT_DIM, num_layers=2, **star
        )
        self.prototypes = SwaVPrototypes(OUTPUT_DIM, n_prototypes=PROTOTYPES)
        self.criterion = SwaVLoss()
        self.equivariant_criterion = NTXentLoss(temperature=TEMPERATURE)

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
        return torch.optim.AdamW(self.parameters(), lr=LEARNING_RATE)


def create_transform(
    input_size: int = 224, normalize: dict[str, list[float]] = IMAGENET_NORMALIZE
) -> RecordedTransform:
    """The views of lightly's SwaV; the two large ones are recorded, the six small ones follow."""
    return RecordedTransform(
        SwaVTransform(crop_sizes=(input_size, round(SMALL_CROP * input_size)), normalize=normalize)
    )


if __name__ == "__main__":
    from star_head.examples.lightly.run_method import run_method

    run_method(SwaV, create_transform)
