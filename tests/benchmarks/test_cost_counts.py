"""Counts against PyTorch's own counters, hooks and processes made up."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

import star_head.losses
from benchmarks import cost_counts
from benchmarks.cost_backbone import count_backbone
from benchmarks.cost_counts import Sizes
from benchmarks.cost_points import count_products
from star_head import STAR, NTXentLoss, STARLoss, STARProjectionHead, STARViews

SIZES = [Sizes(6, 8, 1, 4), Sizes(32, 64, 4, 16), Sizes(5, 24, 7, 12), Sizes(300, 16, 2, 8)]


class Step(NamedTuple):
    model: STAR
    views: STARViews
    features: list[Tensor]


def make_step(sizes: Sizes) -> Step:
    head = STARProjectionHead(
        sizes.width, sizes.width, sizes.output, num_experts=sizes.experts, statistics="stl10"
    )
    loss = STARLoss(gather_distributed=True)
    features = [torch.randn(sizes.batch, sizes.width, requires_grad=True) for _ in range(3)]
    params = torch.rand(2, sizes.batch, 11)
    views = STARViews(features[0], features[1:], tuple(params))
    return Step(STAR(nn.Identity(), head, loss), views, features)


def pretend_processes(monkeypatch: pytest.MonkeyPatch, processes: int) -> list[Tensor]:
    """This process's embeddings in place of the others'."""
    gathered: list[Tensor] = []

    def gather(tensor: Tensor) -> Tensor:
        gathered.append(tensor)
        return torch.cat([tensor] * processes)

    monkeypatch.setattr(star_head.losses, "world_size", lambda: processes)
    monkeypatch.setattr(star_head.losses, "gather", gather)
    return gathered


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("sizes", SIZES)
def test_operations_are_those_of_pytorchs_counter(
    sizes: Sizes, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = sizes._replace(processes=processes)
    if processes > 1:
        pretend_processes(monkeypatch, processes)
    step = make_step(sizes)
    found = count_products(lambda: step.model(step.views).total.backward())
    assert found == cost_counts.head_step(sizes).operations


@pytest.mark.parametrize("sizes", SIZES)
def test_operations_of_the_parts(sizes: Sizes) -> None:
    model, views, features = make_step(sizes)
    embedding = torch.randn(sizes.batch, sizes.output, requires_grad=True)
    found = [
        count_products(lambda: model.head.experts(features[0]).sum().backward()),
        count_products(lambda: model.head.predict(embedding, views.params[0]).sum().backward()),
        count_products(lambda: NTXentLoss()(embedding, embedding.detach()).backward()),
    ]
    work = (
        cost_counts.experts(sizes),
        cost_counts.predictor(sizes),
        cost_counts.nt_xent(sizes.batch, sizes.output),
    )
    assert found == [part.operations for part in work]


def test_products_are_counted_in_place_too() -> None:
    a, b, c = torch.ones(3, 5), torch.ones(5, 2), torch.ones(3, 2)
    assert count_products(lambda: c.addmm_(a, b)) == 2 * 3 * 5 * 2
    assert count_products(lambda: torch.mm(a, b, out=c)) == 2 * 3 * 5 * 2


@pytest.mark.parametrize("sizes", SIZES)
def test_the_documentations_formulas(sizes: Sizes) -> None:
    sizes = sizes._replace(processes=2)
    b, w, e, d, processes = sizes
    experts = 3 * 6 * b * e * (2 * w * w + w * d) + 3 * 12 * b * e * (d + w)
    predictor = 2 * b * d * (168 * d + 44)
    loss = 120 * processes * b * b * d
    assert cost_counts.head_step(sizes).operations == experts + predictor + loss


@pytest.mark.parametrize("sizes", SIZES)
def test_weights(sizes: Sizes) -> None:
    model = make_step(sizes).model
    assert cost_counts.head_weights(sizes) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("sizes", SIZES)
def test_activations_are_what_autograd_keeps(
    sizes: Sizes, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = sizes._replace(processes=processes)
    if processes > 1:
        pretend_processes(monkeypatch, processes)
    model, views, features = make_step(sizes)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    # Of the parameters, each view's standardised ones are kept; those given are the batch.
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        total = model(views).total
    for tensor in [*model.parameters(), *model.buffers(), *features]:
        kept.pop(tensor.untyped_storage().data_ptr(), None)
    assert total.requires_grad
    assert sum(kept.values()) == 4 * cost_counts.head_activations(sizes)


@pytest.mark.parametrize("sizes", SIZES)
def test_norms_that_a_step_passes(sizes: Sizes) -> None:
    step = make_step(sizes)
    passed: list[int] = []
    for module in step.model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.register_forward_hook(lambda norm, *args: passed.append(norm.num_features))
    step.model(step.views)
    assert len(passed) == cost_counts.NORM_PASSES
    assert sum(passed) == cost_counts.norm_channels(sizes)


def test_what_the_loss_gathers(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = Sizes(6, 8, 2, 4, processes=3)
    gathered = pretend_processes(monkeypatch, sizes.processes)
    step = make_step(sizes)
    step.model(step.views)
    assert len(gathered) == cost_counts.GATHERS
    others = sizes.processes - 1
    numbers = sum(others * tensor.numel() for tensor in gathered)
    assert numbers == cost_counts.gathered_numbers(sizes)


def test_a_product_moves_its_matrices() -> None:
    a, b = torch.ones(4, 3, 5), torch.ones(4, 5, 2)
    moved = a.numel() + b.numel() + torch.bmm(a, b).numel()
    assert cost_counts.product(3, 5, 2, count=4) == (2 * 4 * 3 * 5 * 2, moved)
    assert cost_counts.layer(3, 5, 2).numbers == 3 * (15 + 10 + 6)


def test_a_vits_operations() -> None:
    counts = count_backbone("vit_tiny_patch16_224", 32)
    patches, width, depth = 4, 192, 12
    tokens = patches + 1
    blocks = depth * (12 * tokens * width**2 + 2 * tokens**2 * width)
    stem = patches * 3 * 16 * 16 * width
    # Forward, and backward to the weights and to the inputs, of which the images take none.
    assert counts.operations == 3 * 2 * (3 * blocks + 2 * stem)
    assert counts.norms == counts.norm_channels == 0
    assert counts.width == width


def test_a_resnets_counts() -> None:
    counts = count_backbone("test_resnet", 32)
    assert counts.norms > 0
    assert counts.norm_channels >= counts.norms
    twice, once = counts.step(8), counts.step(4)
    assert twice.operations == 2 * once.operations
    assert twice.numbers < 2 * once.numbers  # the weights are moved once
