"""Against the real timm, without its weights: nothing here needs a network."""

import copy
import json
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from timm.models import register_model
from torch import Tensor, nn

from star_head.adapters.timm import (
    create_backbone,
    describe_backbone,
    export_encoder,
    load_encoder,
)


@pytest.fixture(autouse=True)
def _quiet_timm(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, logger="timm")


@torch.no_grad()
def features(model: nn.Module, size: int, channels: int = 3) -> Tensor:
    images = torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(1))
    was_training = model.training
    out: Tensor = model.eval()(images)
    model.train(was_training)
    return out


def shake(model: nn.Module) -> nn.Module:
    """Give every weight and statistic a value of its own, so that none can be missed."""
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.05 * torch.rand_like(tensor))
    return model


def config_of(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return config


# --- create_backbone ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kwargs", "size"),
    [
        ("resnet18", {}, 64),
        ("resnet10t", {"in_chans": 1}, 64),
        ("resnet10t", {"global_pool": "catavgmax"}, 64),
        ("regnetx_002", {}, 64),
        ("test_efficientnet", {}, 64),
        ("mobilenetv3_small_050", {}, 64),
        ("lcnet_050", {}, 64),
        ("test_convnext", {}, 64),
        ("test_nfnet", {}, 64),
        ("densenet121", {}, 64),
        ("efficientvit_b0", {}, 64),
        ("vit_tiny_patch16_224", {"img_size": 32, "depth": 2}, 32),
        ("test_vit", {"dynamic_img_size": True}, 64),
        ("swin_tiny_patch4_window7_224", {"img_size": 56, "depths": (1, 1, 1, 1)}, 56),
        ("mixer_s32_224", {"img_size": 64}, 64),
        ("test_maxvit", {}, 160),
        ("levit_128s", {}, 224),
        ("xcit_nano_12_p16_224", {"img_size": 64}, 64),
    ],
)
def test_num_features_is_the_width_that_comes_out(
    name: str, kwargs: dict[str, Any], size: int
) -> None:
    backbone = create_backbone(name, **kwargs)
    out = features(backbone, size, kwargs.get("in_chans", 3))
    assert out.shape == (2, backbone.num_features)
    assert backbone.training


def test_the_width_can_differ_from_what_timm_notes() -> None:
    plain = timm.create_model("mobilenetv3_small_050", num_classes=0)
    assert create_backbone("mobilenetv3_small_050").num_features != plain.num_features


@pytest.mark.parametrize(
    "carry",
    [
        *(
            pytest.param(carry, marks=pytest.mark.slow)
            for carry in ("as it is", "copied", "pickled")
        ),
        "reloaded",
    ],
)
def test_a_classifier_fits_where_the_widths_differ(carry: str, tmp_path: Path) -> None:
    own = timm.create_model("mobilenetv3_small_050", num_classes=0).num_features
    backbone: Any = create_backbone("mobilenetv3_small_050", input_size=64)
    if carry == "copied":
        original, backbone = backbone, copy.deepcopy(backbone)
    elif carry == "pickled":
        backbone = pickle.loads(pickle.dumps(backbone))
    elif carry == "reloaded":
        backbone = load_encoder(export_encoder(backbone, tmp_path))
    assert backbone.num_features == 1024
    backbone.reset_classifier(5)
    assert features(backbone, 64).shape == (2, 5)
    assert backbone.num_features == own
    backbone.reset_classifier(3)
    assert features(backbone, 64).shape == (2, 3)
    for _ in range(2):
        backbone.reset_classifier(0)
        assert features(backbone, 64).shape == (2, backbone.num_features) == (2, 1024)
    backbone.reset_classifier(0, global_pool="")  # whose features have no width
    assert backbone.num_features == own
    backbone.reset_classifier(4, global_pool="avg")
    assert features(backbone, 64).shape == (2, 4)
    if carry == "copied":
        assert features(original, 64).shape == (2, original.num_features) == (2, 1024)


