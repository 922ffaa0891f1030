"""Built on the meta device, a module is whole after load_state_dict or after reset_parameters."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from star_head import (
    STAR,
    EquivariantPredictor,
    NTXentLoss,
    RoutedExperts,
    STARLoss,
    STARProjectionHead,
    STARViews,
)

# Fixed mixing, statistics and a temperature are what could be lost: in no state, or never drawn.
FACTORIES: dict[str, Callable[..., nn.Module]] = {
    **{
        f"head {routing}": lambda routing=routing, **kw: STARProjectionHead(
            6, 5, 4, routing=routing, statistics="stl10", **kw
        )
        for routing in ("mmoe", "shared", "separate", "invariant")
    },
    "head without statistics": lambda **kw: STARProjectionHead(6, 5, 4, **kw),
    "head with layer norms": lambda **kw: STARProjectionHead(
        6,
        5,
        4,
        num_experts=3,
        norm_layer=nn.LayerNorm,
        act_layer=nn.PReLU,
        statistics="stl10",
        **kw,
    ),
    "experts": lambda **kw: RoutedExperts(
        6, 5, 4, 2, 3, mixing=[[1, 0], [0.5, 0.5], [-1, 1]], **kw
    ),
    "predictor": lambda **kw: EquivariantPredictor(4, 2, ([3.0, 4.0], [2.0, 5.0]), **kw),
}


def outputs(module: nn.Module) -> list[Tensor]:
    """What there is to see of a module, in training and after."""
    features, embeddings = (
        torch.linspace(-1, 1, 42).view(7, 6),
        torch.linspace(-1, 2, 28).view(7, 4),
    )
    seen = []
    for training in (True, False):
        module = copy.deepcopy(module).train(training)
        predictor = module
        if not isinstance(module, EquivariantPredictor):
            z = module(features)
            seen += [z] if isinstance(z, Tensor) else [t for t in z if t is not None]
            seen.append(module.routing_weights(features))
            predictor = getattr(module, "predictor", None)
        if predictor is not None and predictor.has_statistics:
            params = torch.linspace(0, 50, 7 * predictor.parameter_dim).view(7, -1)
            seen.append(predictor(embeddings, params))
    assert all(t.isfinite().all() for t in seen)
    return seen


def emptied(module: nn.Module) -> nn.Module:
    """Memory made anew, with what may lie in it."""
    assert all(t.is_meta for t in (*module.parameters(), *module.buffers()))
    module.to_empty(device="cpu")
    with torch.no_grad():
        for t in (*module.parameters(), *module.buffers()):
            t.fill_(113)
    return module


def on_meta(make: Callable[..., nn.Module], way: str) -> nn.Module:
    if way == "device=":
        return make(device="meta")
    if way == "context":
        with torch.device("meta"):
            return make()
    return make().to("meta")


@pytest.mark.parametrize("way", ["device=", "context", "moved"])
@pytest.mark.parametrize("name", FACTORIES)
def test_whole_after_load_state_dict(name: str, way: str) -> None:
    real = FACTORIES[name]()
    real.reset_parameters()
    for module, assign in (
        (emptied(on_meta(FACTORIES[name], way)), False),
        (on_meta(FACTORIES[name], way), True),
    ):
        repr(module)
        module.load_state_dict(real.state_dict(), assign=assign)
        torch.testing.assert_close(outputs(module), outputs(real), rtol=0, atol=0)
        assert repr(module) == repr(real)


@pytest.mark.parametrize("way", ["device=", "context", "moved"])
@pytest.mark.parametrize("name", FACTORIES)
def test_whole_after_reset_parameters(name: str, way: str) -> None:
    real, module = FACTORIES[name](), emptied(on_meta(FACTORIES[name], way))
    for each in (real, module):
        torch.manual_seed(4)
        each.reset_parameters()
    torch.testing.assert_close(outputs(module), outputs(real), rtol=0, atol=0)


def test_names_in_the_state_are_those_of_version_0_1_0() -> None:
    router = {"experts.router.weight", "experts.router.bias"}
    norms = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    experts = {
        "experts.layers.0.weight", "experts.layers.3.weight",
        "experts.layers.6.weight", "experts.layers.6.bias",
        *(f"experts.layers.{i}.{n}" for i in (1, 4) for n in norms),
    }  # fmt: skip
    predictor = {
        "predictor.mean", "predictor.std", "predictor.psi.weight", "predictor.psi.bias",
        "predictor.phi.0.weight", "predictor.phi.3.weight",
        "predictor.phi.6.weight", "predictor.phi.6.bias",
        *(f"predictor.phi.{i}.{n}" for i in (1, 4) for n in norms),
    }  # fmt: skip
    for routing, names in (
        ("mmoe", experts | router | predictor),
        ("shared", experts | predictor),
        ("separate", experts | predictor),
        ("invariant", experts),
    ):
        assert set(FACTORIES[f"head {routing}"]().state_dict()) == names
    assert not STARLoss(0.2).state_dict()


def test_statistics_that_were_loaded_stay_when_weights_are_drawn_anew() -> None:
    given, without = FACTORIES["head shared"](), STARProjectionHead(6, 5, 4, routing="shared")
    without.load_state_dict(given.state_dict())
    without.reset_parameters()
    assert torch.equal(without.predictor.mean, given.predictor.mean)
    assert without.predictor.has_statistics
    given.load_state_dict(STARProjectionHead(6, 5, 4, routing="shared").state_dict())
    given.reset_parameters()
    assert given.predictor.mean.isnan().all()
    with pytest.raises(ValueError, match="statistics: none were given"):
        given.predict(torch.randn(3, 4), torch.rand(3, 11))


def test_values_on_the_meta_device_are_refused() -> None:
    nothing = torch.ones(2, 2, device="meta")
    with pytest.raises(ValueError, match="mixing: expected numbers, got a tensor on the meta"):
        RoutedExperts(6, 5, 4, 2, 2, mixing=nothing)
    with pytest.raises(ValueError, match="statistics: expected numbers, got a tensor on the meta"):
        EquivariantPredictor(4, 2, (nothing[0], nothing[1]))


def make_star() -> STAR:
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.BatchNorm1d(6), nn.ReLU())
    head = STARProjectionHead(6, 5, 4, routing="shared", statistics="stl10")
    return STAR(backbone, head, STARLoss(nn.Parameter(torch.tensor(0.3))))


def test_a_whole_model_with_a_learned_temperature() -> None:
    images, params = torch.rand(3, 8, 3, 2, 2), torch.rand(2, 8, 11)
    views = STARViews(images[0], (images[1], images[2]), (params[0], params[1]))
    real = make_star()
    expected = real(views).total
    with torch.device("meta"):
        module = make_star()
    emptied(module).load_state_dict(real.state_dict())
    torch.testing.assert_close(module(views).total, expected, rtol=0, atol=0)
    assert module.loss.invariant_loss.temperature is module.loss.equivariant_loss.temperature

    moved = emptied(make_star().to("meta"))
    for each in (real, moved):
        torch.manual_seed(4)
        each.reset_parameters()
    torch.testing.assert_close(moved(views).total, real(views).total, rtol=0, atol=0)
    assert moved.loss.invariant_loss.temperature.item() == pytest.approx(0.3)


def test_a_temperature_without_a_value_is_refused_when_reset() -> None:
    with torch.device("meta"):
        loss = NTXentLoss(nn.Parameter(torch.tensor(0.3)))
    assert "on the meta device (learned)" in repr(loss)
    with pytest.raises(ValueError, match="temperature: .*meta device.*load a state_dict"):
        loss.to_empty(device="cpu").reset_parameters()


def test_what_cannot_be_drawn_anew_is_refused_by_name() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gamma = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            return self.gamma * x

    with pytest.raises(ValueError, match="2: Scale holds 'gamma' and has no reset_parameters"):
        STARProjectionHead(6, 5, 4, num_experts=3, act_layer=Scale).reset_parameters()
