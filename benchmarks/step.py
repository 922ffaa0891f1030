"""A whole training step of STAR against three passes with lightly's SimCLR head and loss.

ResNet-18, 96 pixels, batch 64, three views, 16 experts. What it is held against runs the same
backbone on the same three views, with SimCLR's head on each and lightly's NT-Xent on two.
"""

from functools import partial

import torch
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from torch import nn

from benchmarks.timing import time_in_turn
from star_head import STAR, STARProjectionHead, STARViews
from star_head.adapters.timm import create_backbone


class SimCLR(nn.Module):
    """Three passes of backbone and head, a loss on two of them."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = SimCLRProjectionHead(512, 512, 128)
        self.loss = NTXentLoss(0.2)

    def forward(self, views: STARViews) -> torch.Tensor:
        """The loss of the three views: the original's embedding is held against the first's."""
        z0, z1, z2 = (self.head(self.backbone(x)) for x in (views.original, *views.views))
        return self.loss(z1, z2) + self.loss(z0, z1)


def main() -> None:
    """Print the time of a step of each and their ratio."""
    images, params = torch.randn(3, 64, 3, 96, 96), torch.rand(2, 64, 11)
    views = STARViews(images[0], tuple(images[1:]), tuple(params))
    head = STARProjectionHead(512, 512, 128, num_experts=16, statistics="stl10")
    star, simclr = STAR(create_backbone("resnet18"), head), SimCLR(create_backbone("resnet18"))

    def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        loss = model(views)
        optimizer.zero_grad()
        (loss if isinstance(loss, torch.Tensor) else loss.total).backward()
        optimizer.step()

    runs = {
        name: partial(train, model, torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9))
        for name, model in {"lightly, three passes": simclr, "STAR": star}.items()
    }
    seconds = time_in_turn(runs, rounds=8, warmup=2)
    print("training step, ResNet-18       s   ratio")
    for name, time in seconds.items():
        print(f"{name:22} {time:9.3f} {time / seconds['lightly, three passes']:7.3f}")


if __name__ == "__main__":
    main()