@pytest.mark.parametrize(
    "name",
    [
        "test_vit",
        pytest.param("swin_tiny_patch4_window7_224", marks=pytest.mark.slow),
        pytest.param("efficientvit_m0", marks=pytest.mark.slow),
        "resnet10t",
    ],
)
def test_input_size_is_the_size_that_a_model_is_made_for(name: str, tmp_path: Path) -> None:
    backbone = create_backbone(name, input_size=64)
    assert features(backbone, 64).shape == (2, backbone.num_features)
    bound = name != "resnet10t"
    assert describe_backbone(backbone).get("img_size") == (64 if bound else None)
    again = create_backbone(**describe_backbone(backbone))
    again.load_state_dict(backbone.state_dict())
    assert torch.equal(features(again, 64), features(backbone, 64))
    assert again.pretrained_cfg == backbone.pretrained_cfg
    assert describe_backbone(again) == describe_backbone(backbone)
    export_encoder(backbone, tmp_path)
    assert config_of(tmp_path)["pretrained_cfg"]["input_size"] == [3, 64, 64]


def test_an_export_of_one_size_opens_at_that_size(tmp_path: Path) -> None:
    backbone = create_backbone("test_vit", input_size=64)
    name = f"local-dir:{export_encoder(backbone, tmp_path)}"
    opened = create_backbone(name, pretrained=True, input_size=64)
    assert torch.equal(features(opened, 64), features(backbone, 64))
    with pytest.raises(ValueError, match=r"input_size: .* was made for its own size"):
        create_backbone(name, input_size=32)
    assert features(create_backbone(name, input_size=32, img_size=32), 32).shape == (2, 64)


def test_a_description_says_no_more_than_was_given() -> None:
    plain = {"name": "resnet18", "small_images": False, "in_chans": 3, "global_pool": "avg"}
    assert describe_backbone(create_backbone("resnet18")) == plain
    # timm's own size, but no longer its size for testing.
    given = create_backbone("resnet18", input_size=224)
    assert describe_backbone(given) == plain | {"input_size": 224}
    assert "input_size" not in describe_backbone(create_backbone("test_vit", img_size=64))
    resized = create_backbone("test_vit", input_size=64)
    resized.set_input_size(96)
    again = create_backbone(**describe_backbone(resized))
    assert features(again, 96).shape == (2, 64)
    with pytest.raises(ValueError, match=r"input_size: expected one size"):
        create_backbone("test_vit", input_size=64, img_size=(64, 96))


def test_a_description_holds_for_a_reloaded_encoder(tmp_path: Path) -> None:
    for name, options in (("test_vit", {}), ("resnet10t", {"in_chans": 4})):
        backbone = create_backbone(name, input_size=64, **options)
        loaded = load_encoder(export_encoder(backbone, tmp_path / name))
        again = create_backbone(**describe_backbone(loaded))
        assert again.pretrained_cfg["input_size"] == backbone.pretrained_cfg["input_size"]
        again.load_state_dict(backbone.state_dict())


def test_measuring_leaves_no_trace() -> None:
    torch.manual_seed(3)
    expected = timm.create_model("resnet18", num_classes=0)
    state = torch.get_rng_state()
    torch.manual_seed(3)
    backbone = create_backbone("resnet18")
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, expected.state_dict()[name]), name
    assert all(parameter.device.type == "cpu" for parameter in backbone.parameters())
    assert all(module.training for module in backbone.modules())


class _Stubborn(nn.Module):
    """Needs numbers to run, which the meta device has not."""

    def __init__(self, num_classes: int = 0, **_: Any) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.dropout = nn.Dropout()
        self.num_classes = num_classes
        self.pretrained_cfg = {"input_size": (3, 8, 8), "architecture": "stubborn"}
        self.devices: list[str] = []

    def forward(self, images: Tensor) -> Tensor:
        self.devices.append(images.device.type)
        return self.dropout(self.norm(images)).mean((2, 3)) + images.sum().item()


