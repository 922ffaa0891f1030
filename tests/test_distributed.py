"""Two gloo processes against one process with the whole batch."""

import gc
import os
import warnings
from pathlib import Path

import lightly.loss
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from star_head import STAR, NTXentLoss, STARLoss, STARProjectionHead, STARViews
from star_head.head import STAREmbeddings

WORLD = 2
N = 6


def make_model(gather: bool, norm: type[nn.Module] = nn.LayerNorm) -> STAR:
    """A model whose temperature is learned too."""
    torch.manual_seed(1)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(12, 10))
    head = STARProjectionHead(10, 8, 4, num_experts=3, statistics="stl10", norm_layer=norm)
    temperature = nn.Parameter(torch.tensor(0.2))
    return STAR(backbone, head, STARLoss(temperature, gather_distributed=gather)).double()


def make_views() -> STARViews:
    torch.manual_seed(2)
    images = torch.randn(3, WORLD * N, 3, 2, 2, dtype=torch.float64)
    params = 50 * torch.rand(2, WORLD * N, 11)
    return STARViews(images[0], tuple(images[1:]), tuple(params))


def half(views: STARViews, rank: int) -> STARViews:
    mine = slice(rank * N, (rank + 1) * N)
    images, params = (tuple(t[mine] for t in each) for each in (views.views, views.params))
    return STARViews(views.original[mine], images, params)


def worker(rank: int, folder: str, compiled: bool) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD
    )
    torch.save(compute(rank, compiled), f"{folder}/{rank}.pt")
    dist.barrier()
    gc.collect()  # gloo's threads abort a process that ends before them; models in cycles keep them
    dist.destroy_process_group()


def compute(rank: int, compiled: bool) -> dict:
    mine = slice(rank * N, (rank + 1) * N)
    torch.manual_seed(3)
    whole = torch.randn(2, WORLD * N, 5, dtype=torch.float64)
    a, b = (z[mine].clone().requires_grad_() for z in whole)
    loss: nn.Module = NTXentLoss(0.1, gather_distributed=True)
    if compiled:
        loss = torch.compile(loss, fullgraph=True, backend="aot_eager")
    value = loss(a, b)
    value.backward()

    # Layer norm, so that no batch statistic sets one process apart from two.
    model = DistributedDataParallel(make_model(gather=True))
    part = half(make_views(), rank)
    terms = model(part)
    terms.total.backward()
    batch_normed = DistributedDataParallel(make_model(gather=True, norm=nn.BatchNorm1d))
    for _ in range(2):
        batch_normed(part).total.backward()
    return {
        "batch norm": {n: p.grad for n, p in batch_normed.module.named_parameters()},
        "loss": value.detach(),
        "grads": [a.grad, b.grad],
        "total": terms.total.detach(),
        "parameters": {n: p.grad for n, p in model.module.named_parameters()},
        "warnings": warned(part),
    }


def warned(part: STARViews) -> dict[str, list[str]]:
    """What is said in two steps of training, and in one of evaluation, by the loss."""
    lightlys = [lightly.loss.NTXentLoss(gather_distributed=gather) for gather in (False, True)]
    losses = {
        "default": None,
        "gathers": STARLoss(gather_distributed=True),
        "alone": STARLoss(),
        "lightly's alone": STARLoss(0.2, 1.0, True, lightlys[0]),
        "lightly's gathers": STARLoss(0.2, 1.0, True, lightlys[1]),
        "cannot": STARLoss(0.2, 1.0, True, lightly.loss.NegativeCosineSimilarity()),
    }
    said = {}
    for name, loss in losses.items():
        star = make_model(gather=True).float()
        model = DistributedDataParallel(STAR(star.backbone, star.head, loss))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.eval()(part.to(torch.float32))
            before = len(caught)
            for _ in range(2):
                model.train()(part.to(torch.float32)).total.backward()
        said[name] = [
            str(warning.message) for warning in caught if "loss: " in str(warning.message)
        ]
        assert before == 0 or not said[name]
    return said


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_two_processes_equal_one(tmp_path: Path, compiled: bool) -> None:
    mp.spawn(worker, (str(tmp_path), compiled), nprocs=WORLD)
    results = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]

    check_warnings([result["warnings"] for result in results])

    torch.manual_seed(3)
    a, b = (z.requires_grad_() for z in torch.randn(2, WORLD * N, 5, dtype=torch.float64))
    loss = NTXentLoss(0.1)(a, b)
    loss.backward()
    torch.testing.assert_close(torch.stack([r["loss"] for r in results]).mean(), loss.detach())
    for i, z in enumerate((a, b)):
        # A process's gradients are W times the whole batch's.
        gathered = torch.cat([r["grads"][i] for r in results])
        torch.testing.assert_close(gathered, WORLD * z.grad)

    model = make_model(gather=False)
    terms = model(make_views())
    terms.total.backward()
    torch.testing.assert_close(
        torch.stack([r["total"] for r in results]).mean(), terms.total.detach()
    )
    for name, parameter in model.named_parameters():
        for result in results:
            torch.testing.assert_close(result["parameters"][name], parameter.grad, msg=name)

    # Batch statistics are each process's own: one process must take the halves in turn.
    model = make_model(gather=False, norm=nn.BatchNorm1d)
    halves = [model.embed(half(make_views(), rank)) for rank in range(WORLD)]
    embeddings = [
        STAREmbeddings(*(torch.cat(z) for z in zip(*pair, strict=True)))
        for pair in zip(*(part.embeddings for part in halves), strict=True)
    ]
    predicted = [torch.cat([part.predicted[view] for part in halves]) for view in range(2)]
    model.loss(*embeddings, *predicted).total.backward()
    for name, parameter in model.named_parameters():
        for result in results:
            torch.testing.assert_close(result["batch norm"][name], 2 * parameter.grad, msg=name)


def check_warnings(said: list[dict[str, list[str]]]) -> None:
    """By the first process alone, once, with the numbers, and only of what could gather."""
    assert all(messages == [] for messages in said[1].values())
    alone = {"alone", "lightly's alone"}
    assert {name for name, messages in said[0].items() if messages} == alone
    for name in alone:
        (message,) = said[0][name]
        assert f"NTXentLoss compares the {N} images of each of {WORLD} processes" in message
        assert f"not all {WORLD * N}; gather_distributed=True" in message


def test_gathering_without_processes_is_the_plain_loss() -> None:
    a, b = torch.randn(2, 5, 4)
    assert NTXentLoss(0.2, gather_distributed=True)(a, b) == NTXentLoss(0.2)(a, b)
