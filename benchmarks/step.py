"""A whole training step of STAR against SimCLR's, by lightly's head and loss.

ResNet-18, 96 pixels, batch 64, 16 experts. "two passes" is SimCLR as it is, on the two augmented
views. "three passes" has STAR's backbone passes and SimCLR's head: what is left are STAR's experts,
predictor and second loss.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from torch import Tensor, nn

from benchmarks.precision import Precision, autocast
from benchmarks.timing import time_in_turn
from star_head import STAR, Parameter, STARProjectionHead, STARViews
from star_head.adapters.timm import create_backbone


class Step(NamedTuple):
    """What is trained a step.

    Attributes:
        backbone: Any timm model.
        size: Side of the views in pixels.
        batch: Images.
        experts: Of STAR's head.
    """

    backbone: str
    size: int
    batch: int
    experts: int


class SimCLR(nn.Module):
    """Backbone and head on two views or on all three, NT-Xent on pairs.

    Args:
        backbone: Gives features (B, num_features).
        original: Take the un-augmented image too.
    """

    def __init__(self, backbone: nn.Module, original: bool) -> None:
        super().__init__()
        width: Any = backbone.num_features
        self.backbone = backbone
        self.head = SimCLRProjectionHead(width, width, 128)
        self.loss = NTXentLoss(0.2)
        self.original = original

    def forward(self, views: STARViews) -> Tensor:
        """The loss of the views; an original's embedding is held against the first view's."""
        images = (views.original, *views.views) if self.original else views.views
        *original, z1, z2 = (self.head(self.backbone(x)) for x in images)
        loss: Tensor = self.loss(z1, z2)
        return sum((self.loss(z0, z1) for z0 in original), loss)


def contenders(
    step: Step, device: str = "cpu", precision: Precision = "float32"
) -> dict[str, Callable[[], None]]:
    """A training step of each, with the optimiser's.

    Args:
        step: Network and batch.
        device: Where it runs.
        precision: That of the matrix products.
    """
    images = torch.randn(3, step.batch, 3, step.size, step.size, device=device)
    params = torch.rand(2, step.batch, len(Parameter), device=device)
    views = STARViews(images[0], tuple(images[1:]), tuple(params))
    backbones = [create_backbone(step.backbone, input_size=step.size) for _ in range(3)]
    width: Any = backbones[0].num_features
    head = STARProjectionHead(width, width, 128, num_experts=step.experts, statistics="stl10")
    models: dict[str, nn.Module] = {
        "two passes": SimCLR(backbones[0], original=False),
        "three passes": SimCLR(backbones[1], original=True),
        "STAR": STAR(backbones[2], head),
    }

    def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        with autocast(device, precision):
            loss = model(views)
        optimizer.zero_grad()
        (loss if isinstance(loss, Tensor) else loss.total).backward()
        optimizer.step()

    return {
        name: partial(
            train,
            model.to(device),
            torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9),
        )
        for name, model in models.items()
    }


def main() -> None:
    """Print the time of a step of each, and STAR's over the others'."""
    seconds = time_in_turn(contenders(Step("resnet18", 96, 64, 16)), rounds=8, warmup=2)
    print("training step, ResNet-18       s   STAR / this")
    for name, time in seconds.items():
        print(f"{name:22} {time:9.3f} {seconds['STAR'] / time:13.3f}")


if __name__ == "__main__":
    main()
