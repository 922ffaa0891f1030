"""Every method's example: its own loss without STAR, and both tasks' gradients with it."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from lightly.data import LightlyDataset
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from star_head.adapters.lightly import STL10_NORMALIZE, STARTransform

FOLDER = Path(__file__).parents[2] / "examples/lightly"
METHODS = {
    "barlow_twins": "BarlowTwins",
    "byol": "BYOL",
    "dcl": "DCL",
    "dino": "DINO",
    "moco": "MoCo",
    "nnclr": "NNCLR",
    "simclr": "SimCLR",
    "simsiam": "SimSiam",
    "swav": "SwaV",
    "vicreg": "VICReg",
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(16):
        pixels = rng.integers(0, 256, size=(20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module(name)


def make(module: ModuleType, name: str, routing: str) -> LightningModule:
    torch.manual_seed(0)
    backbone = nn.Sequential(
        nn.Conv2d(3, 12, 3), nn.BatchNorm2d(12), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
    )
    return getattr(module, METHODS[name])(backbone, 12, statistics="stl10", routing=routing)


def make_loader(module: ModuleType, images: Path) -> DataLoader:
    """As lightly's users make it: their own data set class on a folder."""
    create = getattr(module, "multi_crop", STARTransform)
    dataset = LightlyDataset(input_dir=str(images), transform=create(16, normalize=STL10_NORMALIZE))
    return DataLoader(dataset, batch_size=8, shuffle=True, drop_last=True)


class Gradients:
    """Names of parameters whose gradient was not zero after a step."""

    def __init__(self, module: LightningModule) -> None:
        self.seen: set[str] = set()
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                parameter.register_hook(lambda g, name=name: self.note(name, g))

    def note(self, name: str, gradient: torch.Tensor) -> None:
        if gradient.abs().sum() > 0:
            self.seen.add(name)


@pytest.mark.parametrize("name", METHODS)
def test_trains_both_tasks(name: str, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load(name, monkeypatch)
    method = make(module, name, "mmoe")
    gradients = Gradients(method)
    before = {k: v.clone() for k, v in method.state_dict().items()}
    trainer = Trainer(
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(method, make_loader(module, images))
    assert trainer.global_step == 4
    assert {"projection_head.experts.router.weight", "backbone.0.weight"} <= gradients.seen
    predictor = {k for k in dict(method.named_parameters()) if "projection_head.predictor" in k}
    assert {k for k in predictor if k.endswith("weight")} <= gradients.seen
    for key, value in method.state_dict().items():
        assert value.isfinite().all(), key
    after, trained = method.state_dict(), dict(method.named_parameters())
    momentum = [k for k in trained if "_momentum" in k]
    assert bool(momentum) == (name in ("byol", "dino", "moco"))
    moved = 0
    for key in momentum:
        assert not trained[key].requires_grad
        change, whole = (after[k] - before[key] for k in (key, key.replace("_momentum", "")))
        if whole.norm() > 0:
            # It has followed by less than the online network has moved.
            assert change.norm() < 0.5 * whole.norm(), key
            moved += bool(change.norm() > 0)
    assert moved == sum(
        not torch.equal(after[k.replace("_momentum", "")], before[k]) for k in momentum
    )


@pytest.mark.parametrize("name", METHODS)
def test_without_star_is_the_methods_own_loss(
    name: str, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The equivariant part is all that differs: its criterion is not called, nor is it embedded."""
    module = load(name, monkeypatch)
    method = make(module, name, "invariant")
    calls: list[int] = []
    monkeypatch.setattr(module, "equivariant_loss", record_calls(module.equivariant_loss, calls))
    trainer = Trainer(
        max_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(method, make_loader(module, images))
    assert calls == [0]
    assert method.projection_head.predictor is None
    assert not any("router" in key for key in method.state_dict())


def record_calls(function: Any, calls: list[int]) -> Any:
    def recorded(*args: Any) -> torch.Tensor:
        loss = function(*args)
        calls.append(loss.item())
        return loss

    return recorded


def test_from_the_command_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, FOLDER / "simclr.py", "--epochs=3", "--batch-size=128", "--num-workers=0"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(
        (tmp_path / "runs/lightly/simclr_mmoe_digits_resnet10t_3_128_0.json").read_text()
    )
    assert results["images"] == 1437
    assert results["MRR"] > 1.3 * results["MRR by chance"]
    assert 0.8 < results["1-NN accuracy before"] < 0.95
    assert f"{'1-NN accuracy after':30} {results['1-NN accuracy after']:.3f}" in done.stdout
