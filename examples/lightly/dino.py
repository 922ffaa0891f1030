"""DINO (arXiv 2104.14294) with STAR."""

import copy
from typing import Any

import torch
from lightly.loss import DINOLoss, VICRegLoss
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.transforms import DINOTransform
from lightly.transforms.utils import IMAGENET_NORMALIZE
from lightly.utils.scheduler import cosine_schedule
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from star_head import STAREmbeddings, STARProjectionHead
from star_head.adapters.lightly import equivariant_loss
from star_head.adapters.torchvision import RecordedTransform

HIDDEN_DIM = 128  # of each of 16 experts: 512 / √16 (docs/methods.md)
BOTTLENECK_DIM = 64  # DINO has 256
OUTPUT_DIM = 1024  # DINO has 65,536
WARMUP_EPOCHS = 5  # of the teacher's temperature; DINO has 30
MOMENTUM = 0.99  # at the start of a short run; DINO has 0.996
# VICReg (arXiv 2105.04906) counts its invariance term 25 times; taken as for BYOL, not tuned.
EQUIVARIANT_WEIGHT = 1 / 25
# Of the large crops' side; lightly's 96 of 224 would leave too little of images of 32 pixels.
SMALL_CROP = 3 / 4
LEARNING_RATE = 1e-3  # AdamW's default, for short runs on small data


class DINO(LightningModule):
    """The student serves both tasks, with its large crops; the teacher the invariant one."""

    def __init__(
        self, backbone: nn.Module, width: int, hidden_dim: int = HIDDEN_DIM, **star: Any
    ) -> None:
        super().__init__()
        self.backbone = backbone
        # DINO's head up to its bottleneck, before the layer of OUTPUT_DIM outputs.
        self.projection_head = STARProjectionHead(
            width, hidden_dim, BOTTLENECK_DIM, act_layer=nn.GELU, **star
        )
        self.last_layer = nn.utils.parametrizations.weight_norm(
            nn.Linear(BOTTLENECK_DIM, OUTPUT_DIM, bias=False)
        )
        # As lightly's head: rows of length 1, which are not trained.
        nn.init.ones_(self.last_layer.parametrizations.weight.original0).requires_grad_(False)
        self.last_layer_momentum = copy.deepcopy(self.last_layer)
        deactivate_requires_grad(self.last_layer_momentum)
        self.backbone_momentum = copy.deepcopy(self.backbone)
        self.projection_head_momentum = copy.deepcopy(self.projection_head)
        deactivate_requires_grad(self.backbone_momentum)
        deactivate_requires_grad(self.projection_head_momentum)
        self.criterion = DINOLoss(output_dim=OUTPUT_DIM, warmup_teacher_temp_epochs=WARMUP_EPOCHS)
        self.equivariant_criterion = VICRegLoss()  # without negatives, as DINO is

    def forward(self, x: Tensor) -> STAREmbeddings:
        return self.projection_head(self.backbone(x).flatten(start_dim=1))

    def forward_momentum(self, x: Tensor) -> Tensor:
        y = self.backbone_momentum(x).flatten(start_dim=1)
        z = self.projection_head_momentum(y).invariant
        return self.last_layer_momentum(nn.functional.normalize(z, dim=1)).detach()

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        momentum = cosine_schedule(
            self.trainer.global_step, self.trainer.estimated_stepping_batches, MOMENTUM, 1
        )
        update_momentum(self.backbone, self.backbone_momentum, m=momentum)
        update_momentum(self.projection_head, self.projection_head_momentum, m=momentum)
        update_momentum(self.last_layer, self.last_layer_momentum, m=momentum)
        views = batch[0]
        embeddings = [self(x) for x in views.views]
        student = [self.last_layer(nn.functional.normalize(z.invariant, dim=1)) for z in embeddings]
        teacher = [self.forward_momentum(x) for x in views.views[:2]]
        invariant = self.criterion(teacher, student, epoch=self.current_epoch)
        equivariant = equivariant_loss(
            self, self.projection_head, views, embeddings[:2], self.equivariant_criterion
        )
        return invariant + EQUIVARIANT_WEIGHT * equivariant

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=LEARNING_RATE)


def create_transform(
    input_size: int = 224, normalize: dict[str, list[float]] = IMAGENET_NORMALIZE
) -> RecordedTransform:
    """The views of lightly's DINO; the two large ones are recorded, the six small ones follow."""
    return RecordedTransform(
        DINOTransform(
            global_crop_size=input_size,
            local_crop_size=round(SMALL_CROP * input_size),
            normalize=normalize,
        )
    )


if __name__ == "__main__":
    from star_head.examples.lightly.run_method import run_method

    run_method(DINO, create_transform)
