"""What is said where a named tuple is taken for a tensor, or a tensor for one."""

import copy
import math
import operator
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightly.loss
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightly.models.modules import SimCLRProjectionHead
from torch import Tensor, nn
from torch.utils.data import default_collate

from star_head import (
    STAR,
    AugmentationRecord,
    NTXentLoss,
    STAREmbeddings,
    STARLoss,
    STARProjectionHead,
    STARViews,
)
from star_head.adapters.lightly import equivariant_loss


def make_views(n: int = 6) -> STARViews:
    return STARViews(
        torch.rand(n, 3, 4, 4), tuple(torch.rand(2, n, 3, 4, 4)), tuple(torch.rand(2, n, 11))
    )


def make_head() -> STARProjectionHead:
    return STARProjectionHead(48, 8, 4, num_experts=2, statistics="stl10")


def make_star(**options: Any) -> STAR:
    return STAR(nn.Flatten(), make_head(), **options)


@torch.no_grad()
def make_tuples() -> dict[str, tuple[Any, str]]:
    """Every named tuple that can be taken for a tensor, and what it has to point to."""
    model, views = make_star(), make_views()
    output = model.embed(views)
    return {
        "embeddings": (output.embeddings[0], "z1.invariant and z2.invariant"),
        "terms": (model(views), "terms.total"),
        "output": (output, r"model.loss\(\*output.embeddings, \*output.predicted\).total"),
        "views": (views, "views.original and each of views.views"),
        "record": (AugmentationRecord(0, 0, 8, 8), r"record.vector\(\)"),
    }


TUPLES = ["embeddings", "terms", "output", "views", "record"]

MISTAKES: dict[str, Callable[[Any], Any]] = {
    **{name: operator.attrgetter(name) for name in ("backward", "item", "device", "shape", "cuda")},
    "sub": lambda x: x - 1.0,
    "float +": lambda x: 1.0 + x,
    "+ float": lambda x: x + 1.0,
    "twice": lambda x: 2 * x,
    "times 2": lambda x: x * 2,
    "sum": lambda x: x + x,
    "sum()": lambda x: sum([x, x]),
    "tensor *": lambda x: torch.ones(2) * x,
    "* tensor": lambda x: x * torch.ones(2),
    "/": lambda x: x / 4,
    "numpy *": lambda x: np.float64(2) * x,
    "array +": lambda x: np.ones(2) + x,
    "@": lambda x: x @ torch.ones(4, 4),
    "-": lambda x: -x,
    "float": float,
    "isfinite": math.isfinite,
    "round": lambda x: round(x, 3),
    "abs": abs,
    "<": lambda x: x < 0.5,
    ">=": lambda x: x >= 0.5,
    "format": lambda x: f"{x:.4f}",
    "normalize": lambda x: F.normalize(x, dim=1),
    "linear": nn.Linear(4, 4),
    "cosine": lambda x: F.cosine_similarity(x, x),
    "isnan": torch.isnan,
}  # fmt: skip


@pytest.mark.parametrize("which", TUPLES)
def test_a_tuple_taken_for_a_tensor_says_what_was_meant(which: str) -> None:
    taken, meant = make_tuples()[which]
    for name, mistake in MISTAKES.items():
        with pytest.raises((AttributeError, TypeError), match=f"{type(taken).__name__} .*{meant}"):
            pytest.fail(f"{name}: {mistake(taken)}")


@pytest.mark.parametrize("which", TUPLES)
def test_it_stays_a_tuple(which: str) -> None:
    taken, _ = make_tuples()[which]
    cls = type(taken)
    assert isinstance(taken, tuple)
    assert not hasattr(taken, "backward")
    assert not hasattr(taken, "__array__")  # by which arrays are told from other containers
    assert taken[0] is getattr(taken, cls._fields[0])
    joined = (None,) + taken + ("last",)  # noqa: RUF005
    assert type(joined) is tuple
    assert [id(part) for part in joined[1:-1]] == [id(part) for part in taken]
    assert type(taken._replace()) is cls
    assert list(taken._asdict()) == list(cls._fields)
    assert f"{taken}" == str(taken)
    for copied in (copy.deepcopy(taken), copy.copy(taken), pickle.loads(pickle.dumps(taken))):
        assert type(copied) is cls
        assert len(copied) == len(taken)
    assert cls(*range(len(taken))) < tuple(range(1, len(taken) + 1))
    assert cls(*range(len(taken))) == tuple(range(len(taken)))
    tree = torch.utils._pytree.tree_map(lambda part: part, taken)
    assert type(tree) is cls
    if which in ("views", "record"):
        assert type(default_collate([taken, taken])) is cls


