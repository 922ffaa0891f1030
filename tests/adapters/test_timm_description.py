"""What a file says of a backbone is data, and describes that backbone or is refused."""

import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import timm
import torch
from lightning.pytorch import Trainer
from marker import Marker
from torch import nn

from star_head import STAR, STARProjectionHead
from star_head.adapters.lightly import STARTransform
from star_head.adapters.lightning import STARModule
from star_head.adapters.timm import (
    create_backbone,
    describe_backbone,
    export_encoder,
    load_encoder,
    prove_description,
    rebuild_backbone,
)

TRANSFORM = STARTransform(input_size=64)


def hostile(folder: Path) -> list[dict[str, Any]]:
    """What would make timm fetch or unpickle, were it handed on as arguments."""
    torch.save({"weight": Marker(folder / "ran")}, folder / "weights.pth")
    file, url = str(folder / "weights.pth"), "http://203.0.113.1/weights.pth"
    return [
        {"pretrained": True},
        {"pretrained": True, "pretrained_cfg_overlay": {"url": url, "hf_hub_id": None}},
        {"pretrained": True, "pretrained_cfg_overlay": {"file": file}},
        {"pretrained_cfg": {"file": file}},
        {"pretrained_cfg": "a1_in1k"},
        {"pretrained_strict": False},
        {"pretrained_filter_fn": "print"},
        {"pretrained_model_args": {"file": file}},
        {"pretrained_of_tomorrow": url},
        {"checkpoint_path": file},
        {"cache_dir": str(folder)},
        {"features_only": True, "feature_cls": "hook"},
        {"name": f"local-dir:{folder}"},
        {"name": "hf-hub:owner/name"},
        {"name": "hf_hub:owner/name"},
        {"name": ["resnet10t"]},
        {"model_name": "resnet10t"},
        {"scriptable": True},
        {"device": "cuda"},
        {"init": "paper"},
        {"num_classes": [10]},
        cast(Any, {1: 2}),
        {"block_args": {"attn_layer": torch.ones(3)}},
    ]


KINDS = range(23)


@pytest.mark.parametrize("kind", KINDS)
def test_a_description_only_describes(kind: int, tmp_path: Path, asked: list[Any]) -> None:
    cases = hostile(tmp_path)
    assert len(cases) == len(KINDS)
    with pytest.raises(ValueError, match=r"^description: "):
        rebuild_backbone({"name": "resnet10t", "small_images": False} | cases[kind])
    assert asked == []
    assert not (tmp_path / "ran").exists()


def test_a_description_is_a_mapping_with_a_name() -> None:
    for wrong in (None, "resnet10t", [("name", "resnet10t")], {}, {"name": None}):
        with pytest.raises(ValueError, match=r"^description: "):
            rebuild_backbone(wrong)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("export")
    export_encoder(create_backbone("resnet10t"), folder, transform=TRANSFORM)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in (21, 22)])  # no JSON
@pytest.mark.parametrize("layout", ["model_args", "top"])
def test_an_export_only_describes(
    kind: int, layout: str, tmp_path: Path, exported: dict[str, bytes], asked: list[Any]
) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    for name, data in exported.items():
        (folder / name).write_bytes(data)
    torch.save({"weight": Marker(tmp_path / "ran")}, folder / "pytorch_model.bin")
    config = json.loads(exported["config.json"])
    case = hostile(tmp_path)[kind]
    if layout == "top":
        config |= {"architecture" if key == "name" else key: v for key, v in case.items()}
    else:
        config["model_args"] |= case
    (folder / "config.json").write_text(json.dumps(config))
    used = {"name", "num_classes"} & case.keys() or case == {"pretrained_cfg": "a1_in1k"}
    ignored = layout == "top" and not used
    if ignored:
        assert "file" not in load_encoder(folder).pretrained_cfg
    else:
        with pytest.raises(ValueError, match=rf"^folder: expected {folder} "):
            load_encoder(folder)
    assert asked == []
    assert not (tmp_path / "ran").exists()


