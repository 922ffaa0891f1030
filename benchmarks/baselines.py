"""AugSelf and E-SSL against plain loops over tasks, forward and backward, beside their features.

    python -m benchmarks.baselines

The loops are what one would write from the papers: an MLP and a loss for each task and each order
of the views.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.timing import time_in_turn
from star_head.adapters.timm import create_backbone
from star_head.augmentation import STATISTICS
from star_head.baselines import ESSL, AugSelf, quarter_turns

BATCH, SIDE = 64, 32


def augself_by_loops(task: AugSelf, y1: Tensor, y2: Tensor, a1: Tensor, a2: Tensor) -> Tensor:
    """AugSelf's loss, one task and one order of the views at a time."""
    loss = y1.new_zeros(())
    n = len(y1)
    targets = task.differences(a1, a2)
    for name, weight in task.tasks.items():
        for order, (first, second) in enumerate(((y1, y2), (y2, y1))):
            output = task.heads[name](torch.cat([first, second], dim=1)).tanh()
            loss = loss + weight / 2 * F.mse_loss(output, targets[name][order * n :][:n])
    return loss


def essl_by_loops(backbone: torch.nn.Module, task: ESSL, images: Tensor) -> Tensor:
    """E-SSL's loss, one orientation at a time."""
    loss = images.new_zeros(())
    for turns in range(4):
        features = backbone(images.rot90(turns, dims=(2, 3)))
        choices = torch.full((len(images),), turns)
        loss = loss + task.weight / 4 * F.cross_entropy(task.head(features), choices)
    return loss


def main() -> None:
    """Print the time of a step of each, and of its loop."""
    backbone = create_backbone("resnet10t", input_size=SIDE)
    width = backbone.num_features
    assert isinstance(width, int)
    augself, essl = AugSelf(width, "stl10"), ESSL(width)
    x1, x2 = torch.rand(2, BATCH, 3, SIDE, SIDE)
    small = torch.rand(BATCH, 3, SIDE // 2, SIDE // 2)
    mean, std = (torch.tensor(values) for values in STATISTICS["stl10"])
    a1, a2 = mean + std * torch.randn(2, BATCH, len(mean))

    def step_augself(by_loops: bool) -> None:
        y1, y2 = backbone(torch.cat([x1, x2])).chunk(2)
        loss = augself_by_loops(augself, y1, y2, a1, a2) if by_loops else augself(y1, y2, a1, a2)
        torch.autograd.backward(loss)

    def step_essl(by_loops: bool) -> None:
        if by_loops:
            loss = essl_by_loops(backbone, essl, small)
        else:
            turned, choices = quarter_turns(small)
            loss = essl(backbone(turned), choices)
        torch.autograd.backward(loss)

    seconds = time_in_turn(
        {
            "AugSelf": partial(step_augself, by_loops=False),
            "AugSelf, loops": partial(step_augself, by_loops=True),
            "E-SSL": partial(step_essl, by_loops=False),
            "E-SSL, loops": partial(step_essl, by_loops=True),
        },
        rounds=15,
    )
    print(f"resnet10t, {SIDE} pixels, batch {BATCH}      ms   of its loop's")
    for name in ("AugSelf", "E-SSL"):
        share = seconds[name] / seconds[f"{name}, loops"]
        print(f"{name:34} {1e3 * seconds[name]:7.1f}   {share:12.2f}")


if __name__ == "__main__":
    main()