@pytest.mark.parametrize(
    "name", ["NTXentLoss", "BarlowTwinsLoss", "VICRegLoss", "NegativeCosineSimilarity", "DCLLoss"]
)
def test_lightlys_losses_given_embeddings(name: str) -> None:
    z1, z2 = make_star().embed(make_views()).embeddings
    for loss in (getattr(lightly.loss, name)(), NTXentLoss()):
        with pytest.raises((AttributeError, TypeError), match="z1.invariant and z2.invariant"):
            loss(z1, z2)
    assert getattr(lightly.loss, name)()(z1.invariant, z2.invariant).isfinite()


def test_a_prediction_takes_the_equivariant_embedding_and_a_views_parameters() -> None:
    head, views = make_head(), make_views()
    z = head(views.original.flatten(1))
    with pytest.raises(TypeError, match="embedding: .*a STAREmbeddings .*predict takes z.equivari"):
        head.predict(z, views.params[0])
    with pytest.raises(TypeError, match=r"params: .*a tuple of 2 \(a tensor of shape \(6, 11\)"):
        head.predict(z.equivariant, views.params)


def test_star_loss_takes_embeddings_and_tensors_as_predictions() -> None:
    z = STAREmbeddings(*torch.randn(2, 6, 4))
    a = torch.randn(6, 4)
    loss = STARLoss()
    with pytest.raises(
        TypeError, match=r"z1: expected STAREmbeddings.*got a tensor of shape \(6, 4\); NTXentLoss"
    ):
        loss(a, a)
    with pytest.raises(
        TypeError, match=r"z2: expected STAREmbeddings.*got a tuple of 2 \(a tensor"
    ):
        loss(z, (a, a), a, a)
    with pytest.raises(TypeError, match="z1: .*got a STARLossTerms of total.*terms.total"):
        loss(loss(z, z, a, a), z, a, a)
    with pytest.raises(TypeError, match="predicted1: expected a tensor.*got a STAREmbeddings"):
        loss(z, z, z, z)
    with pytest.raises(TypeError, match="z2: .*got None"):
        loss(z, None, a, a)


def test_a_loss_is_a_module_that_gives_a_tensor() -> None:
    z, a = STAREmbeddings(*torch.randn(2, 6, 4)), torch.randn(6, 4)
    for name in ("invariant_loss", "equivariant_loss"):
        for wrong in (NTXentLoss, "nt-xent", 0.5):
            with pytest.raises(TypeError, match=f"{name}: expected a module on two tensors, got"):
                STARLoss(**{name: wrong})
        with pytest.raises(TypeError, match=f"{name}: .*gives one tensor, got a tuple of 2"):
            STARLoss(**{name: lambda x, y: (x, y)})(z, z, a, a)
        assert STARLoss(**{name: F.mse_loss})(z, z, a, a).total.isfinite()


@pytest.mark.parametrize("size", [4096, (4096, 128), -1])
def test_a_memory_bank_is_lightlys(size: Any) -> None:
    with pytest.raises(
        ValueError, match=r"memory_bank_size: expected 0.*lightly.loss.NTXentLoss\("
    ):
        NTXentLoss(memory_bank_size=size)


def test_nt_xent_takes_lightlys_arguments_in_its_order() -> None:
    loss = NTXentLoss(0.1, 0, True)
    assert (loss.temperature, loss.gather_distributed) == (0.1, True)
    with pytest.raises(TypeError, match=r"NTXentLoss\(0.1, gather_distributed=True\)"):
        NTXentLoss(0.1, True)  # the order of star-head 0.1


@pytest.mark.parametrize(
    ("batch", "came"),
    [
        (lambda v: (v, torch.zeros(6)), r"a tuple of 2 \(STARViews, a tensor.*views, labels in"),
        (lambda v: [v, torch.zeros(6)], r"a list of 2 .*views, labels in"),
        (lambda v: {"image": v, "label": 0}, "a dict of image: STARViews.*the STARViews within"),
        (lambda v: tuple(v), r"a tuple of 3 \(a tensor of shape \(6, 3, 4, 4\), tuple, tuple\)"),
        (lambda v: v.original, r"a tensor of shape \(6, 3, 4, 4\)"),
        (lambda v: list(v.views), "a list of 2"),
        (lambda v: None, "None"),
    ],
)
def test_star_says_what_batch_it_got(batch: Callable[[STARViews], Any], came: str) -> None:
    model = make_star()
    for call in (model, model.embed):
        with pytest.raises(TypeError, match=f"views: expected STARViews .*, got {came}"):
            call(batch(make_views()))
    embeddings = model.embed(make_views()).embeddings
    with pytest.raises(TypeError, match=f"views: expected STARViews .*, got {came}"):
        equivariant_loss(model.head, model.head, batch(make_views()), embeddings, NTXentLoss())