def test_a_model_that_meta_cannot_run_is_measured_for_real() -> None:
    def stubborn(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        kwargs = {k: v for k, v in kwargs.items() if k == "num_classes"}
        return _Stubborn(**kwargs)

    # timm looks for the weights that a module of models offers.
    stubborn.__module__ = __name__
    register_model(stubborn)
    generator = torch.get_rng_state()
    backbone = create_backbone("stubborn")
    assert torch.equal(torch.get_rng_state(), generator)
    assert backbone.num_features == 3
    assert backbone.norm.num_batches_tracked == 0
    assert backbone.devices == []
    assert backbone.training


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("resnet18", {}),
        ("resnet10t", {}),  # a deep, tiered stem
        ("seresnext26t_32x4d", {}),
        ("resnetblur18", {}),
        ("resnetrs50", {}),  # a strided convolution in the place of the pooling
        ("test_resnet", {"in_chans": 1}),
    ],
)
def test_small_image_stems_keep_the_resolution(name: str, kwargs: dict[str, Any]) -> None:
    backbone = create_backbone(name, small_images=True, **kwargs)
    sizes: list[torch.Size] = []
    backbone.layer1.register_forward_hook(lambda _, inputs, out: sizes.append(out.shape[2:]))
    backbone.layer4.register_forward_hook(lambda _, inputs, out: sizes.append(out.shape[2:]))
    features(backbone, 32, kwargs.get("in_chans", 3))
    assert sizes == [(32, 32), (4, 4)]
    first = next(module for module in backbone.modules() if isinstance(module, nn.Conv2d))
    assert first.kernel_size == (3, 3)
    assert first.weight.shape[1:] == (kwargs.get("in_chans", 3), 3, 3)
    assert first.stride == (1, 1)


def test_a_fresh_small_stem_is_drawn_as_timm_draws() -> None:
    conv = create_backbone("resnet18", small_images=True).conv1
    assert conv.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)
    assert isinstance(conv.weight, nn.Parameter)
    assert conv.weight.requires_grad


@pytest.mark.slow
def test_small_images_and_pretrained_weights_go_together(tmp_path: Path) -> None:
    for name, fresh in (("resnet18", {"conv1.weight"}), ("resnet10t", set())):
        weights = shake(timm.create_model(name, num_classes=0)).state_dict()
        overlay = {"state_dict": dict(weights), "num_classes": 0}
        backbone = create_backbone(
            name, pretrained=True, small_images=True, pretrained_cfg_overlay=overlay
        )
        state = backbone.state_dict()
        changed = {
            key
            for key in weights
            if state[key].shape != weights[key].shape or not torch.equal(state[key], weights[key])
        }
        assert changed == fresh
        export_encoder(backbone, tmp_path / name, input_size=32)
        assert torch.equal(features(load_encoder(tmp_path / name), 32), features(backbone, 32))