def test_an_exports_own_words_of_where_weights_lie_are_not_followed(
    tmp_path: Path, exported: dict[str, bytes], asked: list[Any]
) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    for name, data in exported.items():
        (folder / name).write_bytes(data)
    torch.save({"weight": Marker(tmp_path / "ran")}, tmp_path / "weights.pth")
    config = json.loads(exported["config.json"])
    places = {
        "url": "http://203.0.113.1/weights.pth",
        "file": str(tmp_path / "weights.pth"),
        "hf_hub_id": "owner/name",
        "hf_hub_filename": "weights.bin",
        "source": "hf-hub",
        "custom_load": "hf",
    }
    config["pretrained_cfg"] |= places
    (folder / "config.json").write_text(json.dumps(config))
    opened = load_encoder(folder)
    opened.pretrained_cfg.pop("custom_load")  # timm's own default
    assert not places.keys() & opened.pretrained_cfg.keys()
    again = rebuild_backbone(describe_backbone(opened))
    assert not {"file", "source", "hf_hub_filename"} & again.pretrained_cfg.keys()
    assert asked == []
    assert not (tmp_path / "ran").exists()


# --- arguments that can be described -----------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "plain"),
    [
        ({"act_layer": nn.SiLU}, {"act_layer": "silu"}),
        ({"act_layer": nn.GELU}, {"act_layer": "gelu"}),
        ({"act_layer": nn.LeakyReLU}, {"act_layer": "leaky_relu"}),
        ({"norm_layer": timm.layers.GroupNorm1}, {"norm_layer": "groupnorm1"}),
        ({"norm_layer": nn.BatchNorm2d}, {"norm_layer": "batchnorm2d"}),
        ({"drop_path_rate": np.float32(0.5)}, {"drop_path_rate": 0.5}),
        ({"in_chans": np.int64(4)}, {"in_chans": 4}),
        ({"layers": torch.Size([1, 1, 1, 1])}, {"layers": (1, 1, 1, 1)}),
        ({"block_args": Counter({"attn_layer": "se"})}, {"block_args": {"attn_layer": "se"}}),
    ],
)
def test_what_timm_knows_by_name_is_taken_by_name(
    arguments: dict[str, Any], plain: dict[str, Any], tmp_path: Path
) -> None:
    backbone = create_backbone("resnet10t", **arguments)
    description = prove_description(backbone)
    assert plain.items() <= description.items()
    for key in plain:
        assert type(description[key]) in (str, int, float, tuple, dict)
    again = rebuild_backbone(torch_round_trip(description, tmp_path))
    assert str(again) == str(backbone)
    export_encoder(backbone, tmp_path / "encoder", transform=transform_of(backbone))
    opened = load_encoder(tmp_path / "encoder")
    if "drop_path_rate" not in plain:  # which timm's format leaves to whoever trains on
        assert str(opened) == str(backbone)
    if arguments.get("act_layer") is not nn.GELU:  # which this model of timm takes by name only
        built = timm.create_model("resnet10t", num_classes=0, **arguments)
        assert describe_backbone(built) == description


def transform_of(backbone: Any) -> STARTransform | None:
    return TRANSFORM if backbone.in_chans == 3 else None


def torch_round_trip(value: Any, folder: Path) -> Any:
    torch.save(value, folder / "value.pt")
    return torch.load(folder / "value.pt", weights_only=True)


class Own(nn.ReLU):
    """Not timm's."""


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("act_layer", Own),
        ("act_layer", nn.functional.silu),
        ("act_layer", nn.SiLU()),
        ("norm_layer", partial(nn.BatchNorm2d, eps=1e-3)),
        ("norm_layer", lambda width: nn.BatchNorm2d(width)),
        ("block_args", {"attn_layer": Own}),
        ("layers", torch.tensor([1, 1, 1, 1])),
        ("layers", {1, 2}),
    ],
)
def test_what_cannot_be_described_is_refused_where_it_is_passed_in(
    argument: str, value: Any
) -> None:
    with pytest.raises(TypeError, match=rf"^{argument}: expected numbers, .* timm knows by name"):
        create_backbone("resnet10t", **{argument: value})


def star_module(backbone: nn.Module, width: int = 512) -> STARModule:
    head = STARProjectionHead(width, 8, 4, num_experts=2, statistics="stl10")
    return STARModule(STAR(backbone, head), batch_size=2)


