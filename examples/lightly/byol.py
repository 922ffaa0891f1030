"""BYOL (arXiv 2006.07733) with STAR."""

import copy
from typing import Any

import torch
from lightly.loss import NegativeCosineSimilarity, VICRegLoss
from lightly.models.modules import BYOLPredictionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.transforms import BYOLTransform, BYOLView1Transform, BYOLView2Transform
from lightly.transforms.utils import IMAGENET_NORMALIZE
from lightly.utils.scheduler import cosine_schedule
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from star_head import STAREmbeddings, STARProjectionHead
from star_head.adapters.lightly import equivariant_loss
from star_head.adapters.torchvision import RecordedTransform

HIDDEN_DIM = 128  # of each of 16 experts: 512 / √16 (docs/methods.md)
OUTPUT_DIM = 128  # BYOL has 256
PREDICTOR_DIM = 512  # hidden layer; BYOL has 4,096
MOMENTUM = 0.99  # at the start of a short run; BYOL has 0.996
# VICReg (arXiv 2105.04906) counts its invariance term 25 times; BYOL's own loss counts once.
EQUIVARIANT_WEIGHT = 1 / 25
LEARNING_RATE = 1e-3  # AdamW's default, for short runs on small data


class BYOL(LightningModule):
    """The online network serves both tasks, the momentum network the invariant one alone."""

    def __init__(
        self, backbone: nn.Module, width: int, hidden_dim: int = HIDDEN_DIM, **star: Any
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection_head = STARProjectionHead(
            width, hidden_dim, OUTPUT_DIM, num_layers=2, **star
        )
        self.prediction_head = BYOLPredictionHead(OUTPUT_DIM, PREDICTOR_DIM, OUTPUT_DIM)
        self.backbone_momentum = copy.deepcopy(self.backbone)
        self.projection_head_momentum = copy.deepcopy(self.projection_head)
        deactivate_requires_grad(self.backbone_momentum)
        deactivate_requires_grad(self.projection_head_momentum)
        self.criterion = NegativeCosineSimilarity()
        self.equivariant_criterion = VICRegLoss()  # without negatives, as BYOL is

    def forward(self, x: Tensor) -> STAREmbeddings:
        return self.projection_head(self.backbone(x).flatten(start_dim=1))

    def forward_momentum(self, x: Tensor) -> Tensor:
        y = self.backbone_momentum(x).flatten(start_dim=1)
        return self.projection_head_momentum(y).invariant.detach()

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        momentum = cosine_schedule(
            self.trainer.global_step, self.trainer.estimated_stepping_batches, MOMENTUM, 1
        )
        update_momentum(self.backbone, self.backbone_momentum, m=momentum)
        update_momentum(self.projection_head, self.projection_head_momentum, m=momentum)
        views = batch[0]
        x0, x1 = views.views
        z0, z1 = self(x0), self(x1)
        p0, p1 = (self.prediction_head(z.invariant) for z in (z0, z1))
        invariant = 0.5 * (
            self.criterion(p0, self.forward_momentum(x1))
            + self.criterion(p1, self.forward_momentum(x0))
        )
        equivariant = equivariant_loss(
            self, self.projection_head, views, (z0, z1), self.equivariant_criterion
        )
        return invariant + EQUIVARIANT_WEIGHT * equivariant

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=LEARNING_RATE)


def create_transform(
    input_size: int = 224, normalize: dict[str, list[float]] = IMAGENET_NORMALIZE
) -> RecordedTransform:
    """The two different views of lightly's BYOL, recorded; the second may be solarised."""
    return RecordedTransform(
        BYOLTransform(
            BYOLView1Transform(input_size, normalize=normalize),
            BYOLView2Transform(input_size, normalize=normalize),
        )
    )


if __name__ == "__main__":
    from star_head.examples.lightly.run_method import run_method

    run_method(BYOL, create_transform)
