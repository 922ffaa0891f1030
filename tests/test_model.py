import copy

import pytest
import torch
from torch import Tensor, nn

from star_head import STAR, STARLoss, STARLossTerms, STARProjectionHead, STARViews


class CountingBackbone(nn.Module):
    """Mean colours through a batch norm; remembers the batches that it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.batches: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.batches.append(images)
        return self.norm(images.mean(dim=(2, 3)))


def make(routing: str = "mmoe") -> STAR:
    head = STARProjectionHead(3, 6, 4, routing=routing, statistics="stl10")
    return STAR(CountingBackbone(), head, STARLoss(0.5))


def make_views(n: int = 5) -> STARViews:
    return STARViews(
        torch.rand(n, 3, 4, 4), list(torch.rand(2, n, 3, 4, 4)), list(torch.rand(2, n, 11))
    )


def test_forward_is_the_line_of_the_design() -> None:
    model = make().eval()
    views = make_views()
    z = [model.head(model.backbone(x)) for x in (views.original, *views.views)]
    predicted = [model.head.predict(z[0].equivariant, p) for p in views.params]
    torch.testing.assert_close(tuple(model(views)), tuple(model.loss(z[1], z[2], *predicted)))


def test_each_view_is_a_batch_of_its_own() -> None:
    model, views = make(), make_views()
    model(views)
    assert len(model.backbone.batches) == 3
    for batch, view in zip(model.backbone.batches, (*views.views, views.original), strict=True):
        assert batch is view


def test_invariant_routing_runs_only_the_augmented_views() -> None:
    model, views = make("invariant"), make_views()
    terms = model(views)
    assert terms.equivariant is None
    assert [id(b) for b in model.backbone.batches] == [id(v) for v in views.views]


def test_embed_gives_what_forward_takes_the_loss_of() -> None:
    model, views = make().eval(), make_views()
    output = model.embed(views)
    assert [y.shape for y in output.features] == [(5, 3), (5, 3)]
    assert torch.equal(model.loss(*output.embeddings, *output.predicted).total, model(views).total)


def test_pooled_maps_are_flattened_and_others_refused() -> None:
    head = STARProjectionHead(3, 6, 4, num_experts=2, statistics="stl10")
    assert STAR(nn.AdaptiveAvgPool2d(1), head)(make_views()).total.isfinite()
    with pytest.raises(ValueError, match=r"backbone: expected shape \(B, D\), got \(5, 3, 4, 4\)"):
        STAR(nn.Identity(), head)(make_views())


def test_every_parameter_gets_a_gradient() -> None:
    model = make()
    model(make_views()).total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compile_fullgraph_with_autocast(backend: str) -> None:
    model, views = make().eval(), make_views()
    model.backbone = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    assert type(compiled(views)) is STARLossTerms
    torch.testing.assert_close(compiled(views).total, model(views).total)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = compiled(views).total
    assert total.dtype == torch.float32
    torch.testing.assert_close(total, model(views).total, rtol=0.05, atol=0.05)


@pytest.mark.slow
def test_compiled_training_step_equals_eager() -> None:
    head = STARProjectionHead(3, 6, 4, num_experts=4, statistics="stl10")
    model = STAR(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), head)
    twin, views = copy.deepcopy(model), make_views(16)
    torch.compile(model, fullgraph=True)(views).total.backward()
    twin(views).total.backward()
    for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-4, msg=name)
    for (name, p), q in zip(model.named_buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(p, q, msg=name)  # three batches went through the norms


def test_bad_number_of_views() -> None:
    views = make_views()
    with pytest.raises(ValueError, match="views: expected 2 views .*got 1 and 1"):
        make()(STARViews(views.original, views.views[:1], views.params[:1]))
