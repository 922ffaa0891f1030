import itertools

import pytest
import reference
import torch
from timm.layers import LayerNorm as TimmLayerNorm
from timm.layers import RmsNorm
from torch import nn

from star_head import RoutedExperts

SIZES = [  # batch, D, H, d, experts, tasks, layers: odd ones on purpose
    (2, 3, 5, 2, 1, 1, 1),
    (7, 5, 3, 1, 4, 2, 2),
    (9, 8, 11, 6, 5, 3, 3),
    (16, 4, 7, 3, 16, 2, 4),
]


def make(sizes: tuple[int, ...], **kwargs: object) -> RoutedExperts:
    _, d_in, hidden, d_out, experts, tasks, layers = sizes
    bank = RoutedExperts(d_in, hidden, d_out, experts, tasks, num_layers=layers, **kwargs)
    for module in bank.modules():  # norms that do something
        if isinstance(module, nn.BatchNorm1d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return bank.double()


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fixed", [True, False])
def test_equals_loop_over_experts(sizes: tuple[int, ...], training: bool, fixed: bool) -> None:
    mixing = torch.randn(sizes[5], sizes[4]) if fixed else None
    bank = make(sizes, mixing=mixing).train(training)
    experts = [reference.expert(bank, k) for k in range(bank.num_experts)]
    features = torch.randn(sizes[0], sizes[1], dtype=torch.float64, requires_grad=True)
    copy = features.detach().clone().requires_grad_()

    if mixing is None:
        rows = bank.router.weight.detach().clone().requires_grad_()
        logits = copy @ rows.T + bank.router.bias.detach()
        weights = torch.stack([part.softmax(1) for part in logits.split(sizes[4], dim=1)], dim=1)
    else:
        weights = mixing.double().expand(sizes[0], -1, -1)
    expected = reference.mix(experts, weights, copy)
    z = bank(features)
    assert z.shape == (sizes[0], sizes[5], sizes[3])
    torch.testing.assert_close(z, expected)

    grad = torch.randn_like(z)
    z.backward(grad)
    expected.backward(grad)
    torch.testing.assert_close(features.grad, copy.grad)
    if mixing is None:
        torch.testing.assert_close(bank.router.weight.grad, rows.grad)
    for i, layer in enumerate(bank.layers):
        for name, parameter in layer.named_parameters():
            parts = [dict(e[i].named_parameters())[name].grad for e in experts]
            torch.testing.assert_close(parameter.grad.flatten(), torch.stack(parts).flatten())
    # Running statistics follow each expert's own.
    for i, layer in enumerate(bank.layers):
        if isinstance(layer, nn.BatchNorm1d):
            var = torch.cat([e[i].running_var for e in experts])
            torch.testing.assert_close(layer.running_var, var)


@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.RMSNorm, TimmLayerNorm, RmsNorm])
def test_sample_norms_work_within_an_expert_with_their_own_scale(norm: type[nn.Module]) -> None:
    bank = RoutedExperts(6, 10, 4, 3, 2, norm_layer=norm).double()
    norms = [m for m in bank.layers if hasattr(m, "num_experts")]
    assert len(norms) == 2
    for module in norms:
        for parameter in module.parameters():
            assert parameter.shape == (30,)
            nn.init.normal_(parameter)
    x = torch.randn(1, 6, dtype=torch.float64)  # one sample is enough for these
    outputs = []
    for k in range(3):
        h = x
        for layer in bank.layers:
            if layer in norms:
                plain = norm(10).double()
                for name, parameter in plain.named_parameters():
                    parameter.data.copy_(getattr(layer, name)[10 * k : 10 * k + 10])
                h = plain(h)
            elif hasattr(layer, "weight"):
                h = nn.functional.linear(
                    h, layer.weight[k], None if layer.bias is None else layer.bias[k]
                )
            else:
                h = h.relu()
        outputs.append(h)
    expected = bank.router(x) @ torch.stack(outputs, dim=1)
    torch.testing.assert_close(bank(x), expected)


def test_without_norm_hidden_layers_have_a_bias() -> None:
    bank = RoutedExperts(4, 6, 2, 3, 2, norm_layer=None, act_layer=nn.GELU)
    assert [type(m).__name__ for m in bank.layers] == [
        *("ExpertLinear", "GELU", "ExpertLinear", "GELU", "ExpertLinear"),
    ]
    assert all(m.bias is not None for m in bank.layers if hasattr(m, "bias"))
    assert bank(torch.randn(1, 4)).shape == (1, 2, 2)


