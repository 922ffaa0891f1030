"""How large heads are: on the page on methods, when printed, and in a warning of STAR."""

import importlib
import math
import re
import warnings
from pathlib import Path

import lightly.models.modules.heads as lightlys
import pytest
import torch
import yaml
from torch import nn

from star_head import STAR, STARProjectionHead
from star_head.adapters.lightly import expert_width
from star_head.adapters.timm import create_backbone

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/methods.md").read_text()


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def rows(first: str) -> dict[str, list[str]]:
    """A table's rows by their first cell; the table is told by its head's beginning."""
    (table,) = re.findall(rf"^\| {first}.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]
    return {name: rest for name, *rest in cells}


@pytest.mark.parametrize("hidden_dim", [1, 7, 64, 512, 2048, 8192])
@pytest.mark.parametrize("num_experts", [1, 2, 3, 8, 16, 64])
def test_experts_share_one_heads_hidden_parameters(hidden_dim: int, num_experts: int) -> None:
    width = expert_width(hidden_dim, num_experts)
    assert 1 <= width <= hidden_dim
    if num_experts == 1:
        assert width == hidden_dim
    elif hidden_dim >= 64:
        assert width % 8 == 0
        exact = hidden_dim / math.sqrt(num_experts)
        assert exact <= width < exact + 8


@pytest.mark.parametrize(("name", "value"), [("hidden_dim", 0), ("num_experts", 0)])
def test_bad_widths(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected at least 1, got 0"):
        expert_width(**{"hidden_dim": 512, "num_experts": 16, name: value})


LIGHTLYS = {
    "SimCLR, DCL, MoCo v2, SwaV": (lightlys.SimCLRProjectionHead, {"num_layers": 2}),
    "NNCLR": (lightlys.NNCLRProjectionHead, {}),
    "BYOL": (lightlys.BYOLProjectionHead, {"num_layers": 2}),
    "SimSiam": (lightlys.SimSiamProjectionHead, {}),
    "Barlow Twins, VICReg": (lightlys.BarlowTwinsProjectionHead, {}),
}


@pytest.mark.parametrize("method", [*LIGHTLYS, "DINO, to its bottleneck"])
def test_the_pages_sizes_for_lightlys_widths(method: str) -> None:
    own, its, copies, rule, sixteen, eight = rows("method . its own head")[method]
    (hidden, output), (narrow, out) = (
        [int(n.replace(",", "")) for n in re.findall(r"\d[\d,]*\d", cell)] for cell in (own, rule)
    )
    head, options = LIGHTLYS.get(method, (None, {}))

    def millions(hidden_dim: int, output_dim: int, num_experts: int) -> str:
        made = STARProjectionHead(
            2048, hidden_dim, output_dim, num_experts=num_experts, device="meta", **options
        )
        return f"{count(made) / 1e6:,.1f}"

    alone = STARProjectionHead(2048, hidden, output, routing="invariant", device="meta", **options)
    assert f"{count(alone) / 1e6:.1f}" == its
    if head is not None:
        with torch.device("meta"):
            assert f"{count(head()) / 1e6:.1f}" == its
    assert (narrow, out) == (expert_width(hidden), min(output, 512))
    assert millions(hidden, output, 16) == copies
    assert millions(narrow, out, 16) == sixteen
    assert millions(expert_width(hidden, 8), out, 8) == eight


FILES = {
    "SimCLR": "simclr",
    "DCL": "dcl",
    "MoCo v2": "moco",
    "NNCLR": "nnclr",
    "SwaV": "swav",
    "BYOL": "byol",
    "SimSiam": "simsiam",
    "DINO": "dino",
    "Barlow Twins": "barlow_twins",
    "VICReg": "vicreg",
}


@pytest.mark.parametrize("method", FILES)
def test_the_pages_sizes_of_the_examples(method: str) -> None:
    module = importlib.import_module(f"star_head.examples.lightly.{FILES[method]}")
    create = getattr(module, method.replace(" v2", "").replace(" ", ""))
    alone = create(nn.Identity(), 512, hidden_dim=512, routing="invariant", statistics="stl10")
    star = create(nn.Identity(), 512, statistics="stl10")
    sizes = [f"{count(made.projection_head) / 1e6:.1f}" for made in (alone, star)]
    assert rows("method . experts . parameters")[method][1] == " and ".join(sizes) + " million"
    assert star.projection_head.experts.layers[0].weight.shape[1] == expert_width(512)


def test_a_head_prints_its_number_of_parameters() -> None:
    head = STARProjectionHead(512, 512, 128)
    assert repr(head).startswith("STARProjectionHead(\n  routing='mmoe', parameters=9,950,880\n")
    assert count(head) == 9_950_880


def warned(backbone: nn.Module, head: STARProjectionHead) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        STAR(backbone, head)
    return [str(w.message) for w in caught if str(w.message).startswith("head: ")]


def test_a_head_that_is_larger_than_its_backbone_by_far_is_said_once() -> None:
    backbone = create_backbone("test_resnet")
    width, own = backbone.num_features, count(backbone)
    large = STARProjectionHead(width, 512, 128, statistics="stl10")
    (message,) = warned(backbone, large)
    assert f"its {count(large):,} parameters are" in message
    assert f"{count(large) / own:.0f} times the backbone's {own:,}; narrower experts" in message
    narrow = STARProjectionHead(width, expert_width(512), 128, statistics="stl10")
    assert warned(backbone, narrow) == []
    assert warned(nn.Identity(), large) == []  # features from elsewhere
    lazy = nn.LazyLinear(width)
    assert warned(nn.Sequential(nn.Flatten(), lazy), large) == []
    small = STARProjectionHead(3, 6, 4, statistics="stl10")
    assert warned(nn.BatchNorm1d(3), small) == []


@pytest.mark.parametrize(("name", "experts"), [("resnet18", 16), ("resnet50", 8)])
def test_the_papers_heads_are_in_proportion(name: str, experts: int) -> None:
    with torch.device("meta"):
        backbone = create_backbone(name)
    width = backbone.num_features
    head = STARProjectionHead(width, width, 128, num_experts=experts, device="meta")
    assert warned(backbone, head) == []


@pytest.mark.parametrize("name", ["folder", "imagenet100_resnet50"])
def test_configurations_of_resnet50_have_the_papers_eight_experts(name: str) -> None:
    settings = yaml.safe_load((ROOT / f"examples/configs/{name}.yaml").read_text())
    assert settings["model"]["backbone"] == "resnet50"
    assert settings["model"]["num_experts"] == 8
