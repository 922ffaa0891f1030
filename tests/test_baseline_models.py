"""SimCLR with AugSelf or E-SSL as one module."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from star_head import STARLoss, STARProjectionHead, STARViews
from star_head.baseline_models import STARBaseline
from star_head.baselines import ESSL, AugSelf, quarter_turns

WIDTH = 12


class Backbone(nn.Sequential):
    """A small network that takes images of any size, and counts its batches."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, WIDTH, 3, 2), nn.BatchNorm2d(WIDTH), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.shapes.append(tuple(images.shape))
        return super().forward(images).flatten(1)


def make(name: str, **settings: object) -> STARBaseline:
    torch.manual_seed(0)
    head = STARProjectionHead(WIDTH, 16, 8, routing="invariant")
    task = AugSelf(WIDTH, "stl10", hidden_dim=10) if name == "augself" else ESSL(WIDTH, 4, 0.4, 10)
    return STARBaseline(Backbone(), head, task, STARLoss(0.5), **settings).double()


def make_views(n: int = 6, side: int = 16) -> STARViews:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(3, n, 3, side, side, generator=generator, dtype=torch.float64)
    params = torch.rand(2, n, 11, generator=generator, dtype=torch.float64)
    return STARViews(images[0], tuple(images[1:]), tuple(params))


@pytest.mark.parametrize("name", ["augself", "essl"])
def test_the_loss_is_simclrs_and_the_tasks(name: str) -> None:
    """Against both written out one after the other, on the same batches."""
    model, views = make(name), make_views()
    other = copy.deepcopy(model)
    y = [other.backbone(view) for view in views.views]
    u = [F.normalize(other.head.experts(features)[:, 0], dim=1) for features in y]
    both = torch.cat(u)
    similarities = (both @ both.T / 0.5).fill_diagonal_(-torch.inf)
    invariant = F.cross_entropy(similarities, torch.arange(12).roll(6))
    if name == "augself":
        task = other.task(*y, *views.params)
    else:
        small = F.interpolate(views.views[0], (8, 8), mode="bilinear", antialias=True)
        images = [small.rot90(turns, dims=(2, 3)) for turns in range(4)]
        logits = other.task.head(other.backbone(torch.cat(images)))
        task = 0.4 * F.cross_entropy(logits, torch.arange(4).repeat_interleave(6))
    terms = model(views)
    torch.testing.assert_close(tuple(terms), (invariant + task, invariant, task))
    terms.total.backward()
    (invariant + task).backward()
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("name", ["augself", "essl"])
def test_the_loss_can_be_taken_in_two_steps(name: str) -> None:
    """As whoever logs what was embedded does."""
    model, views = make(name).eval(), make_views()
    output = model.embed(views)
    terms = model.loss(*output.embeddings, *output.predicted)
    torch.testing.assert_close(tuple(terms), tuple(model(views)))


def test_turned_images_have_half_the_side_unless_the_backbone_takes_one_size() -> None:
    for side, settings in ((8, {}), (16, {"turned_size": 16})):
        model = make("essl", **settings)
        model(make_views())
        assert model.backbone.shapes == [(6, 3, 16, 16)] * 2 + [(24, 3, side, side)]


def test_turned_images_are_the_first_views_made_smaller() -> None:
    views = make_views()
    model = make("essl").eval()
    seen: list[Tensor] = []
    model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(views)
    # Each pixel of a half-sized image is a weighted mean around its two by two.
    small = seen[2][:6]
    assert small.mean() == pytest.approx(views.views[0].mean().item(), rel=0.02)
    corr = torch.corrcoef(torch.stack([small.flatten(), F.avg_pool2d(views.views[0], 2).flatten()]))
    assert corr[0, 1] > 0.9
    torch.testing.assert_close(quarter_turns(small).images, seen[2])


@pytest.mark.parametrize("name", ["augself", "essl"])
def test_all_weights_can_be_drawn_anew(name: str) -> None:
    model = make(name)
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(3)
    model.reset_parameters()
    after = model.state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert any(key.startswith("task.") for key in changed)
    assert any(key.startswith("head.") for key in changed)


def test_other_tasks_and_heads_are_refused() -> None:
    head = STARProjectionHead(WIDTH, 16, 8, routing="invariant")
    with pytest.raises(TypeError, match=r"^task: expected AugSelf or ESSL, got .*Linear"):
        STARBaseline(Backbone(), head, nn.Linear(2, 2))
    mixed = STARProjectionHead(WIDTH, 16, 8, num_experts=2, statistics="stl10")
    with pytest.raises(ValueError, match=r"^head: expected routing='invariant' .*got 'mmoe'"):
        STARBaseline(Backbone(), mixed, ESSL(WIDTH))


@pytest.mark.parametrize("name", ["augself", "essl"])
def test_it_compiles_whole_and_runs_under_autocast(name: str) -> None:
    model, views = make(name).float().eval(), make_views()
    views = views.to(torch.float32)._replace(params=tuple(p.float() for p in views.params))
    expected = model(views)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(tuple(compiled(views)), tuple(expected))
    with torch.autocast("cpu", torch.bfloat16):
        terms = model(views)
    torch.testing.assert_close(terms.total.float(), expected.total, rtol=0.05, atol=0.05)
    terms.total.backward()
