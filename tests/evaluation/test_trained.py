"""Backbone, head and views out of checkpoints."""

import re
from pathlib import Path

import pytest
import torch
from saved_runs import NORMALIZE, last, save_run
from test_checkpoint import EXPERTS, Authors
from torch import nn

from star_head.adapters.timm import create_backbone, export_encoder
from star_head.evaluation.trained import open_trained


@pytest.mark.parametrize("routing", ["mmoe", "shared", "separate", "invariant"])
@pytest.mark.parametrize("num_layers", [1, 3])
def test_head_of_a_training_run(tmp_path: Path, routing: str, num_layers: int) -> None:
    experts = {"num_experts": 3} if routing == "mmoe" else {}
    star = save_run(tmp_path, routing=routing, num_layers=num_layers, **experts)
    trained = open_trained(last(tmp_path))
    assert trained.head.routing == routing
    assert trained.settings["trained on"] == "1,437 images of digits, batch 256, seed 0"
    images = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        features = trained.backbone(images)
        torch.testing.assert_close(features, star.backbone(images))
        found, expected = trained.head(features), star.head(features)
        torch.testing.assert_close(found.invariant, expected.invariant)
        outputs = trained.head.experts.expert_outputs(features)
        mixed = trained.head.routing_weights(features) @ outputs
        torch.testing.assert_close(mixed[:, 0], expected.invariant)
        if routing == "invariant":
            assert found.equivariant is None
            return
        torch.testing.assert_close(mixed[:, 1], expected.equivariant)
        params = 10 * torch.rand(4, 11)
        torch.testing.assert_close(
            trained.head.predict(found.equivariant, params),
            star.head.predict(expected.equivariant, params),
        )


def test_views_are_the_runs_own(tmp_path: Path) -> None:
    arguments = {"input_size": 16, "cj_strength": 1.0, "min_scale": 0.6, "sigmas": [0.1, 2.0]}
    settings = {"class_path": "star_head.adapters.lightly.STARTransform", "init_args": arguments}
    save_run(tmp_path, settings=settings)
    trained = open_trained(last(tmp_path))
    assert trained.transform.min_scale == 0.6
    assert trained.transform.max_hue == pytest.approx(0.2)
    assert trained.transform.input_size == 16
    assert trained.transform.normalize == NORMALIZE
    written = "16 pixels, the paper's settings, cj_strength 1.0, min_scale 0.6"
    assert trained.settings["views"] == written

    (tmp_path / "config.yaml").unlink()
    trained = open_trained(last(tmp_path))
    assert trained.transform.min_scale == 0.2
    assert "no config.yaml" in trained.settings["views"]


@pytest.mark.parametrize(("name", "size"), [("resnet18", 96), ("resnet50", 224)])
def test_authors_file(tmp_path: Path, name: str, size: int) -> None:
    authors = Authors(name)
    authors.save(tmp_path / "star.pth")
    trained = open_trained(str(tmp_path / "star.pth"))
    assert trained.transform.input_size == size
    assert trained.head.experts.num_experts == EXPERTS
    if name == "resnet18":
        features = torch.randn(4, 512)
        outputs = trained.head.experts.expert_outputs(features)
        expected = [p.eval()(features.double()).float() for p in authors.projectors]
        torch.testing.assert_close(outputs, torch.stack(expected, dim=1))


def test_what_holds_no_such_head_is_refused(tmp_path: Path) -> None:
    save_run(tmp_path / "norm", norm_layer=nn.LayerNorm)
    save_run(tmp_path / "many", num_experts=5)
    many = torch.load(last(tmp_path / "many"), weights_only=True)
    many["state_dict"] = {k: t for k, t in many["state_dict"].items() if "router" not in k}
    torch.save(many, last(tmp_path / "many"))
    save_run(tmp_path / "none")
    none = torch.load(last(tmp_path / "none"), weights_only=True)
    none["state_dict"] = {k: t for k, t in none["state_dict"].items() if "head" not in k}
    torch.save(none, last(tmp_path / "none"))
    save_run(tmp_path / "views", settings={"class_path": "lightly.SimCLRTransform"})
    export_encoder(create_backbone("resnet10t"), tmp_path / "encoder")
    for source, message in {
        last(tmp_path / "norm"): "is not such as examples/pretrain.py builds",
        last(tmp_path / "many"): "is not such as examples/pretrain.py builds: 5",
        last(tmp_path / "none"): "holds no head of star_head",
        last(tmp_path / "views"): "lightly.SimCLRTransform is none of torchvision's, lightly's and",
        str(tmp_path / "encoder"): "which hold the head too, got",
        "resnet18": "which hold the head too, got 'resnet18'",
    }.items():
        with pytest.raises(ValueError, match=re.escape(message)):
            open_trained(source)