def test_paper_initialisation() -> None:
    torch.manual_seed(0)
    backbone = create_backbone("resnet18", init="paper", zero_init_last=False)
    convolutions = [m for m in backbone.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 20
    for conv in convolutions:
        bound = conv.weight[0].numel() ** -0.5
        assert 0.99 * bound < conv.weight.abs().max() <= bound
        assert conv.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
    for name, module in backbone.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            last = name.endswith("bn2")
            assert torch.equal(module.weight, torch.full_like(module.weight, 0.0 if last else 1.0))


def test_paper_initialisation_of_bottlenecks_and_linear_layers() -> None:
    backbone = create_backbone("resnet26", init="paper")
    norms = {name: m for name, m in backbone.named_modules() if isinstance(m, nn.BatchNorm2d)}
    zero = {name for name, norm in norms.items() if not norm.weight.any()}
    assert zero == {name for name in norms if name.endswith("bn3")}
    assert len(zero) == 8
    linear = create_backbone("test_vit", init="paper").blocks[0].mlp.fc1
    bound = linear.in_features**-0.5
    for tensor in (linear.weight, linear.bias):
        assert 0.9 * bound < tensor.abs().max() <= bound


def test_timm_initialisation_is_left_alone() -> None:
    conv = create_backbone("resnet18").layer4[1].conv2
    fan_out = conv.out_channels * 9
    assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.02)
    assert conv.weight.abs().max() > conv.weight[0].numel() ** -0.5


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"name": "resnet81"}, r"name: .* no model 'resnet81'; closest: .*resnet18"),
        ({"name": "resnet81.a1_in1k"}, r"name: .*; closest: .*resnet18"),
        ({"name": "zzzzzzzzzz"}, r"name: .* 'zzzzzzzzzz'; see timm.list_models"),
        ({"name": "test_vit", "small_images": True}, r"small_images: .*test_vit.*Transformer"),
        ({"name": "regnetx_002", "small_images": True}, r"small_images: .* timm.models.resnet"),
        ({"name": "resnet10t", "init": "lecun"}, r"init: expected 'timm' or 'paper', got 'lecun'"),
        ({"name": "resnet10t", "init": "paper", "pretrained": True}, r"init: .*pretrained=True"),
        ({"name": "resnet10t", "global_pool": ""}, r"\(2, D\) .* got \(2, 512, \d, \d\)"),
        ({"name": "resnet10t", "features_only": True}, r"\(2, D\) .* got list"),
        ({"name": "resnet10t", "input_size": 0}, r"input_size: .* at least 1, got 0"),
        ({"name": "efficientformer_l1", "input_size": 64}, r"input_size: efficientformer_l1 takes"),
        ({"name": "mvitv2_tiny", "input_size": 16}, r"input_size: mvitv2_tiny takes no images"),
        ({"name": "gcvit_xxtiny", "input_size": 8}, r"input_size: gcvit_xxtiny takes no images"),
        ({"name": "test_maxvit", "input_size": 16}, r"input_size: test_maxvit takes no images"),
        ({"name": "test_vit", "input_size": 64, "img_size": 96}, r"input_size: .*img_size=96"),
    ],
)
def test_impossible_backbones(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_backbone(**kwargs)


def test_weights_are_not_blamed_on_the_size() -> None:
    def create(name: str, size: int, **weights: Any) -> nn.Module:
        return create_backbone(
            name, pretrained=True, input_size=size, pretrained_cfg_overlay=weights
        )

    weights = create_backbone("test_resnet").state_dict()
    with pytest.raises(RuntimeError, match="loading state_dict"):
        create("resnet10t", 64, state_dict=weights, num_classes=0)
    with pytest.raises(FileNotFoundError):
        create("resnet10t", 64, file="nowhere.pth")
    with pytest.raises(ValueError, match="input_size: mvitv2_tiny takes no images"):
        create("mvitv2_tiny", 16, file="nowhere.pth")


@pytest.mark.parametrize("missing", ["timm", "timm.models._input"])  # the latter from an old timm
def test_without_timm_the_extra_is_named(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; import star_head.adapters.timm"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    words = 'star_head.adapters.timm needs timm 1.0.31 or newer: pip install "star-head[timm]"'
    assert f"ImportError: {words}" in run.stderr


# --- export_encoder, load_encoder --------------------------------------------------------------

PLAIN = [
    ("resnet10t", {}, 64),
    ("resnet18", {"in_chans": 1}, 64),
    ("resnet10t", {"in_chans": 4, "global_pool": "max"}, 64),
    ("mobilenetv3_small_050", {"drop_path_rate": 0.1}, 64),
    ("vit_tiny_patch16_224", {"img_size": 32, "depth": 2}, None),
    ("test_vit", {"dynamic_img_size": True}, 64),
    ("swin_tiny_patch4_window7_224", {"img_size": 56, "depths": (1, 1, 1, 1)}, None),
    ("coat_lite_tiny", {"img_size": 64}, None),  # shares weights between layers
]

OPEN_WITHOUT_STAR_HEAD = """
import sys
sys.modules["star_head"] = None
import timm, torch
for folder in sys.argv[1:]:
    encoder = timm.create_model(f"local-dir:{folder}/export", pretrained=True).eval()
    with torch.no_grad():
        torch.save(encoder(torch.load(f"{folder}/images.pt")), f"{folder}/features.pt")
"""


@pytest.mark.slow
def test_exports_open_in_timm_alone_and_in_load_encoder(tmp_path: Path) -> None:
    expected: dict[Path, Tensor] = {}
    for number, (name, kwargs, size) in enumerate(PLAIN):
        folder = tmp_path / str(number)
        backbone = shake(create_backbone(name, **kwargs))
        assert export_encoder(backbone, folder / "export", input_size=size) == folder / "export"
        side = size or kwargs["img_size"]
        channels = kwargs.get("in_chans", 3)
        config = config_of(folder / "export")
        assert config["num_classes"] == config["pretrained_cfg"]["num_classes"] == 0
        assert config["num_features"] == backbone.num_features
        assert config["pretrained_cfg"]["input_size"] == [channels, side, side]
        assert len(config["pretrained_cfg"]["mean"]) == channels
        assert "star_head" not in config
        assert "drop_path_rate" not in config["model_args"]

        expected[folder] = features(backbone, side, channels)
        assert expected[folder].shape == (2, backbone.num_features)
        generator = torch.Generator().manual_seed(1)
        torch.save(torch.randn(2, channels, side, side, generator=generator), folder / "images.pt")

        loaded = load_encoder(folder / "export")
        assert loaded.training
        assert loaded.num_features == backbone.num_features
        assert torch.equal(features(loaded, side, channels), expected[folder])

    command = [sys.executable, "-c", OPEN_WITHOUT_STAR_HEAD, *map(str, expected)]
    subprocess.run(command, check=True)
    for folder, tensor in expected.items():
        torch.testing.assert_close(torch.load(folder / "features.pt"), tensor)


@pytest.mark.parametrize("name", ["resnet18", "resnet10t"])
def test_small_image_stems_come_back(name: str, tmp_path: Path) -> None:
    backbone = shake(create_backbone(name, small_images=True))
    export_encoder(backbone, tmp_path, input_size=32)
    assert config_of(tmp_path)["star_head"] == {"small_images": True}
    loaded = load_encoder(tmp_path)
    assert torch.equal(features(loaded, 32), features(backbone, 32))
    export_encoder(loaded, tmp_path / "again", input_size=32)
    assert config_of(tmp_path / "again") == config_of(tmp_path)


def test_size_and_normalisation_are_written(tmp_path: Path) -> None:
    normalize = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    export_encoder(create_backbone("resnet10t"), tmp_path, input_size=96, normalize=normalize)
    model = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    for use_test_size in (False, True):
        data = timm.data.resolve_model_data_config(model, use_test_size=use_test_size)
        assert tuple(data["input_size"]) == (3, 96, 96)
        assert list(data["mean"]) == normalize["mean"]
        assert list(data["std"]) == normalize["std"]


def test_the_backbones_own_configuration_holds_otherwise(tmp_path: Path) -> None:
    backbone = create_backbone("resnet10t")
    export_encoder(backbone, tmp_path)
    config = config_of(tmp_path)
    assert config["architecture"] == "resnet10t"
    for key in ("input_size", "test_input_size", "mean", "std", "crop_pct", "interpolation"):
        own = backbone.pretrained_cfg[key]
        assert config["pretrained_cfg"][key] == (list(own) if isinstance(own, tuple) else own)
    assert not {"url", "hf_hub_id", "file"} & config["pretrained_cfg"].keys()


def test_a_classifier_is_left_out(tmp_path: Path) -> None:
    classifier = shake(timm.create_model("resnet10t", num_classes=7))
    export_encoder(classifier, tmp_path)
    assert config_of(tmp_path)["num_classes"] == 0
    assert classifier.num_classes == 7
    expected = classifier.forward_head(
        classifier.eval().forward_features(torch.ones(2, 3, 64, 64)), pre_logits=True
    )
    loaded = load_encoder(tmp_path).eval()
    assert torch.equal(loaded(torch.ones(2, 3, 64, 64)), expected)


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_050", "test_vit"])
def test_a_classifier_is_kept_where_that_is_asked_for(name: str, tmp_path: Path) -> None:
    options = {"img_size": 96} if "vit" in name else {}
    classifier = shake(timm.create_model(name, num_classes=7, **options))
    export_encoder(classifier, tmp_path, input_size=96, keep_classifier=True)
    assert config_of(tmp_path)["num_classes"] == 7
    images = torch.randn(2, 3, 96, 96)
    logits = classifier.eval()(images)
    assert logits.shape == (2, 7)
    alone = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert torch.equal(alone(images), logits)
    assert torch.equal(load_encoder(tmp_path, keep_classifier=True).eval()(images), logits)
    encoder = load_encoder(tmp_path).eval()
    expected = classifier.forward_head(classifier.forward_features(images), pre_logits=True)
    assert torch.equal(encoder(images), expected)
    assert encoder.num_features == expected.shape[1]


def test_a_classifier_is_kept_beside_a_small_stem(tmp_path: Path) -> None:
    classifier = create_backbone("resnet18", small_images=True)
    classifier.reset_classifier(3)
    export_encoder(shake(classifier), tmp_path, input_size=32, keep_classifier=True)
    loaded = load_encoder(tmp_path, keep_classifier=True)
    assert features(loaded, 32).shape[1] == 3
    assert torch.equal(features(loaded, 32), features(classifier, 32))


@pytest.mark.parametrize(
    "wrap",
    [
        "data parallel",
        "in place",
        *(pytest.param(w, marks=pytest.mark.slow) for w in ("compile", "both")),
    ],
)
def test_wrappers_are_taken_off(wrap: str, tmp_path: Path) -> None:
    backbone = shake(create_backbone("resnet10t"))
    wrapped: Any = backbone
    if wrap == "in place":
        backbone.compile()
    if wrap in ("data parallel", "both"):
        store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
        torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
        wrapped = nn.parallel.DistributedDataParallel(wrapped)
    if wrap in ("compile", "both"):
        wrapped = torch.compile(wrapped)
    try:
        export_encoder(wrapped, tmp_path / "export")
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    state = load_encoder(tmp_path / "export").state_dict()
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(state[name], tensor), name


def test_channels_last_weights_export(tmp_path: Path) -> None:
    backbone = shake(create_backbone("resnet10t")).to(memory_format=torch.channels_last)
    export_encoder(backbone, tmp_path)
    state = load_encoder(tmp_path).state_dict()
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(state[name], tensor), name
    assert backbone.layer1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "coat_lite_tiny"])
