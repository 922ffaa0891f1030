"""NT-Xent against lightly's, forward and backward: time and peak memory."""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
from lightly.loss import NTXentLoss as LightlyNTXentLoss
from torch import nn

from benchmarks.timing import time_in_turn
from star_head import NTXentLoss

N, D = 2048, 128


def peak_memory(loss: nn.Module) -> float:
    """Most MiB held during one forward and backward pass, above what was held before.

    Of a process of its own, as Linux counts resident memory.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(_peak_memory, loss).result()


def _peak_memory(loss: nn.Module) -> float:
    a, b = (torch.randn(N, D, requires_grad=True) for _ in range(2))
    loss(a[:64], b[:64]).backward()  # loads what the first call loads
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    loss(a, b).backward()
    return _resident("VmHWM") - before


def _resident(field: str) -> float:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith(field)) / 1024


def main() -> None:
    """Print one row for each loss, and how far they are apart."""
    a, b = (torch.randn(N, D, requires_grad=True) for _ in range(2))
    losses = {"lightly": LightlyNTXentLoss(0.2), "ours": NTXentLoss(0.2)}

    def train(loss: nn.Module) -> None:
        a.grad = b.grad = None
        loss(a, b).backward()

    seconds = time_in_turn({name: partial(train, loss) for name, loss in losses.items()}, rounds=15)
    peaks = {name: peak_memory(loss) for name, loss in losses.items()}
    values, gradients = {}, {}
    for name, loss in losses.items():
        values[name] = loss(a, b)
        (gradients[name],) = torch.autograd.grad(values[name], a)
    print(f"NT-Xent, n = {N}, d = {D}      ms   speed   peak MiB   share")
    for name in losses:
        print(
            f"{name:20} {1e3 * seconds[name]:9.1f} {seconds['lightly'] / seconds[name]:7.2f}"
            f" {peaks[name]:10.1f} {peaks[name] / peaks['lightly']:7.3f}"
        )
    apart = (gradients["ours"] - gradients["lightly"]).abs().max()
    print(
        f"loss apart by {(values['ours'] / values['lightly'] - 1).abs():.1e}, gradients by "
        f"{apart / gradients['lightly'].abs().max():.1e} of the largest"
    )


if __name__ == "__main__":
    main()