def fit(module: STARModule, folder: Path) -> None:
    trainer = Trainer(
        default_root_dir=folder, max_epochs=1, logger=False, accelerator="cpu", devices=1,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    transform = STARTransform(input_size=32)
    samples = [transform(torch.randint(256, (3, 40, 40), dtype=torch.uint8)) for _ in range(2)]
    trainer.fit(module, torch.utils.data.DataLoader(samples, 2))
    trainer.save_checkpoint(folder / "last.ckpt")


def test_training_refuses_at_its_start_what_no_checkpoint_could_describe(tmp_path: Path) -> None:
    own = timm.create_model("resnet10t", num_classes=0, act_layer=Own)
    with pytest.raises(TypeError, match=r"act_layer: expected .* timm knows by name"):
        fit(star_module(own), tmp_path)
    changed = create_backbone("resnet10t")
    changed.layer4[0].act1 = nn.SiLU()
    with pytest.raises(ValueError, match=r"layer4.0.act1 is SiLU\(\), and ReLU\(inplace=True\)"):
        fit(star_module(changed), tmp_path)
    assert not (tmp_path / "last.ckpt").exists()
    fit(star_module(nn.Sequential(changed)), tmp_path)  # what the error advises
    assert "backbone" not in torch.load(tmp_path / "last.ckpt", weights_only=True)


# --- descriptions that are the model -----------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "change"),
    [
        ("test_vit", {"img_size": 64}, lambda m: m.reset_classifier(0, global_pool="avg")),
        (
            "test_vit",
            {"img_size": 64, "global_pool": "avg"},
            lambda m: m.reset_classifier(0, "max"),
        ),
        ("test_vit", {"img_size": 64}, lambda m: m.set_input_size(96)),
        ("resnet10t", {}, lambda m: m.reset_classifier(0, global_pool="catavgmax")),
        pytest.param(
            "mobilenetv3_small_050",
            {},
            lambda m: m.reset_classifier(0, global_pool="max"),
            marks=pytest.mark.slow,
        ),
        ("test_efficientnet", {}, lambda m: m.reset_classifier(7, global_pool="max")),
    ],
)
def test_what_timms_own_calls_change_is_recorded(
    name: str, arguments: dict[str, Any], change: Any, tmp_path: Path
) -> None:
    backbone: Any = create_backbone(name, **arguments)
    change(backbone)
    backbone.eval()
    description = prove_description(backbone)
    again = rebuild_backbone(description)
    if backbone.num_classes:
        again.reset_classifier(backbone.num_classes)
    again.load_state_dict(backbone.state_dict())
    images = torch.randn(2, *timm.models.get_model_input_config(backbone)["input_size"])
    assert torch.equal(again.eval()(images), backbone(images))
    export_encoder(backbone, tmp_path, normalize=NORMALIZE, keep_classifier=True)
    assert torch.equal(
        load_encoder(tmp_path, keep_classifier=True).eval()(images), backbone(images)
    )


NORMALIZE = {"mean": [0.5] * 3, "std": [0.2] * 3}


class Doubled(nn.Module):
    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * self.inside(x)


def change_forward(model: Any) -> None:
    inside = model.forward
    model.forward = lambda x: 2 * inside(x)


def change_stride(model: Any) -> None:
    for conv in (model.layer3[0].conv1, model.layer3[0].downsample[1]):
        conv.stride = (1, 1)
    model.layer3[0].downsample[0] = nn.Identity()  # its pooling


def change_padding(model: Any) -> None:
    model.layer1[0].conv1.padding_mode = "reflect"