def test_a_norm_layer_is_any_callable_on_a_number_of_channels() -> None:
    bank = RoutedExperts(4, 6, 2, 3, 2, norm_layer=lambda c: nn.BatchNorm1d(c, momentum=0.05))
    assert [m.momentum for m in bank.modules() if isinstance(m, nn.BatchNorm1d)] == [0.05, 0.05]


def test_initialisation_is_that_of_linear_for_each_expert() -> None:
    bank = RoutedExperts(400, 200, 50, 8, 2)
    for i, fan_in in ((0, 400), (3, 200), (6, 200)):
        bound = fan_in**-0.5
        weight = bank.layers[i].weight
        assert weight.abs().max() <= bound
        # Uniform on +-bound, in every expert.
        torch.testing.assert_close(
            weight.std(dim=(1, 2)), torch.full((8,), bound / 3**0.5), rtol=0.02, atol=0
        )
    assert 0 < bank.layers[6].bias.abs().max() <= 200**-0.5
    before = bank.state_dict()["layers.0.weight"].clone()
    bank.reset_parameters()
    assert not torch.equal(before, bank.layers[0].weight)


def test_device_dtype_and_repr() -> None:
    bank = RoutedExperts(4, 6, 2, 3, 2, device="meta", dtype=torch.bfloat16)
    for tensor in bank.parameters():
        assert tensor.device.type == "meta"
        assert tensor.dtype == torch.bfloat16
    assert "num_experts=3, num_tasks=2" in repr(bank)
    assert "3, 4, 6, bias=False" in repr(bank)
    assert "mixing=[[1.0, 1.0]]" in repr(RoutedExperts(4, 6, 2, 2, 1, mixing=[[1, 1]]))


def test_convert_sync_batchnorm_finds_every_norm() -> None:
    bank = nn.SyncBatchNorm.convert_sync_batchnorm(RoutedExperts(4, 6, 2, 3, 2))
    found = [m for m in bank.modules() if isinstance(m, nn.SyncBatchNorm)]
    assert [m.num_features for m in found] == [18, 18]
    assert not any(type(m) is nn.BatchNorm1d for m in bank.modules())


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (torch.randn(4, 7), ValueError, r"features: expected shape \(B, 8\), got \(4, 7\)"),
        (torch.randn(4, 8, 1, 1), ValueError, r"features: .*got \(4, 8, 1, 1\)"),
        (torch.ones(4, 8, dtype=torch.long), TypeError, "features: .*torch.int64"),
        (torch.randn(4, 8).double(), TypeError, "features: expected torch.float32"),
        ([[0.0] * 8] * 4, TypeError, "features: .*list"),
        (torch.randn(1, 8), ValueError, "features: batch norm .* at least 2 samples, got 1"),
    ],
)
def test_bad_features(bad: torch.Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        RoutedExperts(8, 8, 4, 2, 2)(bad)


@pytest.mark.parametrize(
    "name", ["input_dim", "hidden_dim", "output_dim", "num_experts", "num_tasks", "num_layers"]
)
def test_bad_counts(name: str) -> None:
    good = dict(
        zip(
            ["input_dim", "hidden_dim", "output_dim", "num_experts", "num_tasks"],
            itertools.repeat(2),
            strict=False,
        )
    )
    with pytest.raises(ValueError, match=f"{name}: expected at least 1, got 0"):
        RoutedExperts(**{**good, name: 0})
    with pytest.raises(TypeError, match=f"{name}: expected an integer, got 2.0"):
        RoutedExperts(**{**good, name: 2.0})


def test_bad_mixing_and_norm() -> None:
    with pytest.raises(ValueError, match=r"mixing: .*\(2, 3\), got \(3, 2\)"):
        RoutedExperts(4, 4, 2, 3, 2, mixing=torch.ones(3, 2))
    with pytest.raises(ValueError, match=r"mixing: .*got \(3,\)"):
        RoutedExperts(4, 4, 2, 3, 2, mixing=[1, 1, 1])
    with pytest.raises(ValueError, match="norm_layer: .*got BatchNorm2d"):
        RoutedExperts(4, 4, 2, 3, 2, norm_layer=nn.BatchNorm2d)
