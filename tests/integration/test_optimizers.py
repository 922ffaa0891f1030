"""What optimisers that go by shape or name make of stacked experts, as docs/optimizers.md says."""

import re
from pathlib import Path

import pytest
import timm.optim
import torch
from lightly.models.utils import _NORM_LAYERS, get_weight_decay_parameters
from lightly.utils.lars import LARS
from timm.optim import create_optimizer_v2, param_groups_weight_decay
from timm.optim.muon import _is_suitable_for_muon as is_suitable_for_muon
from timm.utils.agc import adaptive_clip_grad
from torch import Tensor, nn
from torch.nn.utils import parametrize

from star_head import STAR, RoutedExperts, STARProjectionHead
from star_head.adapters.timm import create_backbone
from star_head.experts import ExpertLinear, ExpertNorm

DOCS = (Path(__file__).parents[2] / "docs/optimizers.md").read_text()
# The recipe, as the page shows it.
exec(re.search(r"```python\n(.*?class Stacked.*?)```", DOCS, re.DOTALL)[1])
SEPARATE = globals()["separate_experts"]
JOIN = globals()["join_experts"]


def listed(title: str) -> list[str]:
    """timm's names in a row of the page's table."""
    (row,) = (line for line in DOCS.splitlines() if line.startswith(f"| {title}"))
    return re.findall(r"`(\w+)`", row)


def make_bank(num_experts: int = 6, **kwargs: object) -> RoutedExperts:
    """A bank of experts of unlike size."""
    torch.manual_seed(0)
    bank = RoutedExperts(24, 24, 20, num_experts, 2, **kwargs)
    with torch.no_grad():
        for layer in linears(bank):
            layer.weight.mul_(torch.linspace(0.5, 2, num_experts)[:, None, None])
    return bank


def linears(bank: nn.Module) -> list[ExpertLinear]:
    return [module for module in bank.modules() if isinstance(module, ExpertLinear)]


def gradients(bank: RoutedExperts) -> None:
    generator = torch.Generator().manual_seed(1)
    x, target = (
        torch.randn(16, 24, generator=generator),
        torch.randn(16, 2, 20, generator=generator),
    )
    (bank(x) - target).square().mean().backward()


def weights_after(name: str, separate: bool) -> Tensor:
    bank = make_bank()
    if separate:
        SEPARATE(bank)
    # In one group that is decayed, without which LARS and LAMB do not adapt.
    optimizer = create_optimizer_v2(bank.parameters(), name, lr=1e-2, weight_decay=0.05)
    for _ in range(3):
        torch.manual_seed(2)
        optimizer.zero_grad()
        gradients(bank)
        optimizer.step()
    return torch.cat([layer.weight.detach().flatten() for layer in linears(bank)])


@pytest.mark.parametrize("name", listed("each number by itself"))
def test_same_for_stacked_and_separate_experts(name: str) -> None:
    torch.testing.assert_close(weights_after(name, False), weights_after(name, True))


@pytest.mark.parametrize("name", listed("each tensor as a whole"))
def test_different_for_stacked_and_separate_experts(name: str) -> None:
    difference = (weights_after(name, False) - weights_after(name, True)).abs().max()
    assert difference > 1e-6


@pytest.mark.parametrize("separate", [False, True])
def test_lars_adapts_the_bank_or_each_expert(separate: bool) -> None:
    bank = make_bank()
    if separate:
        SEPARATE(bank)
    optimizer = LARS(bank.parameters(), lr=0.5, weight_decay=0.1)
    gradients(bank)
    layer = linears(bank)[1]
    before = layer.weight.detach().clone()
    if separate:
        gradient = torch.stack([p.grad for p in layer.parametrizations.weight.parameters()])
    else:
        gradient = layer.weight.grad.clone()
    optimizer.step()
    # ||w|| / (||g|| + 0.1 ||w||): of each expert, or of all of them as one long vector.
    dims = (1, 2) if separate else (0, 1, 2)
    w, g = (t.square().sum(dims, keepdim=True).sqrt() for t in (before, gradient))
    ratio = 0.001 * w / (g + 0.1 * w)
    expected = before - 0.5 * ratio * (gradient + 0.1 * before)
    torch.testing.assert_close(layer.weight.detach(), expected, rtol=1e-6, atol=1e-9)
    assert len(ratio.unique()) == (6 if separate else 1)


def test_separating_changes_no_output_and_joins_again() -> None:
    bank = make_bank().eval()
    features, state = torch.randn(4, 24), {k: v.clone() for k, v in bank.state_dict().items()}
    expected = bank(features)
    SEPARATE(bank)
    assert torch.equal(bank(features), expected)
    assert {p.shape for n, p in bank.named_parameters() if "original" in n} == {
        (24, 24),
        (20, 24),
        (20,),
    }
    JOIN(bank)
    assert list(bank.state_dict()) == list(state)
    assert all(torch.equal(bank.state_dict()[k], v) for k, v in state.items())
    assert not any(parametrize.is_parametrized(layer) for layer in linears(bank))