CHANGES = {
    "a forward pass": (change_forward, "the layers are the same"),
    "a hook": (lambda m: m.layer2.register_forward_hook(lambda *a: 2 * a[-1]), "layers are the sa"),
    "an activation": (lambda m: setattr(m.layer4[0], "act2", nn.GELU()), "layer4.0.act2 is GELU"),
    "a stem": (lambda m: setattr(m, "maxpool", nn.AvgPool2d(2)), "maxpool is AvgPool2d"),
    "a stride": (change_stride, r"layer3.0.conv1 is Conv2d\(.*stride=\(1, 1\)"),
    "padding": (change_padding, "padding_mode=reflect"),
    "a norm": (lambda m: setattr(m, "bn1", nn.GroupNorm(1, 64)), "bn1.running_mean is absent"),
    "a layer more": (
        lambda m: setattr(m, "neck", nn.Linear(2, 2)),
        r"neck.bias is \(2,\)",
    ),
    "a wrapper": (lambda m: setattr(m, "layer4", Doubled(m.layer4)), "layer4.0.act1|layer4.0.bn"),
    "eps": (lambda m: setattr(m.layer1[0].bn1, "eps", 0.1), r"layer1.0.bn1 is .*eps=0.1"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_changed_by_hand_is_refused(change: str, tmp_path: Path) -> None:
    """Also in a model that was not trained, whose residual branches are multiplied by zero."""
    backbone = create_backbone("resnet10t", init="paper")
    apply, message = CHANGES[change]
    apply(backbone)
    for act in (
        lambda: prove_description(backbone),
        lambda: export_encoder(backbone, tmp_path / "encoder", transform=TRANSFORM),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            act()
        assert "give it to create_backbone as an argument" in str(caught.value)
    assert not (tmp_path / "encoder").exists()


def test_a_buffer_that_no_file_holds_is_compared_too() -> None:
    backbone: Any = create_backbone("swin_tiny_patch4_window7_224", input_size=32, embed_dim=24)
    prove_description(backbone)
    index = backbone.layers[0].blocks[0].attn.relative_position_index
    index.copy_(index.flip(0))
    nn.init.normal_(backbone.layers[0].blocks[0].attn.relative_position_bias_table)
    with pytest.raises(ValueError, match="the layers are the same: .* a buffer"):
        prove_description(backbone)


def test_what_does_not_change_features_is_no_difference() -> None:
    backbone: Any = create_backbone("resnet10t")
    backbone.set_grad_checkpointing(True)
    backbone.layer1[0].drop_path = nn.Dropout(0.5)
    backbone = nn.SyncBatchNorm.convert_sync_batchnorm(backbone)
    backbone.requires_grad_(False).to(memory_format=torch.channels_last)
    prove_description(backbone)
    for dtype in (torch.float64, torch.bfloat16):
        prove_description(backbone.to(dtype))


def test_the_proof_leaves_no_trace_and_takes_no_memory() -> None:
    """Weights of 20 million numbers, of which no second copy is made, nor new ones drawn."""
    backbone = create_backbone("vit_small_patch16_224", input_size=32)
    size = sum(p.numel() for p in backbone.parameters())
    state = torch.get_rng_state()
    before = {name: t.clone() for name, t in backbone.state_dict().items()}
    largest = 0

    class Largest(torch.utils._python_dispatch.TorchDispatchMode):
        total = 0

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            nonlocal largest
            made = func(*args, **kwargs or {})
            if isinstance(made, torch.Tensor) and made.device.type == "cpu":
                owned = {
                    a.untyped_storage().data_ptr()
                    for a in args
                    if isinstance(a, torch.Tensor) and a.device.type == "cpu"
                }
                if made.untyped_storage().data_ptr() not in owned:
                    largest = max(largest, made.numel())
                    self.total += made.numel()
            return made

    with Largest() as made:
        prove_description(backbone)
    assert made.total < size / 10
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(before[name], tensor), name


@pytest.mark.parametrize("count", [10, True, "10"])
def test_a_classifier_that_is_asked_for_is_not_dropped_in_silence(count: Any) -> None:
    with pytest.raises(ValueError, match=r"num_classes: a backbone has no classifier.*reset_class"):
        create_backbone("resnet10t", num_classes=count)
    assert create_backbone("resnet10t", num_classes=0).num_features == 512


@pytest.mark.parametrize("name", [None, 18, nn.Identity(), ["resnet18"]])
def test_a_name_that_is_none_is_said_to_be_none(name: Any) -> None:
    with pytest.raises(TypeError, match=r"name: expected a name of timm's, .*got .*; a module is"):
        create_backbone(name)


def test_an_activation_that_timm_does_not_know_is_named() -> None:
    with pytest.raises(ValueError, match=r"act_layer: expected one of .*silu.*, got 'nosuch'"):
        create_backbone("resnet10t", act_layer="nosuch")
    assert create_backbone("resnet10t", act_layer="hard_swish") is not None
