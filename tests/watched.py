"""A small method of anybody's own, its images, and what it logs: for tests of callbacks."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from star_head import STARProjectionHead

SIDE, WIDTH, CLASSES, BATCH = 8, 16, 3, 16


class Images(Dataset[Any]):
    """Noise around a pattern of each class, as tensors, and their labels."""

    def __init__(self, images: int = 64, *, views: int = 0, seed: int = 5, classes: int = CLASSES):
        generator = torch.Generator().manual_seed(seed)
        patterns = torch.randn(classes, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
        self.labels = torch.arange(images) % classes
        noise = torch.randn(images, 3, SIDE, SIDE, generator=generator)
        self.images = patterns[self.labels] + 0.3 * noise
        self.views = views

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = self.images[index]
        # Drawn from torch's generator, as transforms do.
        views = [image + 0.1 * torch.randn(image.shape) for _ in range(self.views)]
        return views or image, int(self.labels[index])


class Method(LightningModule):
    """Two views, drawn towards each other, by a backbone with batch norm and dropout."""

    def __init__(self, backbone: nn.Module | None = None, head: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone = backbone or nn.Sequential(
            nn.Flatten(), nn.Linear(3 * SIDE * SIDE, WIDTH), nn.BatchNorm1d(WIDTH), nn.Dropout(0.1)
        )
        self.head = head or nn.Linear(WIDTH, 4)
        self.frozen = nn.BatchNorm1d(4).eval()  # a part with a mode of its own

    def forward(self, images: Tensor) -> Any:
        return self.head(self.backbone(images))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        first, second = batch[0]
        z1, z2 = (self.frozen(self._invariant(view)) for view in (first, second))
        loss = (z1 - z2).square().mean() - z1.std(dim=0).clamp(max=1).mean()
        self.log("train_loss", loss)
        return loss

    def _invariant(self, view: Tensor) -> Tensor:
        z = self(view)
        return z if isinstance(z, Tensor) else z.invariant

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


class Validated(Method):
    """The same with a validation loop."""

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        pass


def star_head() -> STARProjectionHead:
    return STARProjectionHead(WIDTH, WIDTH, 4, num_experts=3, statistics="stl10")


def trainer_for(
    folder: Path, callbacks: Sequence[Callback], epochs: int = 2, **options: Any
) -> Trainer:
    options = {"logger": CSVLogger(folder, "csv", version=0)} | options
    return Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        max_epochs=epochs,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=options.pop("enable_checkpointing", False),
        log_every_n_steps=1,
        callbacks=list(callbacks),
        **options,
    )


def train_loader(data_set: Dataset[Any] | None = None, **options: Any) -> DataLoader[Any]:
    options = {"batch_size": BATCH, "shuffle": True, "drop_last": True} | options
    return DataLoader(data_set or Images(views=2), **options)


def fit(
    folder: Path,
    callbacks: Sequence[Callback],
    module: LightningModule | None = None,
    loader: DataLoader[Any] | None = None,
    validation: Any = None,
    **options: Any,
) -> LightningModule:
    """Train from the same weights and random numbers each time."""
    if module is None:
        torch.manual_seed(1)
        module = Method()
    torch.manual_seed(2)
    trainer_for(folder, callbacks, **options).fit(module, loader or train_loader(), validation)
    return module


def logged(folder: Path) -> dict[str, dict[int, float]]:
    """Every logged value by step."""
    path = folder / "csv" / "version_0" / "metrics.csv"
    found: dict[str, dict[int, float]] = {}
    if not path.is_file():
        return found
    with open(path) as file:
        for row in csv.DictReader(file):
            step = int(row.pop("step"))
            for name, value in row.items():
                if value and name != "epoch":
                    found.setdefault(name, {})[step] = float(value)
    return found
