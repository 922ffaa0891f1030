"""Time and memory of a training step on several GPUs, for cost_predict.py to be held against.

    torchrun --nproc_per_node=4 -m benchmarks.cost_distributed --device=cuda --precision=bf16
    python -m benchmarks.cost_predict --check=runs/cost/distributed_4.json --gpu=h100

DistributedDataParallel, synchronised batch norms and gathered negatives, as the paper trains.
Batch norms are synchronised on GPUs only, since PyTorch's do not run on CPU.
"""

import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from benchmarks.cost_head import ON_GPU, QUICK, backbones, training_step
from benchmarks.cost_points import Points, peak_bytes
from benchmarks.precision import Precision, set_tf32
from star_head.examples.command_line import run
from star_head.examples.training.processes import leave_group

RUNS = 10


def main(
    device: str = "cuda",
    precision: Precision = "bf16",
    quick: bool = False,
    output: Path | None = None,
) -> None:
    """Measure whole steps that are not in the output, in as many processes as torchrun starts.

    Args:
        device: Where steps are run: cuda or cpu.
        precision: That of the matrix products: float32, TF32 or autocast to bfloat16.
        quick: Measure few and tiny points, to try it.
        output: JSON file for the points; runs/cost/distributed_N.json of N processes unless given.
    """
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    rank, processes = dist.get_rank(), dist.get_world_size()
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.manual_seed(0)
    set_tf32(precision == "tf32")
    points = Points(output or Path(f"runs/cost/distributed_{processes}.json"), device, precision)
    settings = [
        {**point, "processes": processes}
        for point in backbones(QUICK if quick else ON_GPU)
        if point["part"] == "step"
    ]
    # All processes read the file before the first one writes it.
    wanted = [point for point in settings if point not in points]
    dist.barrier()
    for point in tqdm(wanted, desc="Points", disable=rank > 0):
        step = training_step(point, points.device, precision, wrap)
        peak = peak_bytes(step, points.device)
        seconds = []
        for _ in range(RUNS):
            dist.barrier()
            begun = time.perf_counter()
            step()
            if device == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - begun)
        if rank == 0:
            points.add(point, seconds, peak, {})
        del step
    if rank == 0:
        print(f"{len(settings)} points of {processes} processes in {points.path}")
    leave_group()


def wrap(model: nn.Module) -> nn.Module:
    """What several processes train."""
    if next(model.parameters()).is_cuda:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    return DistributedDataParallel(model)


if __name__ == "__main__":
    run(main)
