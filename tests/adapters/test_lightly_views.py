"""Many views, and the equivariant task beside any method."""

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from star_head import NTXentLoss, STARLoss, STARProjectionHead, STARViews
from star_head.adapters.lightly import (
    STARMultiViewTransform,
    STARTransform,
    STARViewTransform,
    equivariant_loss,
)
from star_head.head import STAREmbeddings


def make_image(height: int = 40, width: int = 50) -> Tensor:
    return torch.randint(256, (3, height, width), dtype=torch.uint8)


def make_views(n: int = 6, count: int = 2, others: int = 0) -> STARViews:
    return STARViews(
        torch.rand(n, 3, 4, 4),
        tuple(torch.rand(n, 3, 4, 4) for _ in range(count + others)),
        tuple(torch.rand(n, 11) for _ in range(count)),
    )


class Model(nn.Module):
    """Counts what it embeds."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.backbone = nn.Linear(48, 20)
        self.head = STARProjectionHead(20, 16, 8, statistics="stl10", **options)
        self.embedded: list[Tensor] = []

    def forward(self, x: Tensor) -> STAREmbeddings:
        self.embedded.append(x)
        return self.head(self.backbone(x.flatten(1)))


def test_recorded_views_come_first_and_replay() -> None:
    large, small = STARViewTransform(32, min_scale=0.5), STARTransform(16, min_scale=0.1)
    other = STARViewTransform(8)
    transform = STARMultiViewTransform([large, small], [lambda image: other(image)[0]] * 3)
    image = make_image()
    torch.manual_seed(3)
    views = transform(image)
    assert [v.shape[-1] for v in views.views] == [32, 16, 8, 8, 8]
    assert len(views.params) == 2
    assert torch.equal(views.original, large.original(image))
    torch.manual_seed(3)
    for view, params, maker in zip(views.views, views.params, (large, small), strict=False):
        record = maker.sample(image)
        assert torch.equal(record.vector(), params)
        assert torch.equal(maker.apply(image, record), view)


def test_two_of_one_transform_are_what_star_transform_makes() -> None:
    transform, image = STARTransform(24), make_image()
    torch.manual_seed(0)
    expected = transform(image)
    torch.manual_seed(0)
    found = STARMultiViewTransform([transform, transform])(image)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_others_see_an_rgb_image() -> None:
    modes = []

    def other(image: Image.Image) -> Tensor:
        modes.append((type(image).__name__, image.mode))
        return torch.zeros(1)

    STARMultiViewTransform([STARViewTransform(8)], [other])(Image.new("L", (30, 30)))
    assert modes == [("Image", "RGB")]


def test_transforms_of_the_wrong_kind() -> None:
    with pytest.raises(ValueError, match="recorded: expected one view or more, got none"):
        STARMultiViewTransform([], [lambda _: torch.zeros(1)])
    with pytest.raises(TypeError, match="recorded: expected STARViewTransforms, got <function"):
        STARMultiViewTransform([lambda _: torch.zeros(1)])
    with pytest.raises(TypeError, match="others: expected what makes a tensor, got a STARView"):
        STARMultiViewTransform([STARViewTransform(8)], [STARViewTransform(8)])


def test_is_the_papers_loss_beside_the_methods() -> None:
    model, views = Model(num_experts=3, norm_layer=None), make_views()
    z = [model(x) for x in views.views]
    original = model(views.original).equivariant
    predicted = [model.head.predict(original, p) for p in views.params]
    expected = STARLoss(temperature=0.3)(*z, *predicted).equivariant
    found = equivariant_loss(model, model.head, views, z, NTXentLoss(0.3))
    torch.testing.assert_close(found, expected)
    found.backward()
    assert all(p.grad is not None for p in model.head.predictor.parameters())
    gradients = model.head.experts.router.weight.grad
    assert gradients.abs().sum() > 0


def test_fewer_embeddings_than_recorded_views() -> None:
    """MoCo's online network sees one of the two."""
    model, views = Model(num_experts=2, norm_layer=None), make_views(others=2)
    z = model(views.views[0])
    predicted = model.head.predict(model(views.original).equivariant, views.params[0])
    found = equivariant_loss(model, model.head, views, [z], nn.functional.mse_loss)
    torch.testing.assert_close(found, (z.equivariant - predicted).square().mean())


def test_a_head_without_the_task_adds_nothing() -> None:
    model, views = Model(routing="invariant"), make_views()
    z = [model(x) for x in views.views]
    count = len(model.embedded)
    found = equivariant_loss(model, model.head, views, z, NTXentLoss())
    assert found == 0
    assert found.shape == ()
    assert len(model.embedded) == count  # the originals would move the norms' statistics


@pytest.mark.parametrize("count", [0, 3])
def test_as_many_embeddings_as_recorded_views(count: int) -> None:
    model, views = Model(num_experts=2), make_views(others=1)
    embeddings = [model(views.original)] * count
    with pytest.raises(ValueError, match=f"those of 1 to 2 views with parameters, got {count}"):
        equivariant_loss(model, model.head, views, embeddings, NTXentLoss())
