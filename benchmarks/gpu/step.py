"""A whole training step against plain SimCLR's two passes, and against three passes."""

from collections.abc import Iterator
from functools import partial

import torch

from benchmarks.gpu.cases import Case, Figures
from benchmarks.gpu.sizes import Sizes
from benchmarks.precision import Precision
from benchmarks.timing import time_in_turn


def cases(device: str, sizes: Sizes) -> Iterator[Case]:
    """Every network, in bfloat16 first, which is what one trains in."""
    for settings in sizes.steps:
        for precision in reversed(sizes.precisions):
            backbone, size, batch, experts = settings
            name = f"{backbone}, {size} pixels, batch {batch}, {experts} experts, {precision}"
            run = partial(compare, device, settings, precision, sizes.seconds)
            yield Case(name, run, needs=("timm", "lightly"))


def compare(
    device: str, settings: tuple[str, int, int, int], precision: Precision, seconds: float
) -> Figures:
    """Time of each, and the peak memory while all three models are there."""
    from benchmarks.step import Step, contenders

    runs = contenders(Step(*settings), device, precision)
    cuda = torch.device(device).type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    timed = time_in_turn(runs, rounds=20, most_seconds=seconds)
    figures: dict[str, float | None] = {f"{name} ms": 1e3 * timed[name] for name in timed}
    for passes in ("two passes", "three passes"):
        figures[f"STAR / {passes}"] = timed["STAR"] / timed[passes]
    figures["STAR images/s"] = settings[2] / timed["STAR"]
    if cuda:
        figures["peak of all MiB"] = torch.cuda.max_memory_allocated() / 2**20
    return figures
