"""Encoders out of training checkpoints and authors' files, into timm and torchvision."""

import os
import re
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from lightning.pytorch import Trainer
from running import output_of, run_here
from safetensors.torch import load_file
from test_checkpoint import Authors
from torch import nn

from star_head import STAR, STARProjectionHead
from star_head.adapters.lightning import STARModule
from star_head.adapters.timm import create_backbone, load_encoder
from star_head.evaluation.networks import open_encoder
from star_head.examples import export_encoder


def training_checkpoint(folder: Path, backbone: nn.Module, **data: object) -> Path:
    width = backbone.num_features
    star = STAR(backbone, STARProjectionHead(width, 8, 4, num_experts=2, statistics="stl10"))
    trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", max_epochs=1)
    trainer.strategy.connect(STARModule(star))
    trainer.save_checkpoint(folder / "run.ckpt")
    if data:
        checkpoint = torch.load(folder / "run.ckpt", weights_only=True)
        torch.save(checkpoint | {"ImageDataModule": data}, folder / "run.ckpt")
    return folder / "run.ckpt"


def shaken(backbone: nn.Module) -> nn.Module:
    """Running statistics as after training."""
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return backbone.eval()


@pytest.mark.parametrize("name", ["resnet18", pytest.param("resnet50", marks=pytest.mark.slow)])
def test_training_checkpoint_into_timm_and_torchvision(tmp_path: Path, name: str) -> None:
    backbone = shaken(create_backbone(name))
    normalize = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    path = training_checkpoint(tmp_path, backbone, input_size=64, normalize=normalize)
    export_encoder.main(str(path), tmp_path / "encoder")
    images = torch.randn(2, 3, 64, 64)
    ours = backbone(images)
    opened = timm.create_model(f"local-dir:{tmp_path / 'encoder'}", pretrained=True).eval()
    assert opened.pretrained_cfg["input_size"] == (3, 64, 64)
    assert opened.pretrained_cfg["mean"] == normalize["mean"]
    torch.testing.assert_close(opened(images), ours)

    model = getattr(torchvision.models, name)()
    model.fc = nn.Identity()
    model.load_state_dict(load_file(tmp_path / "encoder/model.safetensors"), strict=True)
    torch.testing.assert_close(model.eval()(images), ours)


def test_small_stem_and_other_arguments_survive(tmp_path: Path) -> None:
    backbone = shaken(create_backbone("resnet10t", small_images=True, drop_path_rate=0.1))
    path = training_checkpoint(tmp_path, backbone)
    printed = output_of(run_here("examples/export_encoder.py", path, tmp_path / "encoder"))
    assert f"The encoder of {path} is in" in printed
    images = torch.randn(2, 3, 32, 32)
    opened = load_encoder(tmp_path / "encoder").eval()
    torch.testing.assert_close(opened(images), backbone(images))


@pytest.mark.parametrize(
    ("name", "gpus", "size"), [("resnet18", 1, 96), ("resnet18", 4, 96), ("resnet50", 4, 224)]
)
def test_authors_checkpoint(tmp_path: Path, name: str, gpus: int, size: int) -> None:
    authors = Authors(name)
    shaken(authors.backbone)
    path = authors.save(tmp_path / "checkpoint.pth", gpus)
    export_encoder.main(str(path), tmp_path / "encoder")
    opened = timm.create_model(f"local-dir:{tmp_path / 'encoder'}", pretrained=True).eval()
    assert opened.pretrained_cfg["input_size"] == (3, size, size)
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(opened(images), authors.backbone(images))


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    bad = {
        "hostile": "it holds more than tensors and plain values (posix.mkdir)",
        "truncated": "it is truncated or damaged",
        "text": "it is no file that torch.save wrote",
        "tensor": "holds a Tensor, no checkpoint",
        "foreign": "expected an authors' checkpoint",
        "other.ckpt": "does not say how its backbone was built",
        "absent": "expected a folder of export_encoder, a checkpoint or the name of a timm model",
    }
    torch.save({"state_dict": Hostile(tmp_path / "run by pickle")}, tmp_path / "hostile")
    torch.save({"state_dict": torch.ones(99)}, tmp_path / "whole")
    (tmp_path / "truncated").write_bytes((tmp_path / "whole").read_bytes()[:300])
    (tmp_path / "text").write_text("not a checkpoint")
    torch.save(torch.ones(3), tmp_path / "tensor")
    torch.save({"model": {"weight": torch.ones(3)}}, tmp_path / "foreign")
    torch.save({"state_dict": {}, "epoch": 0, "global_step": 0}, tmp_path / "other.ckpt")
    for name, message in bad.items():
        with pytest.raises(ValueError, match=re.escape(message)):
            open_encoder(str(tmp_path / name))
    assert not (tmp_path / "run by pickle").exists()


def test_exported_folder_and_timm_name_open_too(tmp_path: Path) -> None:
    backbone = shaken(create_backbone("resnet10t"))
    path = training_checkpoint(
        tmp_path, backbone, input_size=48, normalize={"mean": [0.5] * 3, "std": [0.5] * 3}
    )
    export_encoder.main(str(path), tmp_path / "encoder")
    encoder = open_encoder(str(tmp_path / "encoder"))
    assert (encoder.input_size, encoder.normalize["std"]) == (48, [0.5] * 3)
    images = torch.randn(2, 3, 48, 48)
    torch.testing.assert_close(encoder.backbone.eval()(images), backbone(images))
