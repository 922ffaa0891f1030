"""Time and memory of a training step against experts, batch and width, also with backbones.

    python -m benchmarks.cost_head
    python -m benchmarks.cost_head --device=cuda --precision=bf16 --output=runs/cost_gpu/head.json

A step is forward and backward of STAR on three views, without the optimiser. "head" is all of it
but the backbone: random features, which take gradients, in their place. "backbone" is three passes
of the backbone alone, "step" is the whole. What is in the output already is not measured again.
"""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.cost_counts import VIEWS, Sizes, head_step
from benchmarks.cost_points import Points, Settings
from benchmarks.precision import Precision, set_tf32
from star_head import STAR, Parameter, STARLoss, STARProjectionHead, STARViews
from star_head.adapters.timm import create_backbone
from star_head.examples.command_line import run


class Grid(NamedTuple):
    """What is measured.

    Attributes:
        experts: Of the head alone, each with every batch and every width.
        batches: Likewise, at the middle width.
        widths: Likewise, at the middle batch.
        middle: Batch and width through which the other curve runs.
        most_operations: Larger steps of the head alone are left out.
        backbones: Names, sides of the images and batches.
        experts_with_backbone: Each with every backbone.
    """

    experts: tuple[int, ...]
    batches: tuple[int, ...]
    widths: tuple[int, ...]
    middle: tuple[int, int]
    most_operations: float
    backbones: tuple[tuple[str, int, tuple[int, ...]], ...]
    experts_with_backbone: tuple[int, ...]


FULL = Grid(
    experts=(1, 2, 4, 8, 16, 32, 64),
    batches=(16, 32, 64, 128, 256, 512, 1024),
    widths=(128, 256, 512, 1024, 2048),
    middle=(256, 512),
    most_operations=1.5e12,
    backbones=(
        ("resnet18", 96, (16, 64, 256)),
        ("resnet18", 32, (64, 256, 1024)),
        ("vit_tiny_patch16_224", 96, (16, 64, 256)),
        ("vit_tiny_patch16_224", 32, (64, 256, 1024)),
    ),
    experts_with_backbone=(1, 16, 64),
)
# The paper's settings, too large for a CPU.
ON_GPU = FULL._replace(
    most_operations=1e13,
    backbones=(*FULL.backbones, ("resnet18", 96, (1024,)), ("resnet50", 224, (64, 256))),
    experts_with_backbone=(1, 8, 16, 64),
)
QUICK = Grid(
    experts=(1, 4),
    batches=(4, 16),
    widths=(16, 32),
    middle=(8, 16),
    most_operations=1e9,
    backbones=(("test_resnet", 32, (4,)), ("test_vit", 32, (4,))),
    experts_with_backbone=(1, 4),
)


def main(
    device: str = "cpu",
    precision: Precision = "float32",
    quick: bool = False,
    output: Path = Path("runs/cost/head.json"),
) -> None:
    """Measure the points that are not in the output.

    Args:
        device: Where steps are run.
        precision: That of the matrix products: float32, TF32 or autocast to bfloat16.
        quick: Measure few and tiny points, to try it.
        output: JSON file for the points.
    """
    torch.manual_seed(0)
    set_tf32(precision == "tf32")
    points = Points(output, device, precision)
    grid = QUICK if quick else ON_GPU if points.device.type == "cuda" else FULL
    wanted = [settings for settings in [*heads(grid), *backbones(grid)] if settings not in points]
    for settings in tqdm(wanted, desc="Points"):
        points.measure(settings, training_step(settings, points.device, precision))
    print(f"{len(points.points)} points in {output}")


def heads(grid: Grid) -> Iterator[Settings]:
    """Settings of the steps without a backbone."""
    batch, width = grid.middle
    sizes = {(b, width) for b in grid.batches} | {(batch, w) for w in grid.widths}
    for (b, w), e in itertools.product(sorted(sizes), grid.experts):
        if head_step(Sizes(b, w, e)).operations <= grid.most_operations:
            yield {"part": "head", "batch": b, "width": w, "experts": e}


def backbones(grid: Grid) -> Iterator[Settings]:
    """Settings of the backbones alone and of whole steps."""
    for name, size, batches in grid.backbones:
        for batch in batches:
            point = {"backbone": name, "size": size, "batch": batch}
            yield {"part": "backbone", **point}
            for e in grid.experts_with_backbone:
                yield {"part": "step", **point, "experts": e}


class Passes(nn.Module):
    """A backbone on three views; each feature gets a gradient."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, views: STARViews) -> Tensor:
        """The mean of squared features."""
        images = (views.original, *views.views)
        return torch.stack([self.backbone(x).square().mean() for x in images]).sum()


def training_step(
    settings: Settings,
    device: torch.device,
    precision: str,
    wrap: Callable[[nn.Module], nn.Module] | None = None,
) -> Callable[[], None]:
    """What is measured at a point; gradients are dropped at its end.

    Args:
        settings: Of the point.
        device: Where it is run.
        precision: That of the matrix products.
        wrap: Makes of the model what several processes train; negatives are gathered then.
    """
    batch = settings["batch"]
    if settings["part"] == "head":
        backbone: nn.Module = nn.Identity()
        width = settings["width"]
        shape: tuple[int, ...] = (width,)
    else:
        size = settings["size"]
        backbone = create_backbone(settings["backbone"], input_size=size)
        width, shape = backbone.num_features, (3, size, size)
    images = [torch.randn(batch, *shape, device=device) for _ in range(VIEWS)]
    for x in images:
        x.requires_grad_(settings["part"] == "head")
    params = [torch.rand(batch, len(Parameter), device=device) for _ in range(2)]
    views = STARViews(images[0], images[1:], params)
    if settings["part"] == "backbone":
        model: nn.Module = Passes(backbone)
    else:
        head = STARProjectionHead(
            width, width, 128, num_experts=settings["experts"], statistics="stl10"
        )
        model = STAR(backbone, head, STARLoss(gather_distributed=wrap is not None))
    model.to(device)
    model = model if wrap is None else wrap(model)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = model(views)
        (loss if isinstance(loss, Tensor) else loss.total).backward()
        model.zero_grad()
        for x in images:
            x.grad = None

    return step


if __name__ == "__main__":
    run(main)
