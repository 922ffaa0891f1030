"""STAR on a convolutional and a transformer backbone: compiled, in bfloat16, in two processes."""

import copy
import gc
import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from lightly.loss import NegativeCosineSimilarity
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from star_head import STAR, STARLoss, STARProjectionHead, STARViews
from star_head.adapters.lightly import STARTransform
from star_head.adapters.timm import create_backbone

BACKBONES = ["mobilenetv3_small_050", "test_vit"]
WORLD, N, SIZE = 2, 4, 32


def make_model(
    name: str, norm: type[nn.Module] | None = nn.LayerNorm, gather: bool = False
) -> STAR:
    torch.manual_seed(1)
    backbone = create_backbone(name, input_size=SIZE)
    head = STARProjectionHead(
        backbone.num_features, 32, 16, num_experts=4, statistics="stl10", norm_layer=norm
    )
    return STAR(backbone, head, STARLoss(gather_distributed=gather))


def make_views(count: int = N) -> STARViews:
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(3, count, 3, SIZE, SIZE, generator=generator)
    params = torch.rand(2, count, 11, generator=generator)
    return STARViews(images[0], tuple(images[1:]), tuple(params))


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])  # as quick to compile as any
def test_compiled(name: str) -> None:
    model = make_model(name).eval()  # so that no dropout is drawn, nor statistics of a batch
    twin = copy.deepcopy(model)
    compiled = torch.compile(model, fullgraph=True)(make_views()).total
    plain = twin(make_views()).total
    torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-4)
    compiled.backward()
    plain.backward()
    expected = gradients(twin)
    assert gradients(model).keys() == expected.keys()
    for key, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, expected[key], rtol=1e-2, atol=1e-3, msg=key)


@pytest.mark.parametrize("name", BACKBONES)
def test_bfloat16(name: str) -> None:
    model = make_model(name)
    expected = copy.deepcopy(model)(make_views()).total
    with torch.autocast("cpu", torch.bfloat16):
        total = model(make_views()).total
    torch.testing.assert_close(total.float(), expected, rtol=0.1, atol=0)
    total.backward()
    for key, gradient in gradients(model).items():
        assert gradient.dtype == torch.float32, key
        assert gradient.isfinite().all(), key


def worker(rank: int, folder: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=WORLD)
    mine = slice(rank * N, (rank + 1) * N)
    views = make_views(WORLD * N)
    part = STARViews(
        views.original[mine],
        tuple(view[mine] for view in views.views),
        tuple(params[mine] for params in views.params),
    )
    for name in BACKBONES:
        # Without batch statistics, so that two processes can equal one.
        model = DistributedDataParallel(make_model(name, gather=True).eval())
        model(part).total.backward()
        torch.save(gradients(model.module), f"{folder}/{name}_{rank}.pt")
    dist.barrier()
    # gloo's threads abort a process that ends before them.
    del model
    gc.collect()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def in_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each process's gradients of each backbone."""
    folder = tmp_path_factory.mktemp("two")
    mp.spawn(worker, (str(folder),), nprocs=WORLD)
    return folder


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.slow  # the head alone: tests/test_distributed.py
def test_two_processes_equal_one(name: str, in_two: Path) -> None:
    model = make_model(name).eval()
    model(make_views(WORLD * N)).total.backward()
    expected = gradients(model)
    for rank in range(WORLD):
        found = torch.load(in_two / f"{name}_{rank}.pt", weights_only=True)
        assert found.keys() == expected.keys()
        for key, gradient in found.items():
            torch.testing.assert_close(gradient, expected[key], rtol=1e-2, atol=1e-4, msg=key)


@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.RMSNorm, None])
@pytest.mark.parametrize(
    ("batch_size", "count"), [(3, 5), pytest.param(2, 5, marks=pytest.mark.slow), (1, 2)]
)
def test_tiny_and_uneven_batches_train(
    norm: type[nn.Module] | None, batch_size: int, count: int
) -> None:
    transform = STARTransform(SIZE)
    images = load_digits().images[:count]
    views = [
        transform(Image.fromarray((16 * digit).clip(0, 255).astype("uint8"))) for digit in images
    ]
    model = make_model("test_vit", norm)
    if batch_size < 3:  # NT-Xent has nothing to compare a single image with
        loss = NegativeCosineSimilarity()
        model.loss = STARLoss(invariant_loss=loss, equivariant_loss=loss)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    losses, sizes = [], set()
    for _ in range(20):
        total = 0.0
        for batch in DataLoader(views, batch_size):
            sizes.add(len(batch.original))
            loss = model(batch).total
            assert loss.isfinite()
            optimizer.zero_grad()
            loss.backward()
            assert all(gradient.isfinite().all() for gradient in gradients(model).values())
            optimizer.step()
            total += loss.item()
        losses.append(total)
    assert sizes == {batch_size, count % batch_size or batch_size}
    assert losses[-1] < losses[0] - 0.1 * abs(losses[0])
