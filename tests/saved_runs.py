"""What examples/pretrain.py leaves, of small networks that were not trained."""

from pathlib import Path

import torch
import yaml
from lightning.pytorch import Trainer
from torch import nn

from star_head import STAR, STARProjectionHead
from star_head.adapters.lightning import STARModule
from star_head.adapters.timm import create_backbone

NORMALIZE = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}


def shaken(module: nn.Module) -> nn.Module:
    """The same, its norms as after training."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.running_mean, std=0.1)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return module


def save_run(
    folder: Path,
    size: int = 16,
    settings: dict | None = None,
    normalize: dict | None = None,
    **head: object,
) -> STAR:
    """Write what examples/pretrain.py leaves of a small untrained network."""
    backbone = shaken(create_backbone("resnet10t"))
    head = {"hidden_dim": 24, "output_dim": 8, "statistics": "stl10"} | head
    star = STAR(backbone, shaken(STARProjectionHead(backbone.num_features, **head)))
    trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", max_epochs=1)
    module = STARModule(star)
    module.trainer = trainer  # whose settings go into the checkpoint
    trainer.strategy.connect(module)
    path = folder / "checkpoints/last.ckpt"
    trainer.save_checkpoint(path)
    data = {"dataset": "digits", "images": 1437, "batch_size": 256, "seed": 0}
    data |= {"input_size": size, "normalize": normalize or NORMALIZE}
    torch.save(torch.load(path, weights_only=True) | {"ImageDataModule": data}, path)
    (folder / "config.yaml").write_text(yaml.safe_dump({"data": {"transform": settings}}))
    return star.eval()


def last(folder: Path) -> str:
    return str(folder / "checkpoints/last.ckpt")
