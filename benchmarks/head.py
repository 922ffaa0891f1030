"""The routed head against a plain loop over experts, and against its bare matrix products.

Forward and backward in training mode; operations are counted by the profiler, time is the median
of runs taken in turn.
"""

import re
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import profile

from benchmarks.timing import time_in_turn
from star_head import RoutedExperts


class LoopedExperts(nn.Module):
    """The same mixture as the obvious loop over ``nn.Sequential`` experts."""

    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int, num_experts: int) -> None:
        super().__init__()
        self.experts = nn.ModuleList(
            nn.Sequential(
                nn.Linear(input_dim, hidden_dim, bias=False),
                nn.BatchNorm1d(hidden_dim),
                nn.ReLU(inplace=True),
                nn.Linear(hidden_dim, hidden_dim, bias=False),
                nn.BatchNorm1d(hidden_dim),
                nn.ReLU(inplace=True),
                nn.Linear(hidden_dim, output_dim),
            )
            for _ in range(num_experts)
        )
        self.routers = nn.ModuleList(nn.Linear(input_dim, num_experts) for _ in range(2))

    def forward(self, features: Tensor) -> Tensor:
        """Embed (B, D) features for both tasks, (B, 2, d)."""
        weights = [router(features).softmax(dim=1) for router in self.routers]
        z = [torch.zeros(()), torch.zeros(())]
        for k, expert in enumerate(self.experts):
            output = expert(features)
            for task in range(2):
                z[task] = z[task] + weights[task][:, k, None] * output
        return torch.stack(z, dim=1)


def bare_products(width: int, output_dim: int, num_experts: int, batch: int) -> Callable[[], None]:
    """The matrix products of one forward and backward pass of the bank, and nothing else."""
    x = torch.ones(width, batch)
    hidden = torch.ones(num_experts, width, batch)
    outputs = torch.ones(num_experts, output_dim, batch)
    first = torch.ones(num_experts * width, width)
    second = torch.ones(num_experts, width, width)
    last = torch.ones(num_experts, output_dim, width)

    def run() -> None:
        flat = first @ x
        first.t() @ flat
        flat @ x.t()
        for weight, inputs, grad in ((second, hidden, hidden), (last, hidden, outputs)):
            torch.bmm(weight, inputs)
            torch.bmm(weight.mT, grad)
            torch.bmm(grad, inputs.mT)

    return run


# Operations that only look at a tensor otherwise, or make room for one.
_WITHOUT_WORK = re.compile(
    "alias|as_strided|chunk|detach|diagonal|empty|expand|flatten|movedim|narrow|permute|reshape|"
    "resolve|select|slice|split|squeeze|transpose|unbind|unflatten|unsqueeze|view|t$"
)


def _works(event: FunctionEvent) -> bool:
    name = event.name.removeprefix("aten::").lstrip("_")
    return event.name.startswith("aten::") and not _WITHOUT_WORK.match(name)


def count_operations(run: Callable[[], None]) -> int:
    """Operations in one run that a GPU would launch a kernel for.

    Of the profiler's events, those that do more than look at a tensor otherwise and call no
    other that does.
    """
    with profile() as recorded:
        run()
    return sum(
        _works(event) and not any(map(_works, event.cpu_children)) for event in recorded.events()
    )


def main() -> None:
    """Print one row for each size."""
    print(
        "head, forward + backward        ops: loop   ours  ratio |  ms: loop   ours  bare | "
        "loop/ours  ours/bare"
    )
    for width, num_experts, batch in ((512, 16, 256), (512, 16, 64), (2048, 8, 64)):
        features = torch.randn(batch, width, requires_grad=True)
        weight = torch.randn(batch, 2, 128)
        loop = LoopedExperts(width, width, 128, num_experts)
        bank = RoutedExperts(width, width, 128, num_experts, num_tasks=2)

        def train(module: nn.Module, x: Tensor = features, w: Tensor = weight) -> None:
            module.zero_grad()
            module(x).backward(w)
            x.grad = None

        runs: dict[str, Callable[[], None]] = {
            "loop": partial(train, loop),
            "ours": partial(train, bank),
            "bare": bare_products(width, 128, num_experts, batch),
        }
        seconds = time_in_turn(runs, rounds=40)
        ops = {name: count_operations(runs[name]) for name in ("loop", "ours")}
        print(
            f"width {width:4}, {num_experts:2} experts, batch {batch:3}"
            f"   {ops['loop']:6} {ops['ours']:6} {ops['loop'] / ops['ours']:6.1f} |"
            f"{1e3 * seconds['loop']:10.1f} {1e3 * seconds['ours']:6.1f}"
            f" {1e3 * seconds['bare']:5.1f} |"
            f" {seconds['loop'] / seconds['ours']:9.2f} {seconds['ours'] / seconds['bare']:10.2f}"
        )


if __name__ == "__main__":
    main()
