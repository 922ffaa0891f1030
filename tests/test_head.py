import copy
import io

import pytest
import reference
import torch
from torch import nn

from star_head import EquivariantPredictor, STARProjectionHead, Statistics
from star_head.augmentation import STATISTICS

ROUTINGS = ["mmoe", "shared", "separate", "invariant"]


def make(routing: str = "mmoe", **kwargs: object) -> STARProjectionHead:
    experts = 5 if routing == "mmoe" else None
    return STARProjectionHead(
        7, 9, 4, num_experts=experts, routing=routing, statistics="stl10", **kwargs
    )


@pytest.mark.parametrize("routing", ROUTINGS)
@pytest.mark.parametrize("training", [True, False])
def test_routings_equal_their_formulas(routing: str, training: bool) -> None:
    head = make(routing).double().train(training)
    features = torch.randn(6, 7, dtype=torch.float64)
    e = [reference.expert(head.experts, k)(features) for k in range(head.experts.num_experts)]
    invariant, equivariant = head(features)
    if routing == "invariant":
        torch.testing.assert_close(invariant, e[0])
        assert equivariant is None
        return
    if routing == "separate":
        expected = e[0], e[1]
    elif routing == "shared":
        expected = e[0] + e[2], e[1] + e[2]
    else:
        weights = head.routing_weights(features)
        torch.testing.assert_close(weights.sum(2), torch.ones(6, 2, dtype=torch.float64))
        expected = tuple(sum(weights[:, t, k, None] * e[k] for k in range(5)) for t in range(2))
    torch.testing.assert_close((invariant, equivariant), expected)


def test_default_numbers_of_experts() -> None:
    numbers = {r: STARProjectionHead(4, 4, 2, routing=r).experts.num_experts for r in ROUTINGS}
    assert numbers == {"mmoe": 16, "shared": 3, "separate": 2, "invariant": 1}
    assert STARProjectionHead(4, 4, 2, num_experts=3, routing="shared").experts.num_experts == 3


def test_routing_weights_of_fixed_routings() -> None:
    features = torch.randn(5, 7)
    assert make("shared").routing_weights(features)[3].tolist() == [[1, 0, 1], [0, 1, 1]]
    assert make("separate").routing_weights(features)[3].tolist() == [[1, 0], [0, 1]]
    assert make("invariant").routing_weights(features).shape == (5, 1, 1)


@pytest.mark.parametrize("training", [True, False])
def test_predict_equals_reference(training: bool) -> None:
    head = make().double().train(training)
    twin = copy.deepcopy(head)
    e0 = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    e0_twin = e0.detach().clone().requires_grad_()
    params = 100 * torch.rand(6, 11)
    predicted = head.predict(e0, params)
    expected = reference.predict(twin.predictor, e0_twin, params.double())
    torch.testing.assert_close(predicted, expected)
    grad = torch.randn_like(predicted)
    predicted.backward(grad)
    expected.backward(grad)
    torch.testing.assert_close(e0.grad, e0_twin.grad)
    for (name, parameter), other in zip(
        head.predictor.named_parameters(), twin.predictor.parameters(), strict=True
    ):
        torch.testing.assert_close(parameter.grad, other.grad, msg=name)


def test_predictor_has_the_papers_shape() -> None:
    predictor = EquivariantPredictor(128, statistics="stl10")
    shapes = {n: tuple(p.shape) for n, p in predictor.named_parameters()}
    assert shapes == {
        "psi.weight": (128, 11),
        "psi.bias": (128,),
        "phi.0.weight": (512, 256),
        "phi.1.weight": (512,),
        "phi.1.bias": (512,),
        "phi.3.weight": (512, 512),
        "phi.4.weight": (512,),
        "phi.4.bias": (512,),
        "phi.6.weight": (128, 512),
        "phi.6.bias": (128,),
    }


def test_statistics_are_in_the_state_dict_and_come_with_it() -> None:
    head = make()
    mean = torch.tensor(STATISTICS["stl10"].mean)
    torch.testing.assert_close(head.state_dict()["predictor.mean"], mean)
    other = STARProjectionHead(7, 9, 4, num_experts=5)
    e0, params = torch.randn(6, 4), torch.rand(6, 11)
    with pytest.raises(ValueError, match="statistics: none were given.*estimate_statistics"):
        other.predict(e0, params)
    other.load_state_dict(head.state_dict())
    torch.testing.assert_close(other.predict(e0, params), head.predict(e0, params))
    # And a head without any takes them away again.
    other.load_state_dict(STARProjectionHead(7, 9, 4, num_experts=5).state_dict())
    with pytest.raises(ValueError, match="none were given"):
        other.predict(e0, params)