def test_export_leaves_no_trace(name: str, tmp_path: Path) -> None:
    backbone = create_backbone(name, input_size=64)
    next(m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d | nn.LayerNorm)).eval()
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    parameters, modes = list(backbone.parameters()), [m.training for m in backbone.modules()]
    config, generator = dict(backbone.pretrained_cfg), torch.get_rng_state()
    export_encoder(backbone, tmp_path, input_size=64)
    assert torch.equal(torch.get_rng_state(), generator)
    assert backbone.pretrained_cfg == config
    assert modes == [m.training for m in backbone.modules()]
    assert all(a is b for a, b in zip(parameters, backbone.parameters(), strict=True))
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(before[name], tensor), name
    files = sorted(tmp_path.iterdir())
    names = ["README.md", "config.json", "model.safetensors"]
    assert [file.name for file in files] == names
    assert len({file.stat().st_mode for file in files}) == 1


@pytest.mark.parametrize("broken", ["weights", "config"])
def test_a_failed_export_leaves_the_old_one(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = shake(create_backbone("resnet10t"))
    export_encoder(backbone, tmp_path)
    old = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def fail(*args: Any, **_: Any) -> None:
        Path(args[1]).write_bytes(b"half of it")
        raise OSError("disk full")

    if broken == "weights":
        monkeypatch.setattr(safetensors.torch, "save_file", fail)
    else:
        monkeypatch.setattr("timm.models._hub.save_config_for_hf", fail)
    with pytest.raises(OSError, match="disk full"):
        export_encoder(shake(backbone), tmp_path, input_size=64)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == old


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("vit_tiny_patch16_224", {"input_size": 96}, r"input_size: vit_tiny.*\(3, 96, 96\)"),
        # Runs at any size, but timm rebuilds it for one.
        pytest.param(
            "efficientvit_m0",
            {"input_size": 96},
            r"input_size: .*224.* img_size=96",
            marks=pytest.mark.slow,
        ),
        ("resnet10t", {"input_size": 0}, r"input_size: .* at least 1, got 0"),
        ("resnet10t", {"normalize": {"mean": [0.5] * 3}}, r"normalize: .* 'mean' .* 'std'"),
        ("resnet10t", {"normalize": {"mean": [0.5], "std": [1.0]}}, r"normalize: expected 3"),
        ("resnet10t", {"normalize": {"mean": [0.5] * 3, "std": [1, 1, 0]}}, r"normalize: .* above"),
    ],
)
def test_impossible_exports(
    name: str, kwargs: dict[str, Any], message: str, tmp_path: Path
) -> None:
    backbone = create_backbone(name)
    with pytest.raises(ValueError, match=message):
        export_encoder(backbone, tmp_path, **kwargs)
    assert list(tmp_path.iterdir()) == []


