"""The routed head against a loop over experts, by size and precision, eager and compiled."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu.cases import Case, Figures
from benchmarks.gpu.sizes import Sizes
from benchmarks.head import LoopedExperts, count_operations
from benchmarks.precision import Precision, autocast, set_tf32
from benchmarks.timing import time_in_turn
from star_head import RoutedExperts

Head = tuple[int, int, int]


def eager_cases(device: str, sizes: Sizes) -> Iterator[Case]:
    """Every size in every precision."""
    for head in sizes.heads:
        for precision in sizes.precisions:
            run = partial(compare_eager, device, head, precision, sizes.seconds)
            yield Case(f"{title(head)}, {precision}", run)


def compiled_cases(device: str, sizes: Sizes) -> Iterator[Case]:
    """The first size: whether it is one graph with the same result, then its speed."""
    head = sizes.heads[0]
    # torch.compile needs Triton to make kernels for GPUs; on CPU it calls a C++ compiler.
    needs = ("triton",) if torch.device(device).type == "cuda" else ()
    yield Case(f"{title(head)}, float32", partial(compiled_apart, device, head), needs)
    for precision in sizes.precisions:
        run = partial(compare_compiled, device, head, precision, sizes.seconds)
        yield Case(f"{title(head)}, {precision}, speed", run, needs)


def title(head: Head) -> str:
    """A size in words."""
    return "width {}, {} experts, batch {}".format(*head)


def compare_eager(device: str, head: Head, precision: Precision, seconds: float) -> Figures:
    """Time and operations of both."""
    runs = {
        name: training(module, device, head, precision)
        for name, module in modules(device, head).items()
    }
    timed = time_in_turn(runs, most_seconds=seconds)
    operations = {name: count_operations(run) for name, run in runs.items()}
    return {
        "loop ms": 1e3 * timed["loop"],
        "ours ms": 1e3 * timed["ours"],
        "loop / ours": timed["loop"] / timed["ours"],
        "ops, ours / loop": operations["ours"] / operations["loop"],
    }


def compare_compiled(device: str, head: Head, precision: Precision, seconds: float) -> Figures:
    """Time of both compiled, and of ours eager beside them."""
    ours, loop = modules(device, head).values()
    contenders = {
        "ours, eager": ours,
        "ours": torch.compile(ours, fullgraph=True),
        "loop": torch.compile(loop),
    }
    runs = {
        name: training(module, device, head, precision)  # type: ignore[arg-type]
        for name, module in contenders.items()
    }
    timed = time_in_turn(runs, most_seconds=seconds)
    return {
        "loop ms": 1e3 * timed["loop"],
        "ours ms": 1e3 * timed["ours"],
        "ours eager ms": 1e3 * timed["ours, eager"],
        "compiled loop / ours": timed["loop"] / timed["ours"],
    }


def compiled_apart(device: str, head: Head) -> Figures:
    """How far the compiled head's embeddings and gradients are from the eager one's."""
    set_tf32(False)
    ours = modules(device, head)["ours"]
    features, weight = inputs(device, head)
    results: list[tuple[Tensor, Tensor]] = []
    compiled: Any = torch.compile(ours, fullgraph=True)
    for module in (ours, compiled):
        z = module(features)
        results.append((z, *torch.autograd.grad((z * weight).sum(), features)))
    return {
        "compiled apart": max(
            float((one - other).detach().abs().max() / one.detach().abs().max())
            for one, other in zip(*results, strict=True)
        )
    }


def modules(device: str, head: Head) -> dict[str, nn.Module]:
    """Both, for two tasks and embeddings 128 wide."""
    torch.manual_seed(0)
    width, experts, _ = head
    return {
        "ours": RoutedExperts(width, width, 128, experts, num_tasks=2).to(device),
        "loop": LoopedExperts(width, width, 128, experts).to(device),
    }


def inputs(device: str, head: Head) -> tuple[Tensor, Tensor]:
    """Features that take gradients, and the embeddings' gradients."""
    width, _, batch = head
    features = torch.randn(batch, width, device=device, requires_grad=True)
    return features, torch.randn(batch, 2, 128, device=device)


def training(
    module: nn.Module, device: str, head: Head, precision: Precision
) -> Callable[[], None]:
    """A forward and backward pass."""
    features, weight = inputs(device, head)

    def train() -> None:
        module.zero_grad()
        features.grad = None
        with autocast(device, precision):
            z = module(features)
        (z * weight).sum().backward()

    return train