@pytest.mark.parametrize("routing", ROUTINGS)
def test_state_dict_round_trip(routing: str) -> None:
    head, other = make(routing), make(routing)
    head(torch.randn(6, 7))  # running statistics that are not the initial ones
    file = io.BytesIO()
    torch.save(head.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    features = torch.randn(6, 7)
    torch.testing.assert_close(head.eval()(features)[0], other.eval()(features)[0], rtol=0, atol=0)


def test_names_in_the_state_dict_are_stable() -> None:
    expert = [
        *("layers.0.weight", "layers.1.weight", "layers.1.bias"),
        *("layers.1.running_mean", "layers.1.running_var", "layers.1.num_batches_tracked"),
        *("layers.3.weight", "layers.4.weight", "layers.4.bias"),
        *("layers.4.running_mean", "layers.4.running_var", "layers.4.num_batches_tracked"),
        *("layers.6.weight", "layers.6.bias", "router.weight", "router.bias"),
    ]
    names = [n for n in make().state_dict() if not n.startswith("predictor.phi")]
    assert names == [
        *(f"experts.{n}" for n in expert),
        *("predictor.mean", "predictor.std", "predictor.psi.weight", "predictor.psi.bias"),
    ]
    assert not any("router" in n for n in make("shared").state_dict())


def test_bfloat16_autocast() -> None:
    head = make()
    features, params = torch.randn(6, 7), torch.rand(6, 11)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z = head(features)
        predicted = head.predict(z.equivariant, params)
    assert z.equivariant.dtype == torch.bfloat16
    expected = head(features)
    torch.testing.assert_close(z.invariant.float(), expected.invariant, rtol=0.05, atol=0.05)
    (predicted.float().square().sum() + z.invariant.float().square().sum()).backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(
    ("routing", "norm", "backend"),
    [
        # Code is generated for the whole step in test_model.py; for this part it takes its time.
        pytest.param("shared", nn.LayerNorm, "inductor", marks=pytest.mark.slow),
        pytest.param("shared", nn.LayerNorm, "aot_eager", marks=pytest.mark.slow),
        ("shared", nn.BatchNorm1d, "aot_eager"),
        pytest.param("mmoe", nn.LayerNorm, "aot_eager", marks=pytest.mark.slow),
        ("mmoe", nn.BatchNorm1d, "aot_eager"),
    ],
)
def test_compile_fullgraph(routing: str, norm: type[nn.Module], backend: str) -> None:
    head = make(routing, norm_layer=norm)
    twin = copy.deepcopy(head)

    def run(module: STARProjectionHead, y: torch.Tensor) -> torch.Tensor:
        z = module(y)
        return z.invariant.sum() + module.predict(z.equivariant, params).square().sum()

    features, params = torch.randn(6, 7), torch.rand(6, 11)
    loss = torch.compile(run, fullgraph=True, backend=backend)(head, features)
    expected = run(twin, features)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    for p, q in zip(head.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-4)


def test_convert_sync_batchnorm_finds_every_norm() -> None:
    head = nn.SyncBatchNorm.convert_sync_batchnorm(make())
    assert sum(isinstance(m, nn.SyncBatchNorm) for m in head.modules()) == 4
    assert not any(type(m) is nn.BatchNorm1d for m in head.modules())


@pytest.mark.parametrize("norm", [nn.BatchNorm1d, nn.LayerNorm, nn.RMSNorm, None])
def test_reset_parameters_keeps_statistics(norm: type[nn.Module] | None) -> None:
    head = make(norm_layer=norm)
    before = copy.deepcopy(head.state_dict())
    head.reset_parameters()
    for name in ("experts.router.weight", "predictor.psi.weight", "predictor.phi.0.weight"):
        assert not torch.equal(head.state_dict()[name], before[name])
    assert torch.equal(head.state_dict()["predictor.std"], before["predictor.std"])


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"routing": "sparse"}, ValueError, "routing: expected one of .*'mmoe'.*got 'sparse'"),
        (
            {"routing": "shared", "num_experts": 4},
            ValueError,
            "num_experts: .*'shared' has 3, got 4",
        ),
        ({"num_experts": 0}, ValueError, "num_experts: expected at least 1, got 0"),
        ({"statistics": "cifar"}, ValueError, "statistics: unknown name 'cifar'.*imagenet100"),
        ({"statistics": 3}, TypeError, "statistics: .*got 3"),
        (
            {"statistics": ([0.0] * 10, [1.0] * 10), "parameter_dim": 11},
            ValueError,
            r"statistics: .*\(11,\), got \(10,\)",
        ),
        (
            {"statistics": ([0.0] * 10, [1.0] * 11)},
            ValueError,
            r"statistics: expected a std of shape \(10,\), got \(11,\)",
        ),
        ({"parameter_dim": 0}, ValueError, "parameter_dim: expected at least 1, got 0"),
        (
            {"statistics": ([0.0] * 11, [0.0] * 11)},
            ValueError,
            "statistics: expected a positive std",
        ),
        (
            {"statistics": ([float("nan")] * 11, [1.0] * 11)},
            ValueError,
            "statistics: .*finite mean",
        ),
    ],
)
def test_bad_arguments(kwargs: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        STARProjectionHead(4, 4, 2, **kwargs)


def test_bad_prediction_input() -> None:
    head = make()
    e0 = torch.randn(6, 4)
    with pytest.raises(ValueError, match=r"got \(6, 10\); statistics=estimate_statistics\("):
        head.predict(e0, torch.rand(6, 10))
    with pytest.raises(ValueError, match="params: expected as many rows as embedding, 6, got 5"):
        head.predict(e0, torch.rand(5, 11))
    with pytest.raises(TypeError, match="params: .*torch.int64"):
        head.predict(e0, torch.ones(6, 11, dtype=torch.long))
    with pytest.raises(ValueError, match=r"embedding: expected shape \(B, 4\)"):
        head.predict(torch.randn(6, 5), torch.rand(6, 11))
    with pytest.raises(ValueError, match="embedding: batch norm .* at least 2 samples, got 1"):
        head.predict(e0[:1], torch.rand(1, 11))
    with pytest.raises(ValueError, match="routing: 'invariant' has no equivariant task"):
        make("invariant").predict(e0, torch.rand(6, 11))


@pytest.mark.parametrize("width", [1, 4, 14])
def test_a_head_of_any_number_of_parameters(width: int) -> None:
    """The statistics say how many; without any, the caller."""
    statistics = torch.rand(width), torch.rand(width) + 1
    head = STARProjectionHead(7, 9, 4, num_experts=2, statistics=statistics)
    given = STARProjectionHead(7, 9, 4, num_experts=2, parameter_dim=width)
    given.load_state_dict(head.state_dict())
    z, params = torch.randn(6, 4), torch.rand(6, width)
    assert head.predict(z, params).shape == (6, 4)
    torch.testing.assert_close(given.predict(z, params), head.predict(z, params))
    with pytest.raises(ValueError, match=rf"params: expected shape \(B, {width}\)"):
        head.predict(z, torch.rand(6, width + 1))
    assert STARProjectionHead(7, 9, 4, num_experts=2).predictor.parameter_dim == 11


def test_given_statistics_standardise() -> None:
    statistics = Statistics([1.0] * 11, [2.0] * 11)
    predictor = EquivariantPredictor(4, statistics=statistics, norm_layer=None)
    plain = EquivariantPredictor(4, statistics=([0.0] * 11, [1.0] * 11), norm_layer=None)
    state = {k: v for k, v in predictor.state_dict().items() if k not in ("mean", "std")}
    plain.load_state_dict(state, strict=False)
    e0, params = torch.randn(3, 4), torch.rand(3, 11)
    torch.testing.assert_close(predictor(e0, params), plain(e0, (params - 1) / 2))


@pytest.mark.parametrize("fourth", [(2,), (2, True), (16, None), (None,), ("shared",)])
def test_lightlys_fourth_argument_is_not_taken_for_the_experts(fourth: tuple) -> None:
    number = fourth[0] if isinstance(fourth[0], int) else r"\.\.\."
    with pytest.raises(TypeError, match=f"num_layers={number} or num_experts={number}$"):
        STARProjectionHead(32, 32, 16, *fourth)
    head = STARProjectionHead(32, 32, 16, num_experts=2, num_layers=2)
    assert head.experts.num_experts == 2