def test_only_timm_models_are_exported(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"backbone: expected a timm model.*got Sequential"):
        export_encoder(nn.Sequential(nn.Linear(2, 2)), tmp_path)
    with pytest.raises(TypeError, match=r"input_size: .*integer, got 9.5"):
        export_encoder(create_backbone("resnet10t"), tmp_path, input_size=9.5)


@pytest.mark.parametrize("missing", ["folder", "config.json", "model.safetensors"])
def test_missing_files(missing: str, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    if missing != "folder":
        export_encoder(create_backbone("resnet10t"), folder)
        os.remove(folder / missing)
        # Never read: it could run code.
        torch.save({}, folder / "pytorch_model.bin")
    lacks = "config.json and model.safetensors" if missing == "folder" else missing
    with pytest.raises(FileNotFoundError) as caught:
        load_encoder(folder)
    assert str(folder) in str(caught.value)
    assert str(caught.value).endswith(f"which lacks {lacks}")


@pytest.mark.parametrize("damage", ["json", "architecture", "options", "weights", "torn", "small"])
def test_damaged_exports(damage: str, tmp_path: Path) -> None:
    export_encoder(create_backbone("resnet18"), tmp_path)
    config, weights = tmp_path / "config.json", tmp_path / "model.safetensors"
    contents = config_of(tmp_path)
    message = {
        "json": "Expecting",
        "architecture": "resnet81",
        "options": "wings",
        "weights": "Missing key.*layer4",
        "torn": "header|incomplete|Error",
        "small": "size mismatch for conv1.weight",
    }[damage]
    if damage == "json":
        config.write_text("not json")
    elif damage == "architecture":
        config.write_text(json.dumps(contents | {"architecture": "resnet81"}))
    elif damage == "options":
        config.write_text(json.dumps(contents | {"model_args": {"wings": 2}}))
    elif damage == "small":
        config.write_text(json.dumps(contents | {"star_head": {"small_images": True}}))
    elif damage == "weights":
        tensors = safetensors.torch.load_file(weights)
        kept = {name: tensor for name, tensor in tensors.items() if "layer4" not in name}
        safetensors.torch.save_file(kept, weights)
    else:
        weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match=rf"(?s)folder: expected {tmp_path} .*{message}"):
        load_encoder(tmp_path)
