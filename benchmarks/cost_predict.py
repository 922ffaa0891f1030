"""Predicts time, memory and messages of a training step on one GPU and on several, and checks it.

    python -m benchmarks.cost_predict
    python -m benchmarks.cost_predict --backbone=resnet50 --size=224 --experts=8 --batch=64 --gpus=4
    python -m benchmarks.cost_predict --check=runs/cost_gpu/head.json --gpu=h100 --precision=bf16

Nothing in it was fitted to a GPU; docs/gpu.md holds it against an H100. Operations and bytes are
counted; rates are the makers', and what share of these a step reaches is assumed: two sets of
assumptions, a fast and a slow one, give a range. With --check it holds the range against every
point of a file of cost_head.py or cost_distributed.py.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from benchmarks import cost_counts
from benchmarks.cost_backbone import BackboneCounts, count_backbone
from benchmarks.cost_counts import FLOAT_BYTES, VIEWS, Sizes, Work
from benchmarks.cost_fit import Point, fit_head, least_seconds, of_part
from benchmarks.cost_head import training_step
from benchmarks.cost_points import Settings, read_points
from benchmarks.head import count_operations
from benchmarks.precision import Precision
from star_head.examples.command_line import run

GPUName = Literal["a100", "h100"]


class GPU(NamedTuple):
    """By its maker's data sheet.

    Attributes:
        peaks: Operations a second by precision, without sparsity.
        bandwidth: Of its memory, bytes a second.
        link: To other GPUs of the machine, bytes a second in one direction.
    """

    peaks: Mapping[str, float]
    bandwidth: float
    link: float


# "NVIDIA A100 Tensor Core GPU" (80 GB, SXM) and "NVIDIA H100 Tensor Core GPU" (SXM), data sheets.
# The latter's tensor core figures are with sparsity, here halved; NVLink's are of both directions.
GPUS: dict[str, GPU] = {
    "a100": GPU({"float32": 19.5e12, "tf32": 156e12, "bf16": 312e12}, 2.039e12, 600e9 / 2),
    "h100": GPU({"float32": 67e12, "tf32": 989e12 / 2, "bf16": 1979e12 / 2}, 3.35e12, 900e9 / 2),
}


class Assumed(NamedTuple):
    """What cannot be counted.

    Attributes:
        products: Share of the peak that products reach.
        memory: Share of the memory's bandwidth.
        link: Share of the link's.
        launch: Seconds for PyTorch to launch an operation.
        latency: Seconds of a message between GPUs, however small.
        overlap: Whether products, memory and the gradients' messages go on at once.
    """

    products: float
    memory: float
    link: float
    launch: float
    latency: float
    overlap: bool


FAST = Assumed(0.6, 0.9, 0.8, 3e-6, 10e-6, True)
SLOW = Assumed(0.1, 0.5, 0.4, 12e-6, 50e-6, False)


class Step(NamedTuple):
    """Of one process; those of backbone and head add up.

    Attributes:
        operations: Of products.
        numbers: Read from and written to memory.
        weights: Parameters.
        activations: Numbers kept for the backward pass.
        launches: Operations that PyTorch launches.
        norm_channels: Of batch norms, as often as these are passed.
        norms: Batch norms that are passed.
        gathered: Numbers received of the others for the loss.
        gathers: Messages that bring them.
    """

    operations: int = 0
    numbers: int = 0
    weights: int = 0
    activations: int = 0
    launches: int = 0
    norm_channels: int = 0
    norms: int = 0
    gathered: int = 0
    gathers: int = 0

    def plus(self, other: "Step") -> "Step":
        """Both parts."""
        return Step(*(a + b for a, b in zip(self, other, strict=True)))


class Messages(NamedTuple):
    """Of one process in a step.

    Attributes:
        gradients: Bytes sent by a ring, and as many received, of float32 gradients.
        loss: Bytes received of embeddings and, on the way back, sent of their gradients.
        norms: Bytes received of batch norms' statistics, both ways.
        waits: Messages beside which nothing else can be done.
    """

    gradients: float
    loss: float
    norms: float
    waits: int


def main(
    backbone: str = "resnet18",
    size: int = 96,
    experts: int = 16,
    batch: int = 256,
    gpus: int = 1,
    gpu: GPUName = "h100",
    precision: Precision = "bf16",
    curves: Path | None = None,
    check: Path | None = None,
) -> None:
    """Print what is predicted.

    Args:
        backbone: Any timm model.
        size: Side of the images in pixels.
        experts: Of the head.
        batch: Images on each GPU.
        gpus: Of one machine.
        gpu: Which.
        precision: That of the matrix products: float32, TF32 or autocast to bfloat16.
        curves: A file of cost_head.py: predicts for its machine, by the models fitted to it.
        check: A file of measured points to hold the prediction for ``gpu`` against.
    """
    if gpus < 1:
        raise ValueError(f"gpus: expected at least 1, got {gpus}")
    if check is not None:
        print_check(read_points(check), gpu)
        return
    counts = count_backbone(backbone, size)
    of_backbone, of_head = (
        backbone_step(counts, batch),
        head_step(batch, counts.width, experts, gpus),
    )
    step = of_backbone.plus(of_head)
    if curves is not None:
        if gpus > 1:
            raise ValueError(f"gpus: curves are of one device, got {gpus}")
        saved = read_points(curves)
        fast, slow = by_curves(saved["points"], of_backbone, of_head)
        print(f"by the curves of {saved['machine']['device']}: {fast:.3g} to {slow:.3g} s a step")
        return
    width = 4 if precision != "bf16" else 2
    print(f"{backbone}, {size} pixels, {experts} experts, batch {batch} on each of {gpus} {gpu}")
    print(f"{'':26}{'backbone':>12}{'head, loss':>12}")
    print_row("operations, 10^9", of_backbone.operations / 1e9, of_head.operations / 1e9)
    print_row("moved, GB", width * of_backbone.numbers / 1e9, width * of_head.numbers / 1e9)
    print_row("weights, 10^6", of_backbone.weights / 1e6, of_head.weights / 1e6)
    # With gradients and SGD's momentum, which autocast leaves in float32.
    print_row("weights' memory, GiB", *(12 * s.weights / 2**30 for s in (of_backbone, of_head)))
    kept = (width * s.activations / 2**30 for s in (of_backbone, of_head))
    print_row("activations, GiB", *kept)
    print_row("operations launched", of_backbone.launches, of_head.launches)
    sent = count_messages(step, gpus)
    if gpus > 1:
        print(f"gradients to all, MB      {sent.gradients / 1e6:12.1f}")
        print(f"the loss's gather, MB     {sent.loss / 1e6:12.1f}")
        print(f"batch norms, MB           {sent.norms / 1e6:12.1f}")
        print(f"messages waited for       {sent.waits:12}")
    fast, slow = (seconds(step, gpus, GPUS[gpu], precision, a) for a in (FAST, SLOW))
    print(f"a step, ms                {1e3 * fast:12.1f} to {1e3 * slow:.1f}")
    print(f"images a second           {gpus * batch / slow:12.0f} to {gpus * batch / fast:.0f}")


def print_row(name: str, of_backbone: float, of_head: float) -> None:
    """A quantity of both."""
    print(f"{name:26}{of_backbone:12.2f}{of_head:12.2f}")


def backbone_step(counts: BackboneCounts, batch: int) -> Step:
    """What the backbone takes of a step."""
    return Step(
        *counts.step(batch),
        weights=counts.weights,
        activations=batch * counts.activations,
        launches=counts.launches,
        norm_channels=VIEWS * counts.norm_channels,
        norms=VIEWS * counts.norms,
    )


def head_step(batch: int, width: int, experts: int, processes: int = 1) -> Step:
    """What head and loss take of a step."""
    sizes = Sizes(batch, width, experts, processes=processes)
    return Step(
        *cost_counts.head_step(sizes),
        weights=cost_counts.head_weights(sizes),
        activations=cost_counts.head_activations(sizes),
        launches=count_head_launches(batch),
        norm_channels=cost_counts.norm_channels(sizes),
        norms=cost_counts.NORM_PASSES,
        gathered=cost_counts.gathered_numbers(sizes),
        gathers=cost_counts.GATHERS,
    )


@cache
def count_head_launches(batch: int) -> int:
    """Operations of head and loss, which depend on the batch alone."""
    settings = {"part": "head", "batch": batch, "width": 8, "experts": 2}
    return count_operations(training_step(settings, torch.device("cpu"), "float32"))


def count_messages(step: Step, processes: int) -> Messages:
    """What a step sends among processes; DDP's ring passes all but a process's own share twice."""
    if processes == 1:
        return Messages(0, 0, 0, 0)
    ring = 2 * (processes - 1) / processes
    # Forward: mean, deviation and count of all processes. Backward: two sums over them.
    norms = (processes - 1) * (2 * step.norm_channels + step.norms) + ring * 2 * step.norm_channels
    return Messages(
        gradients=FLOAT_BYTES * ring * step.weights,
        loss=2 * FLOAT_BYTES * step.gathered,
        norms=FLOAT_BYTES * norms,
        waits=2 * (step.norms + step.gathers),
    )


def seconds(step: Step, processes: int, gpu: GPU, precision: str, assumed: Assumed) -> float:
    """Of a step under some assumptions."""
    number_bytes = 2 if precision == "bf16" else FLOAT_BYTES
    products = step.operations / (assumed.products * gpu.peaks[precision])
    memory = number_bytes * step.numbers / (assumed.memory * gpu.bandwidth)
    launching = assumed.launch * step.launches
    sent = count_messages(step, processes)
    gradients = sent.gradients / (assumed.link * gpu.link)
    waiting = (sent.loss + sent.norms) / (assumed.link * gpu.link) + assumed.latency * sent.waits
    if assumed.overlap:
        return max(products, memory, launching, gradients) + waiting
    return max(products + memory, launching) + gradients + waiting


def by_curves(points: Sequence[Point], of_backbone: Step, of_head: Step) -> tuple[float, float]:
    """Least and most seconds of a step, by the models fitted to a machine's points.

    The backbone's operations go at the slowest to the fastest of the rates that were measured of
    any backbone; the head's time has the errors of the fitted model, the largest left out.
    """
    fit = fit_head(points)
    errors = sorted(fit.errors)[1:-1]
    head = fit.seconds(Work(of_head.operations, of_head.numbers))
    rates = [
        backbone_step(
            count_backbone(point["settings"]["backbone"], point["settings"]["size"]),
            point["settings"]["batch"],
        ).operations
        / least_seconds(point)
        for point in of_part(points, "backbone")
    ]
    low, high = head / (1 + errors[-1]), head / (1 + errors[0])
    return of_backbone.operations / max(rates) + low, of_backbone.operations / min(rates) + high


def print_check(saved: Mapping[str, Any], gpu: GPUName) -> None:
    """Print a row for each measured point, and how many lay in the range."""
    precision = saved["machine"]["precision"]
    print(f"measured on {saved['machine']['device']}, {precision}; predicted for {gpu}")
    print(f"{'predicted, ms':>20} {'measured':>10}  point")
    inside = 0
    for point in saved["points"]:
        settings = point["settings"]
        processes = settings.get("processes", 1)
        step = point_step(settings)
        fast, slow = (seconds(step, processes, GPUS[gpu], precision, a) for a in (FAST, SLOW))
        measured = least_seconds(point)
        inside += fast <= measured <= slow
        told = ", ".join(f"{name} {value}" for name, value in settings.items())
        print(f"{1e3 * fast:9.2f} {1e3 * slow:10.2f} {1e3 * measured:10.2f}  {told}")
    print(f"{inside} of {len(saved['points'])} in the range")


def point_step(settings: Settings) -> Step:
    """What was measured at a point."""
    batch, processes = settings["batch"], settings.get("processes", 1)
    if settings["part"] == "head":
        return head_step(batch, settings["width"], settings["experts"])
    counts = count_backbone(settings["backbone"], settings["size"])
    step = backbone_step(counts, batch)
    if settings["part"] == "backbone":
        return step
    return step.plus(head_step(batch, counts.width, settings["experts"], processes))


if __name__ == "__main__":
    run(main)