def decayed(head: nn.Module, groups: list[dict]) -> set[str]:
    names = {id(p): n for n, p in head.named_parameters()}
    return {names[id(p)] for group in groups if group["weight_decay"] for p in group["params"]}


def make_head(norm_layer: type[nn.Module] = nn.BatchNorm1d) -> STARProjectionHead:
    return STARProjectionHead(8, 8, 4, num_experts=2, statistics="stl10", norm_layer=norm_layer)


@pytest.mark.parametrize("norm_layer", [nn.BatchNorm1d, nn.LayerNorm])
def test_weight_decay_groups_spare_norms_and_biases(norm_layer: type[nn.Module]) -> None:
    head = make_head(norm_layer)
    weights = {n for n, p in head.named_parameters() if n.endswith("weight") and p.ndim > 1}
    assert head.experts.layers[6].bias.ndim == 2
    assert decayed(head, param_groups_weight_decay(head, 0.1)) == weights

    def by_lightly(**kwargs: object) -> set[str]:
        groups = zip(get_weight_decay_parameters([head], **kwargs), (0.1, 0.0), strict=True)
        return decayed(head, [{"params": p, "weight_decay": decay} for p, decay in groups])

    # lightly goes by class, and does not know the bank's norm within an expert.
    own = {f"experts.layers.{i}.weight" for i in (1, 4)} if norm_layer is nn.LayerNorm else set()
    assert by_lightly() == weights | own
    assert by_lightly(norm_layers=(*_NORM_LAYERS, ExpertNorm)) == weights


def test_layer_decay_decays_the_stacked_bias_and_scales_nothing() -> None:
    head = make_head()
    weights = {n for n, p in head.named_parameters() if n.endswith("weight") and p.ndim > 1}
    optimizer = create_optimizer_v2(head, "adamw", weight_decay=0.1, layer_decay=0.9)
    assert decayed(head, optimizer.param_groups) == weights | {"experts.layers.6.bias"}
    assert {group["lr_scale"] for group in optimizer.param_groups} == {1}


def test_adaptive_clipping_takes_an_expert_for_a_unit() -> None:
    whole, apart = make_bank(), make_bank()
    SEPARATE(apart)
    for bank in (whole, apart):
        gradients(bank)
    layer = linears(whole)[1]
    gradient = layer.weight.grad.clone()
    for bank in (whole, apart):
        adaptive_clip_grad(bank.parameters(), clip_factor=1e-4)
    separate = torch.stack([p.grad for p in linears(apart)[1].parametrizations.weight.parameters()])
    # A unit's gradient is clipped to 1e-4 of its weight's norm.
    for found, dims in ((layer.weight.grad, (1, 2)), (separate, (2,))):
        w, g = (
            t.square().sum(dims, keepdim=True).sqrt() for t in (layer.weight.detach(), gradient)
        )
        scale = (1e-4 * w.clamp(min=1e-3) / g.clamp(min=1e-6)).clamp(max=1)
        assert (scale < 1).any()
        torch.testing.assert_close(found, gradient * scale)


def test_muon_needs_separate_experts() -> None:
    # The paper's sizes: stacked weights go to AdamW, and the stacked bias to Muon.
    head = STARProjectionHead(512, 512, 128, device="meta")
    suitable = {n: is_suitable_for_muon(p) for n, p in head.experts.layers.named_parameters()}
    assert suitable == {n: n == "6.bias" for n in suitable}
    bank = make_bank()
    with pytest.raises(ValueError, match="Muon only supports 2D parameters"):
        torch.optim.Muon([layer.weight for layer in linears(bank)])
    SEPARATE(bank)
    own = {n: p for n, p in bank.layers.named_parameters() if "original" in n}
    assert all(is_suitable_for_muon(p) == ("weight" in n) for n, p in own.items())
    torch.optim.Muon([p for p in own.values() if p.ndim == 2])


def test_a_vits_position_embedding_is_not_decayed_within_star() -> None:
    backbone = create_backbone("test_vit", input_size=32)
    model = STAR(
        backbone, STARProjectionHead(backbone.num_features, 8, 4, num_experts=2, statistics="stl10")
    )
    exempt = {f"backbone.{name}" for name in backbone.no_weight_decay()}
    assert "backbone.pos_embed" in exempt
    assert model.no_weight_decay() == exempt
    optimizer = create_optimizer_v2(model, "adamw", lr=1e-3, weight_decay=0.1)
    decayed = {id(p) for g in optimizer.param_groups if g["weight_decay"] for p in g["params"]}
    named = dict(model.named_parameters())
    assert not decayed & {id(p) for name, p in named.items() if name in exempt}
    assert id(named["backbone.patch_embed.proj.weight"]) in decayed
    assert STAR(nn.Flatten(), model.head).no_weight_decay() == set()


def test_the_pages_names_are_timms() -> None:
    known = set(timm.optim.list_optimizers())
    rows = [set(listed(title)) for title in ("each number by itself", "each tensor as a whole")]
    assert rows[0] | rows[1] <= known
    assert not rows[0] & rows[1]
    assert min(map(len, rows)) > 5
