"""What a user of timm does with an exported encoder: open it without star_head, and finetune it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from sklearn.datasets import load_digits
from timm.data import create_dataset, create_loader, resolve_data_config
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torch import Tensor, nn

from star_head import STAR, STARLoss, STARProjectionHead, STARViews
from star_head.adapters.lightly import STARTransform
from star_head.adapters.timm import create_backbone, export_encoder

SIZE = 32
# Opens the folder that is its argument, and writes what the encoder makes of fixed images.
WITHOUT_STAR_HEAD = """
import sys

class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "star_head":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Nowhere())
try:
    import star_head
except ModuleNotFoundError:
    print("star_head cannot be imported")

import timm
import torch

encoder = timm.create_model(f"local-dir:{sys.argv[1]}", pretrained=True).eval()
images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    torch.save(encoder(images), sys.argv[2])
assert not any(name.partition(".")[0] == "star_head" for name in sys.modules)
"""


def pretrain(name: str, **kwargs: int) -> nn.Module:
    """A backbone after a few steps of STAR on digits."""
    backbone = create_backbone(name, **kwargs)
    head = STARProjectionHead(backbone.num_features, 64, 32, num_experts=4, statistics="stl10")
    model = STAR(backbone, head, STARLoss())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    transform = STARTransform(SIZE)
    images = [picture(pixels) for pixels in load_digits().images[:16]]
    for _ in range(3):
        views = torch.utils.data.default_collate([transform(image) for image in images])
        assert isinstance(views, STARViews)
        optimizer.zero_grad()
        model(views).total.backward()
        optimizer.step()
    return backbone


def picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray((pixels * 255 / 16).astype(np.uint8)).resize((SIZE, SIZE))


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("test_resnet", {}),
        pytest.param("vit_tiny_patch16_224", {"img_size": 32, "depth": 2}, marks=pytest.mark.slow),
    ],
)
def test_opens_where_star_head_cannot_be_imported(
    name: str, kwargs: dict[str, int], tmp_path: Path
) -> None:
    backbone = pretrain(name, **kwargs)
    export_encoder(backbone, tmp_path / "encoder", input_size=SIZE)
    command = [sys.executable, "-c", WITHOUT_STAR_HEAD, tmp_path / "encoder", tmp_path / "out.pt"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines() == ["star_head cannot be imported"]
    images = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected: Tensor = backbone.eval()(images)
    torch.testing.assert_close(torch.load(tmp_path / "out.pt", weights_only=True), expected)


def test_a_finetuning_loop_of_timm_takes_it_for_an_epoch(tmp_path: Path) -> None:
    export_encoder(pretrain("test_resnet"), tmp_path / "encoder", input_size=SIZE)
    digits = load_digits()
    for i in range(320):
        folder = tmp_path / "data/train" / str(digits.target[i])
        folder.mkdir(parents=True, exist_ok=True)
        picture(digits.images[i]).save(folder / f"{i}.png")

    # As timm's train.py goes about it.
    model = timm.create_model(f"local-dir:{tmp_path}/encoder", pretrained=True, num_classes=10)
    encoder = timm.create_model(f"local-dir:{tmp_path}/encoder", pretrained=True)
    for key, tensor in encoder.state_dict().items():
        assert torch.equal(model.state_dict()[key], tensor), key
    config = resolve_data_config({}, model=model)
    assert config["input_size"] == (3, SIZE, SIZE)
    loader = create_loader(
        create_dataset("", root=tmp_path / "data", split="train"),
        input_size=config["input_size"],
        batch_size=32,
        is_training=True,
        no_aug=True,
        mean=config["mean"],
        std=config["std"],
        num_workers=0,
        use_prefetcher=False,
        device=torch.device("cpu"),
    )
    criterion = LabelSmoothingCrossEntropy(smoothing=0.1)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=2e-3, weight_decay=0.05)
    scheduler, _ = create_scheduler_v2(
        optimizer, sched="cosine", num_epochs=1, step_on_epochs=False, updates_per_epoch=len(loader)
    )
    losses = []
    for update, (images, target) in enumerate(loader, 1):
        optimizer.zero_grad()
        loss = criterion(model(images), target)
        loss.backward()
        optimizer.step()
        scheduler.step_update(num_updates=update)
        losses.append(loss.item())
    assert len(losses) == 10
    assert np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.1
    assert optimizer.param_groups[0]["lr"] < 2e-3
    moved = [not torch.equal(model.state_dict()[k], t) for k, t in encoder.named_parameters()]
    assert all(moved)
