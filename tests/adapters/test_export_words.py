"""What an export says of itself: its images, its origin, its card; and torchvision's models."""

import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from lightly.transforms import SimCLRTransform
from timm.data import create_transform, resolve_model_data_config
from torch import nn
from torchvision.transforms import v2

from star_head.adapters.device import RecordingTransform
from star_head.adapters.lightly import STARMultiViewTransform, STARTransform, STARViewTransform
from star_head.adapters.timm import create_backbone, export_encoder, load_encoder
from star_head.adapters.torchvision import RecordedTransform

MEAN, STD = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
NORMALIZE = {"mean": MEAN, "std": STD}
ORIGIN = ("tag", "license", "origin_url", "paper_name", "paper_ids", "notes", "description")


def config_of(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return config


def plain(size: int, mode: v2.InterpolationMode) -> v2.Compose:
    steps = [v2.RandomResizedCrop(size, interpolation=mode), v2.ToImage()]
    return v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])


BICUBIC = v2.InterpolationMode.BICUBIC
TRANSFORMS = {
    "STARTransform": (STARTransform(48, normalize=NORMALIZE), "bilinear", 1.0),
    "one view": (STARViewTransform(48, normalize=NORMALIZE), "bilinear", 1.0),
    "many views": (
        STARMultiViewTransform(
            [STARViewTransform(48, normalize=NORMALIZE)] * 2, [plain(24, BICUBIC)]
        ),
        "bilinear",
        1.0,
    ),
    "on the device": (
        RecordingTransform(STARTransform(48, normalize=NORMALIZE)), "bilinear", 1.0
    ),
    "lightly's": (SimCLRTransform(48, normalize=NORMALIZE), "bilinear", 1.0),
    "lightly's, recorded": (
        RecordedTransform(SimCLRTransform(48, normalize=NORMALIZE)), "bilinear", 1.0
    ),
    "torchvision's": (plain(48, BICUBIC), "bicubic", 1.0),
    "torchvision's, recorded": (RecordedTransform(plain(48, BICUBIC)), "bicubic", 1.0),
    "for testing": (
        v2.Compose(
            [v2.Resize(64), v2.CenterCrop(48), v2.ToImage(),
             v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
        ),
        "bilinear",
        0.75,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TRANSFORMS)
def test_images_are_the_trainings(name: str, tmp_path: Path) -> None:
    transform, interpolation, crop = TRANSFORMS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export_encoder(create_backbone("test_resnet"), tmp_path, transform=transform)
    alone = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    for use_test_size in (False, True):
        data = resolve_model_data_config(alone, use_test_size=use_test_size)
        assert data["input_size"] == (3, 48, 48)
        assert (list(data["mean"]), list(data["std"])) == (MEAN, STD)
        assert (data["interpolation"], data["crop_pct"]) == (interpolation, crop)
        assert data["crop_mode"] == "center"


def test_timm_prepares_an_image_as_the_training_did(tmp_path: Path) -> None:
    transform = STARTransform(48, normalize=NORMALIZE)
    export_encoder(create_backbone("test_resnet"), tmp_path, transform=transform)
    alone = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    prepare = create_transform(**resolve_model_data_config(alone), is_training=False)
    pixels = torch.randint(256, (3, 70, 96), generator=torch.Generator().manual_seed(0))
    image = v2.functional.to_pil_image(pixels.to(torch.uint8))
    torch.testing.assert_close(prepare(image), transform.original(image))


def test_a_vit_leaves_with_the_numbers_that_it_was_trained_on(tmp_path: Path) -> None:
    backbone = create_backbone("test_vit", input_size=32)
    export_encoder(backbone, tmp_path, transform=STARTransform(32))
    assert config_of(tmp_path)["pretrained_cfg"]["mean"] == [0.485, 0.456, 0.406]
    # A second export of it keeps these numbers without being told.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export_encoder(load_encoder(tmp_path), tmp_path / "again")
    again, first = (
        {key: value for key, value in config_of(folder)["pretrained_cfg"].items() if value}
        for folder in (tmp_path / "again", tmp_path)
    )
    assert again == first


def test_the_numbers_of_timms_own_weights_are_not_taken_in_silence(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"mean \(0.5, 0.5, 0.5\).*bicubic.* give transform="):
        export_encoder(create_backbone("test_vit", input_size=32), tmp_path)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"input_size": 32}, ValueError, "input_size: the transform's input_size is 48, got 32"),
        ({"normalize": {"mean": STD, "std": STD}}, ValueError, "normalize: the transform's mean"),
        ({"transform": v2.Compose([v2.ToImage()])}, TypeError, "transform: .*says the size"),
        ({"transform": print}, TypeError, "transform: .*says the size of its images"),
        ({"transform": v2.RandomResizedCrop((48, 32))}, ValueError, "transform: expected square"),
    ],
)
def test_a_transform_that_says_otherwise_or_nothing(
    arguments: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    given = {"transform": STARTransform(48, normalize=NORMALIZE)} | arguments
    with pytest.raises(error, match=message):
        export_encoder(create_backbone("test_resnet"), tmp_path, **given)
    assert not list(tmp_path.iterdir())


def test_what_other_weights_are_known_for_is_cleared(tmp_path: Path) -> None:
    backbone: Any = create_backbone("vit_tiny_patch16_224.augreg_in21k_ft_in1k", input_size=32)
    origin = {"license": "mit", "paper_ids": "arXiv:2106.10270", "notes": ("said",), "tag": "x"}
    backbone.pretrained_cfg |= origin
    export_encoder(backbone, tmp_path, transform=STARTransform(32))
    assert not set(ORIGIN) & config_of(tmp_path)["pretrained_cfg"].keys()
    assert backbone.pretrained_cfg["license"] == "mit"
    card = (tmp_path / "README.md").read_text()
    assert "No licence is stated" in card
    assert "2106.10270" not in card
    assert "license:" not in card


def test_the_card_says_how_the_encoder_was_trained(tmp_path: Path) -> None:
    backbone = create_backbone("resnet10t", small_images=True)
    training = {"method": "STAR", "data set": "my | photographs", "epochs": 200}
    transform = STARTransform(32, normalize=NORMALIZE)
    export_encoder(backbone, tmp_path, transform=transform, training=training)
    card = (tmp_path / "README.md").read_text()
    for row in (
        "| method | STAR |",
        "| data set | my \\| photographs |",
        "| epochs | 200 |",
        "| images | 32 x 32 pixels, 3 channels |",
        "| mean | 0.1, 0.2, 0.3 |",
        "| resized by | bilinear, crop 1 |",
        "| output | 512 features |",
    ):
        assert row in card.splitlines()
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code.replace("FOLDER", repr(str(tmp_path))), names)  # the small stem's own opening
    assert names["encoder"](torch.zeros(1, 3, 32, 32)).shape == (1, 512)

    export_encoder(create_backbone("test_resnet"), tmp_path, transform=transform)
    card = (tmp_path / "README.md").read_text()
    assert "Not recorded." in card
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    exec(code.replace("FOLDER", str(tmp_path)), names)
    assert names["encoder"].num_classes == 0


