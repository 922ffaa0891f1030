"""SimSiam (arXiv 2011.10566) with STAR."""

from typing import Any

import torch
from lightly.loss import NegativeCosineSimilarity, VICRegLoss
from lightly.models.modules import SimSiamPredictionHead
from lightly.transforms import SimSiamTransform
from lightly.transforms.utils import IMAGENET_NORMALIZE
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from star_head import STAREmbeddings, STARProjectionHead
from star_head.adapters.lightly import equivariant_loss
from star_head.adapters.torchvision import RecordedTransform

HIDDEN_DIM = 128  # of each of 16 experts: 512 / √16 (docs/methods.md)
OUTPUT_DIM = 128  # SimSiam has 2,048
PREDICTOR_DIM = 64  # hidden layer; SimSiam has 512
# VICReg (arXiv 2105.04906) counts its invariance term 25 times; SimSiam's own loss counts once.
EQUIVARIANT_WEIGHT = 1 / 25
LEARNING_RATE = 1e-3  # AdamW's default, for short runs on small data


class SimSiam(LightningModule):
    """Stops the gradient of the invariant task's targets alone."""

    def __init__(
        self, backbone: nn.Module, width: int, hidden_dim: int = HIDDEN_DIM, **star: Any
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection_head = STARProjectionHead(width, hidden_dim, OUTPUT_DIM, **star)
        self.projection_norm = nn.BatchNorm1d(
            OUTPUT_DIM, affine=False
        )  # SimSiam's heads end with it
        self.prediction_head = SimSiamPredictionHead(OUTPUT_DIM, PREDICTOR_DIM, OUTPUT_DIM)
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
        return invariant + EQUIVARIANT_WEIGHT * equivariant

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=LEARNING_RATE)


def create_transform(
    input_size: int = 224, normalize: dict[str, list[float]] = IMAGENET_NORMALIZE
) -> RecordedTransform:
    """The views of lightly's SimSiam, recorded."""
    return RecordedTransform(SimSiamTransform(input_size=input_size, normalize=normalize))


if __name__ == "__main__":
    from star_head.examples.lightly.run_method import run_method

    run_method(SimSiam, create_transform)
