"""MoCo v2 (arXiv 2003.04297) with STAR."""

import copy
from typing import Any

import torch
from lightly.loss import NTXentLoss
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.transforms import MoCoV2Transform
from lightly.transforms.utils import IMAGENET_NORMALIZE
from lightly.utils.scheduler import cosine_schedule
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from star_head import STAREmbeddings, STARProjectionHead
from star_head.adapters.lightly import equivariant_loss
from star_head.adapters.torchvision import RecordedTransform

HIDDEN_DIM = 128  # of each of 16 experts: 512 / √16 (docs/methods.md)
OUTPUT_DIM = 128  # MoCo's
QUEUE_SIZE = 1024  # negatives; MoCo has 65,536
TEMPERATURE = 0.2  # MoCo v2's and STAR's (arXiv 2510.27222)
MOMENTUM = 0.99  # at the start of a short run; MoCo has 0.999
LEARNING_RATE = 1e-3  # AdamW's default, for short runs on small data


class MoCo(LightningModule):
    """The online network sees the first view alone, and serves both tasks with it."""

    def __init__(
        self, backbone: nn.Module, width: int, hidden_dim: int = HIDDEN_DIM, **star: Any
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection_head = STARProjectionHead(
            width, hidden_dim, OUTPUT_DIM, num_layers=2, norm_layer=None, **star
        )
        self.backbone_momentum = copy.deepcopy(self.backbone)
        self.projection_head_momentum = copy.deepcopy(self.projection_head)
        deactivate_requires_grad(self.backbone_momentum)
        deactivate_requires_grad(self.projection_head_momentum)
        self.criterion = NTXentLoss(
            temperature=TEMPERATURE, memory_bank_size=(QUEUE_SIZE, OUTPUT_DIM)
        )
        self.equivariant_criterion = NTXentLoss(temperature=TEMPERATURE)

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
        query, key = views.views
        z = self(query)
        invariant = self.criterion(z.invariant, self.forward_momentum(key))
        equivariant = equivariant_loss(
            self, self.projection_head, views, [z], self.equivariant_criterion
        )
        return invariant + equivariant

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=LEARNING_RATE)


def create_transform(
    input_size: int = 224, normalize: dict[str, list[float]] = IMAGENET_NORMALIZE
) -> RecordedTransform:
    """The views of lightly's MoCo v2, recorded."""
    return RecordedTransform(MoCoV2Transform(input_size=input_size, normalize=normalize))


if __name__ == "__main__":
    from star_head.examples.lightly.run_method import run_method

    run_method(MoCo, create_transform)
