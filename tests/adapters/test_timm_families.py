"""One small member of each of timm's families, from create_backbone to its export.

``python tests/adapters/test_timm_families.py`` prints the table of docs/backbones.md.
"""

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import timm
import torch
from tqdm import tqdm

from star_head import STAR, STARProjectionHead, STARViews
from star_head.adapters.timm import create_backbone, export_encoder, load_encoder

DOCS = Path(__file__).parents[2] / "docs/backbones.md"


class Member(NamedTuple):
    """A model as create_backbone takes it."""

    family: str
    name: str
    input_size: int
    options: Mapping[str, Any] = MappingProxyType({})


COMMON = [
    Member("ResNet", "test_resnet", 32),
    Member("ResNet, 3x3 stem", "resnet10t", 32),
    Member("ResNeXt", "seresnext26t_32x4d", 32),
    Member("RegNet", "regnetx_002", 32),
    Member("EfficientNet", "test_efficientnet", 32),
    Member("MobileNetV3", "mobilenetv3_small_050", 32),
    Member("MobileNetV4", "mobilenetv4_conv_small_050", 32),
    Member("ConvNeXt", "test_convnext", 32),
    Member("ViT, class token", "test_vit", 32),
    Member("ViT, average pooling", "test_vit", 32, {"global_pool": "avg"}),
    Member("DeiT", "deit_tiny_patch16_224", 32, {"depth": 2}),
    Member("DeiT, distilled", "deit_tiny_distilled_patch16_224", 32, {"depth": 2}),
    Member("Swin", "swin_tiny_patch4_window7_224", 32, {"embed_dim": 24, "depths": (1, 1, 2, 1)}),
    Member("MaxViT", "test_maxvit", 64),
    Member("CoAtNet", "test_coatnet", 32),
    Member("MLP-Mixer", "mixer_s32_224", 64),
]

_SWIN = {"embed_dim": 24, "depths": (1, 1, 2, 1)}
_DEPTH = {"depth": 2}
OTHERS = [
    Member("BEiT", "beit_base_patch16_224", 32, {"embed_dim": 96, "depth": 2, "num_heads": 3}),
    Member("RepVGG and the like", "test_byobnet", 32),
    Member("CaiT", "cait_xxs24_224", 32, {"depth": 2}),
    Member("CoaT", "coat_tiny", 32),
    Member("ConViT", "convit_tiny", 32),
    Member("ConvMixer", "convmixer_768_32", 32),
    Member("CPUBone", "cpubone_nano", 32),
    Member("CrossViT", "crossvit_tiny_240", 240),
    Member("CSATv2", "csatv2", 64),
    Member("CSPNet", "cs3darknet_focus_s", 32),
    Member("CSPNeXt", "cspnext_tiny", 32),
    Member("DaViT", "davit_tiny", 32),
    Member("DenseNet", "densenet121", 32),
    Member("DLA", "dla46x_c", 32),
    Member("DPN", "dpn48b", 32),
    Member("EdgeNeXt", "edgenext_xx_small", 32),
    Member("EfficientFormer", "efficientformer_l1", 224),
    Member("EfficientFormerV2", "efficientformerv2_s0", 32),
    Member("EfficientViM", "efficientvim_m1", 32),
    Member("EfficientViT (MIT)", "efficientvit_b0", 32),
    Member("EfficientViT (MSRA)", "efficientvit_m0", 64),
    Member("EVA", "eva02_tiny_patch14_224", 28, _DEPTH),
    Member("DINOv3 ViT", "vit_tiny_patch16_dinov3_qkvb", 32, _DEPTH),
    Member("FasterNet", "fasternet_t0", 32),
    Member("FastViT", "fastvit_t8", 32),
    Member("FocalNet", "focalnet_tiny_srf", 32),
    Member("GCViT", "gcvit_xxtiny", 32),
    Member("GhostNet", "ghostnet_050", 32),
    Member("HardCoRe-NAS", "hardcorenas_b", 32),
    Member("HGNet", "hgnetv2_b0", 32),
    Member("Hiera", "hiera_tiny_224", 32, {"embed_dim": 48}),
    Member("Hiera of SAM 2", "sam2_hiera_tiny", 32, {"embed_dim": 48}),
    Member("HRNet", "hrnet_w18_small", 32),
    Member("iFormer", "iformer_t", 32),
    Member("InceptionNeXt", "inception_next_atto", 32),
    Member("Inception-v3", "inception_v3", 96),
    Member("Inception-v4", "inception_v4", 96),
    Member("LCNet", "lcnet_035", 32),
    Member("LCNetV2", "lcnetv2_small", 32),
    Member("LeViT", "levit_128s", 32),
    Member("LowFormer", "lowformer_b0", 32),
    Member("MambaOut", "test_mambaout", 32),
    Member("PoolFormer, MetaFormer", "poolformerv2_s12", 32),
    Member("gMLP", "gmlp_ti16_224", 32),
    Member("ResMLP", "resmlp_12_224", 32),
    Member("MobileViT", "mobilevit_xxs", 64),
    Member("MViTv2", "mvitv2_tiny", 32),
    Member("NesT", "nest_tiny", 64),
    Member("NextViT", "nextvit_small", 32),
    Member("NFNet, no norm", "test_nfnet", 32),
    Member("PiT", "pit_ti_224", 32),
    Member("PVTv2", "pvt_v2_b0", 32),
    Member("RDNet", "rdnet_tiny", 32),
    Member("RepGhost", "repghostnet_050", 32),
    Member("RepViT", "repvit_m1", 32),
    Member("Res2Net", "res2next50", 32),
    Member("ResNeSt", "resnest14d", 32),
    Member("ResNetV2", "resnetv2_18", 32),
    Member("ReXNet", "rexnet_100", 32),
    Member("SelecSLS", "selecsls42", 32),
    Member("SENet", "legacy_seresnet18", 32),
    Member("Sequencer", "sequencer2d_s", 28),
    Member("SHViT", "shvit_s1", 32),
    Member("SKNet", "skresnet18", 32),
    Member("StarNet", "starnet_s050", 32),
    Member("SwiftFormer", "swiftformer_xs", 32),
    Member("Swin v2", "swinv2_tiny_window8_256", 32, _SWIN),
    Member("Swin v2 (CR)", "swinv2_cr_tiny_224", 32, _SWIN),
    Member("TinyViT", "tiny_vit_5m_224", 32),
    Member("TNT", "tnt_s_legacy_patch16_224", 32, _DEPTH),
    Member("TResNet", "tresnet_m", 64),
    Member("Twins", "twins_svt_small", 32),
    Member("VGG", "vgg11_bn", 32, {"mlp_ratio": 0.1}),
    Member("Visformer", "visformer_tiny", 32),
    Member("ViT on a ResNet", "vit_tiny_r_s16_p8_224", 32, _DEPTH),
    Member("ViT, relative positions", "test_vit_relpos", 32),
    Member("ViT of SAM", "samvit_base_patch16_224", 32, {"embed_dim": 96, "depth": 2}),
    Member("NaFlexViT", "naflexvit_base_patch16_gap", 32, {"embed_dim": 96, "depth": 2}),
    Member("ViTamin", "vitamin_small_224", 32),
    Member("VOLO", "volo_d1_224", 32),
    Member("VoVNet", "ese_vovnet19b_slim_dw", 32),
    Member("Xception", "legacy_xception", 32),
    Member("Xception, aligned", "xception41p", 32),
    Member("XCiT", "xcit_nano_12_p8_224", 32, _DEPTH),
]


