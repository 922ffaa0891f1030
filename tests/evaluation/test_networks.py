"""Every door through which an encoder comes in; what a file says is data there."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from marker import Marker
from saved_runs import last, save_run

from star_head.adapters.lightly import STARTransform
from star_head.adapters.timm import create_backbone, export_encoder
from star_head.evaluation import networks
from star_head.evaluation.networks import open_encoder
from star_head.evaluation.trained import open_trained

TRANSFORM = STARTransform(32, normalize={"mean": [0.5] * 3, "std": [0.2] * 3})


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    backbone = create_backbone("resnet10t", small_images=True)
    return export_encoder(backbone, tmp_path / "encoder", transform=TRANSFORM)


def opens(source: Any) -> None:
    encoder = open_encoder(source)
    assert (encoder.input_size, encoder.normalize["std"]) == (32, [0.2] * 3)
    assert isinstance(encoder.backbone.maxpool, torch.nn.Identity)


def test_an_export_opens_by_all_its_names(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(exported.parent))
    for source in (
        exported,
        str(exported),
        exported / "model.safetensors",
        str(exported / "config.json"),
        f"local-dir:{exported}",
        f"LOCAL-DIR:{exported}",
        "~/encoder",
        "~/encoder/model.safetensors",
    ):
        opens(source)


@pytest.mark.parametrize("prefix", ["hf-hub:", "hf_hub:"])
@pytest.mark.parametrize("revision", ["", "@v1"])
def test_an_export_opens_from_the_hub(
    prefix: str, revision: str, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the hub's cache, laid out here as a download leaves it."""
    hub = exported.parent / "hub/models--owner--name"
    (hub / "refs").mkdir(parents=True)
    for name in ("main", "v1"):
        (hub / "refs" / name).write_text("0" * 40)
    shutil.copytree(exported, hub / "snapshots" / ("0" * 40))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub.parent))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    opens(f"{prefix}owner/name{revision}")


@pytest.mark.parametrize("name", ["local-dir:nowhere", "local-dir:"])
def test_a_folder_that_lacks_its_files(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="lacks config.json and model.safetensors"):
        open_encoder(name)


def test_a_folder_does_not_hide_a_model_of_timm(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def fetch(name: str, pretrained: bool) -> Any:
        assert pretrained
        asked.append(name)
        return create_backbone(name)

    monkeypatch.setattr(networks, "create_backbone", fetch)
    monkeypatch.chdir(exported.parent)
    Path("resnet10t").mkdir()  # a run's results, say
    assert open_encoder("resnet10t").input_size == 176
    assert asked == ["resnet10t"]
    Path("resnet10t").rmdir()
    for make in (lambda: exported.rename("resnet10t"), lambda: Path("resnet18").touch()):
        name = str(getattr(make(), "name", "resnet18"))
        with pytest.raises(ValueError, match=rf"'{name}' is a model of timm, and .*'\./{name}'"):
            open_encoder(name)
    opens("./resnet10t")
    opens("resnet10t" + os.sep)
    shutil.copy(Path("resnet10t/config.json"), "resnet18.pth")  # a file and no model's name
    with pytest.raises(ValueError, match=r"resnet18.pth is no readable checkpoint"):
        open_encoder("resnet18.pth")
    assert asked == ["resnet10t"]


@pytest.mark.parametrize(
    "case",
    [
        {"pretrained": True},
        {"pretrained": True, "pretrained_cfg_overlay": {"file": "FILE", "hf_hub_id": None}},
        {"pretrained": True, "pretrained_cfg_overlay": {"url": "http://203.0.113.1/x.pth"}},
        {"pretrained_cfg": {"file": "FILE"}},
        {"checkpoint_path": "FILE"},
        {"cache_dir": "FOLDER"},
        {"name": "local-dir:FOLDER"},
        {"name": "hf-hub:owner/name"},
        {"drop_rate": torch.ones(1)},
    ],
)
def test_a_checkpoint_only_describes(case: Any, tmp_path: Path, asked: list[Any]) -> None:
    save_run(tmp_path, num_experts=2)
    path = Path(last(tmp_path))
    torch.save({"weight": Marker(tmp_path / "ran")}, tmp_path / "weights.pth")

    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: fill(item) for key, item in value.items()}
        if not isinstance(value, str):
            return value
        return value.replace("FILE", str(tmp_path / "weights.pth")).replace("FOLDER", str(tmp_path))

    saved = torch.load(path, weights_only=True)
    saved["backbone"] |= fill(case)
    torch.save(saved, path)
    for door in (open_encoder, open_trained):
        with pytest.raises(ValueError, match=rf"^encoder: {path} .*description: "):
            door(str(path))
    assert asked == []
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "words",
    [
        {"class_path": "os.system", "init_args": {"command": "touch MARK"}},
        {"class_path": "subprocess.STARTransform.Popen", "init_args": {}},
        {"class_path": "star_head.adapters.lightly.STARTransform", "init_args": {"shell": True}},
        {"class_path": "STARTransform", "init_args": {"sigmas": "MARK"}},
        {"class_path": "STARTransform", "init_args": ["MARK"]},
        {"class_path": "STARTransform"},
        {"class_path": ["STARTransform"], "init_args": {}},
        "!!python/object/apply:os.system ['touch MARK']",
        "!!python/name:os.system",
        "{",
        7,
    ],
)
def test_a_runs_settings_only_describe(words: Any, tmp_path: Path, asked: list[Any]) -> None:
    save_run(tmp_path, num_experts=2)
    text = yaml.safe_dump({"data": {"transform": words}})
    if isinstance(words, str):
        text = f"data:\n  transform: {words}\n"
    config = tmp_path / "config.yaml"
    config.write_text(text.replace("MARK", str(tmp_path / "ran")))
    with pytest.raises(ValueError, match=rf"^checkpoints: {config} does not say how"):
        open_trained(last(tmp_path))
    assert asked == []
    assert not (tmp_path / "ran").exists()