def test_equivariant_loss_wants_embeddings_of_each_view() -> None:
    model, views = make_star(), make_views()
    z0, z1 = model.embed(views).embeddings

    def loss(embeddings: Any, embed: Any = lambda x: model.head(x.flatten(1))) -> Tensor:
        return equivariant_loss(embed, model.head, views, embeddings, NTXentLoss())

    assert loss([z0, z1]).isfinite()
    with pytest.raises(TypeError, match=r"embeddings: .*such as \(z0, z1\), got a STAREmbeddings"):
        loss(z0)
    with pytest.raises(TypeError, match="embeddings: expected STAREmbeddings.*got a tensor"):
        loss([z0.invariant, z1.invariant])
    with pytest.raises(TypeError, match="embed: expected STAREmbeddings.*got a tensor"):
        loss([z0, z1], embed=lambda x: model.head(x.flatten(1)).invariant)
    with pytest.raises(TypeError, match="head: expected a STARProjectionHead, got a SimCLRProj"):
        equivariant_loss(model.head, SimCLRProjectionHead(), views, [z0, z1], NTXentLoss())
    with pytest.raises(TypeError, match="criterion: expected a module on two tensors, got the cla"):
        equivariant_loss(model.head, model.head, views, [z0, z1], NTXentLoss)


def test_views_with_parts_missing() -> None:
    model, views = make_star(), make_views()
    with pytest.raises(TypeError, match="images: expected a tensor of shape .*, got None"):
        model(views._replace(original=None))
    for name in ("views", "params"):
        with pytest.raises(TypeError, match=f"views: expected 2 {name} in a tuple, got None"):
            model(views._replace(**{name: None}))
    with pytest.raises(TypeError, match="images: .*got a STARViews of .*views.original and each"):
        model.features(views)
    stacked = STARViews(views.original, torch.stack(views.views), torch.stack(views.params))
    assert model(stacked).total.isfinite()


@dataclass
class Output:
    pooler_output: Tensor
    hidden: Tensor


BACKBONES: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "tuple": (lambda x: (x.flatten(1), x), r"a tuple of 2 \(a tensor of shape \(6, 48\)"),
    "list": (lambda x: [x], r"a list of 1 \(a tensor of shape \(6, 3, 4, 4\)\)"),
    "dict": (lambda x: {"x_norm_clstoken": x}, "a dict of x_norm_clstoken: a tensor of shape"),
    "output": (lambda x: Output(x.flatten(1), x), "an? Output of pooler_output: a tensor"),
    "nothing": (lambda x: None, "None"),
    "array": (lambda x: x.numpy(), "a ndarray"),
}


class Returns(nn.Module):
    def __init__(self, which: str) -> None:
        super().__init__()
        self.which = which

    def forward(self, x: Tensor) -> Any:
        return BACKBONES[self.which][0](x)


@pytest.mark.parametrize("which", BACKBONES)
def test_a_backbone_that_gives_no_tensor(which: str) -> None:
    model = STAR(Returns(which), make_head())
    for call in (lambda: model(make_views()), lambda: model.features(torch.rand(6, 3, 4, 4))):
        with pytest.raises(
            TypeError, match=f"backbone: expected one tensor.*got {BACKBONES[which][1]}.*wrap it"
        ):
            call()


@pytest.mark.parametrize("shape", [(6, 5, 48), (6, 48, 1, 2), (48,)])
def test_a_backbone_that_does_not_pool(shape: tuple[int, ...]) -> None:
    backbone = nn.Module()
    backbone.forward = lambda x: torch.rand(shape)
    with pytest.raises(ValueError, match="backbone: expected shape .B, D., got .*; pool"):
        STAR(backbone, make_head())(make_views())


def test_star_takes_its_own_head_and_loss() -> None:
    backbone = nn.Flatten()
    for head in (SimCLRProjectionHead(48, 8, 4), STARProjectionHead, None, make_star()):
        with pytest.raises(TypeError, match="head: expected a STARProjectionHead, got"):
            STAR(backbone, head)
    losses = (NTXentLoss(), lightly.loss.NTXentLoss(), STARLoss, torch.tensor(0.2), 0.2)
    for loss in losses:
        with pytest.raises(
            TypeError, match=r"loss: expected a STARLoss, got .*invariant_loss=\.\.\."
        ):
            STAR(backbone, make_head(), loss)
    with pytest.raises(TypeError, match="backbone: expected a module on images, got 'resnet18'"):
        STAR("resnet18", make_head())