def test_a_card_of_ones_own_stays(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Mine\n")
    export_encoder(create_backbone("test_resnet"), tmp_path, transform=STARTransform(32))
    assert (tmp_path / "README.md").read_text() == "# Mine\n"


# --- models that timm did not make -------------------------------------------------------------


def torchvision_resnet(name: str = "resnet18") -> Any:
    backbone = getattr(torchvision.models, name)()
    backbone.fc = nn.Identity()
    for norm in backbone.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.running_mean, std=0.1)
    return backbone


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "resnet50",
        pytest.param("wide_resnet50_2", marks=pytest.mark.slow),
        pytest.param("resnext50_32x4d", marks=pytest.mark.slow),
    ],
)
def test_torchvisions_resnets_leave_as_timms(name: str, tmp_path: Path) -> None:
    backbone = torchvision_resnet(name)
    export_encoder(backbone, tmp_path, transform=STARTransform(32), architecture=name)
    assert backbone.training
    alone = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(alone(images), backbone.eval()(images))
    backbone.load_state_dict(safetensors.torch.load_file(tmp_path / "model.safetensors"))


def test_a_small_stem_by_hand_leaves_too(tmp_path: Path) -> None:
    backbone = torchvision_resnet()
    backbone.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    backbone.maxpool = nn.Identity()
    description = {"name": "resnet18", "small_images": True}
    export_encoder(backbone, tmp_path, transform=STARTransform(32), architecture=description)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(load_encoder(tmp_path).eval()(images), backbone.eval()(images))


def whole() -> Any:
    return torchvision.models.resnet18()


def other_pooling() -> Any:
    backbone = torchvision_resnet()
    backbone.avgpool = nn.AdaptiveMaxPool2d(1)
    return backbone


def own_stride() -> Any:
    backbone = torchvision_resnet()
    backbone.conv1.stride = (1, 1)
    return backbone


@pytest.mark.parametrize(
    ("build", "architecture", "error", "message"),
    [
        (torchvision_resnet, None, TypeError, "got ResNet; .* architecture='resnet18'"),
        (torchvision_resnet, "resnet34", ValueError, "other weights: layer1.2.bn1.bias is absent"),
        (torchvision_resnet, "resnet81", ValueError, "no model 'resnet81'"),
        (torchvision_resnet, "hf-hub:a/b", ValueError, "no model 'hf-hub:a/b'"),
        (torchvision_resnet, {"name": "resnet18", "pretrained": True}, ValueError, "'pretrained'"),
        (whole, "resnet18", ValueError, r"other weights: fc.bias is \(1000,\), and absent"),
        (other_pooling, "resnet18", ValueError, "other features: .*absent as described"),
        (own_stride, "resnet18", ValueError, "other features: .*conv1 is Conv2d"),
        (lambda: create_backbone("resnet18"), "resnet18", ValueError, "says itself what it is"),
    ],
)
def test_what_is_not_that_architecture_is_refused(
    build: Any, architecture: Any, error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        export_encoder(build(), tmp_path, transform=STARTransform(32), architecture=architecture)
    assert not list(tmp_path.iterdir())
