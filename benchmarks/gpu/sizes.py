"""How large everything is: on a GPU, and small enough for a test on CPU."""

from typing import NamedTuple

from benchmarks.precision import PRECISIONS, Precision


class Sizes(NamedTuple):
    """Sizes of all parts.

    Attributes:
        full: On a GPU; promises about speed and memory are judged at these only.
        precisions: Of heads and steps.
        heads: Width, experts and batch of each; the first is compiled too.
        losses: Samples n of NT-Xent.
        steps: timm's name, side of the views, batch and experts of each.
        views: Side and number of the images whose views are made.
        seconds: That timing one case may take, once three rounds were timed.
        steps_trained: Of the STL10 config.
        batch_trained: Images of each of these steps; on a GPU as many as in the config.
        flags: That make the STL10 config small.
    """

    full: bool
    precisions: tuple[Precision, ...]
    heads: tuple[tuple[int, int, int], ...]
    losses: tuple[int, ...]
    steps: tuple[tuple[str, int, int, int], ...]
    views: tuple[int, int]
    seconds: float
    steps_trained: int
    batch_trained: int
    flags: tuple[str, ...]


FULL = Sizes(
    full=True,
    precisions=PRECISIONS,
    heads=((512, 16, 256), (512, 16, 64), (512, 16, 1024), (2048, 8, 64), (2048, 8, 256)),
    losses=(2048, 4096, 8192, 16384),
    steps=(("resnet18", 96, 256, 16), ("resnet50", 224, 64, 8)),
    views=(96, 256),
    seconds=8,
    steps_trained=100,
    batch_trained=256,
    flags=(),
)
TOY = Sizes(
    full=False,
    precisions=("float32",),
    heads=((8, 2, 4),),
    losses=(32,),
    steps=(("test_resnet", 32, 4, 2),),
    views=(32, 8),
    seconds=0,
    steps_trained=5,
    batch_trained=4,
    flags=("--model.backbone=test_resnet", "--data.num_workers=0"),
)
