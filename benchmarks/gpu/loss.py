"""NT-Xent against lightly's: time, peak memory, and how far apart they are."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.cost_points import peak_bytes
from benchmarks.gpu.cases import Case, Figures
from benchmarks.gpu.sizes import Sizes
from benchmarks.precision import set_tf32
from benchmarks.timing import time_in_turn
from star_head import NTXentLoss

D = 128


def cases(device: str, sizes: Sizes) -> Iterator[Case]:
    """Ours at every n, then beside lightly's."""
    for n in sizes.losses:
        yield Case(f"n = {n:,}, ours alone", partial(measure, device, n))
    for n in sizes.losses:
        run = partial(compare, device, n, sizes.seconds)
        yield Case(f"n = {n:,}, against lightly's", run, needs=("lightly",))


def measure(device: str, n: int) -> Figures:
    """Time and peak memory."""
    train = training(NTXentLoss(0.2), *embeddings(device, n))
    seconds = time_in_turn({"ours": train}, rounds=10)["ours"]
    return {"ours ms": 1e3 * seconds, "peak MiB": peak_bytes(train, torch.device(device)) / 2**20}


def compare(device: str, n: int, seconds: float) -> Figures:
    """The same of lightly's, and differences; None where lightly's does not fit the memory."""
    from lightly.loss import NTXentLoss as LightlyNTXentLoss

    losses = {"ours": NTXentLoss(0.2), "lightly": LightlyNTXentLoss(0.2)}
    a, b = embeddings(device, n)
    runs = {name: training(loss, a, b) for name, loss in losses.items()}
    timed: dict[str, float] | None = None
    # Outside this block the error is gone, and with it the tensors of lightly's that it refers to.
    with contextlib.suppress(torch.OutOfMemoryError):
        peaks = {name: peak_bytes(run, torch.device(device)) for name, run in runs.items()}
        timed = time_in_turn(runs, rounds=10, most_seconds=seconds)
    if timed is None:
        runs["ours"]()  # must fit on its own
        return dict.fromkeys(("ours ms", "lightly ms", "lightly / ours", "peak, ours / lightly"))
    values, gradients = {}, {}
    for name, loss in losses.items():
        value = loss(a, b)
        (gradients[name],) = torch.autograd.grad(value, a)
        values[name] = value.item()
    largest = gradients["lightly"].abs().max()
    return {
        "ours ms": 1e3 * timed["ours"],
        "lightly ms": 1e3 * timed["lightly"],
        "lightly / ours": timed["lightly"] / timed["ours"],
        "lightly peak MiB": peaks["lightly"] / 2**20,
        "peak, ours / lightly": peaks["ours"] / peaks["lightly"],
        "loss apart": abs(values["ours"] / values["lightly"] - 1),
        "gradient apart": float((gradients["ours"] - gradients["lightly"]).abs().max() / largest),
    }


def embeddings(device: str, n: int) -> tuple[Tensor, Tensor]:
    """Two sides of n that take gradients; float32 is float32 from here on."""
    set_tf32(False)
    torch.manual_seed(0)
    return (
        torch.randn(n, D, device=device, requires_grad=True),
        torch.randn(n, D, device=device, requires_grad=True),
    )


def training(loss: nn.Module, a: Tensor, b: Tensor) -> Callable[[], None]:
    """A forward and backward pass, which leaves no gradients behind."""

    def train() -> None:
        loss(a, b).backward()
        a.grad = b.grad = None

    return train