def go_through(member: Member, folder: Path) -> str:
    """Build, train for a step, export and reload; the member's row of the table."""
    size = member.input_size
    backbone = create_backbone(member.name, input_size=size, **member.options)
    width = backbone.num_features

    head = STARProjectionHead(width, 16, 8, num_experts=2, statistics="stl10")
    model = STAR(backbone, head)
    before = [parameter.detach().clone() for parameter in backbone.parameters()]
    images = torch.randn(3, 4, 3, size, size)
    terms = model(STARViews(images[0], (images[1], images[2]), tuple(torch.rand(2, 4, 11))))
    assert terms.total.isfinite()
    terms.total.backward()
    gradients = [p.grad for p in backbone.parameters() if p.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    # Not all: many a family starts the last norm of a residual block at zero.
    assert sum(bool(gradient.any()) for gradient in gradients) > len(before) / 20
    torch.optim.AdamW(model.parameters(), lr=1e-4).step()
    changed = zip(backbone.parameters(), before, strict=True)
    assert any(not torch.equal(parameter, old) for parameter, old in changed)

    export_encoder(backbone, folder)
    with torch.no_grad():
        expected = backbone.eval()(images[0])
        assert expected.shape == (4, width)
        assert expected.isfinite().all()
        if member in COMMON:  # of the others, timm's own way tells as much
            loaded = load_encoder(folder)
            assert loaded.num_features == width
            assert torch.equal(loaded.eval()(images[0]), expected)
        alone = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        assert torch.equal(alone(images[0]), expected)
    # The classifier that finetuning adds; timm counts the width its own way.
    backbone.reset_classifier(5)
    assert backbone(images[0]).shape == (4, 5)

    fixed = "one" if backbone.pretrained_cfg.get("fixed_input_size", False) else "any"
    options = ", ".join(f"{key}={value}" for key, value in member.options.items())
    called = f"`{member.name}`" + (f", {options}" if options else "")
    return f"| {member.family} | {called} | {width} | {size} | {fixed} |"


@pytest.mark.parametrize(
    "member",
    [
        *(pytest.param(member, id=member.family) for member in COMMON),
        *(pytest.param(m, id=m.family, marks=pytest.mark.slow) for m in OTHERS),
    ],
)
def test_family(member: Member, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, logger="timm")
    row = go_through(member, tmp_path)
    assert row in DOCS.read_text().splitlines(), f"docs/backbones.md lacks the row {row}"


if __name__ == "__main__":
    logging.getLogger("timm").setLevel(logging.ERROR)
    for member in tqdm(COMMON + OTHERS):
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as folder:
            print(go_through(member, Path(folder)), flush=True)
