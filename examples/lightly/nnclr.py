"""NNCLR (arXiv 2104.14548) with STAR."""

from typing import Any

import torch
from lightly.loss import NTXentLoss
from lightly.models.modules import NNCLRPredictionHead, NNMemoryBankModule
from lightly.transforms import SimCLRTransform
from lightly.transforms.utils import IMAGENET_NORMALIZE
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from star_head import STAREmbeddings, STARProjectionHead
from star_head.adapters.lightly import equivariant_loss
from star_head.adapters.torchvision import RecordedTransform

HIDDEN_DIM = 128  # of each of 16 experts: 512 / √16 (docs/methods.md)
OUTPUT_DIM = 128  # NNCLR has 256
PREDICTOR_DIM = 512  # hidden layer; NNCLR has 4,096
QUEUE_SIZE = 1024  # embeddings to look for neighbours in; NNCLR has 98,304
TEMPERATURE = 0.2  # STAR's (arXiv 2510.27222)
LEARNING_RATE = 1e-3  # AdamW's default, for short runs on small data


class NNCLR(LightningModule):
    """The nearest neighbours are looked for among invariant embeddings."""

    def __init__(
        self, backbone: nn.Module, width: int, hidden_dim: int = HIDDEN_DIM, **star: Any
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection_head = STARProjectionHead(width, hidden_dim, OUTPUT_DIM, **star)
        self.projection_norm = nn.BatchNorm1d(OUTPUT_DIM)  # NNCLR's heads end with it
        self.prediction_head = NNCLRPredictionHead(OUTPUT_DIM, PREDICTOR_DIM, OUTPUT_DIM)
        self.memory_bank = NNMemoryBankModule(size=(QUEUE_SIZE, OUTPUT_DIM))
        self.criterion = NTXentLoss(temperature=TEMPERATURE)

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
        return torch.optim.AdamW(self.parameters(), lr=LEARNING_RATE)


def create_transform(
    input_size: int = 224, normalize: dict[str, list[float]] = IMAGENET_NORMALIZE
) -> RecordedTransform:
    """The views of lightly's SimCLR, which its NNCLR takes too, recorded."""
    return RecordedTransform(SimCLRTransform(input_size=input_size, normalize=normalize))


if __name__ == "__main__":
    from star_head.examples.lightly.run_method import run_method

    run_method(NNCLR, create_transform)
