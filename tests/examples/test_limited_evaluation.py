"""Looking at the first batches only, as Lightning's limits let one, shows all classes alike."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from star_head.adapters.lightly import STARTransform
from star_head.examples.data.data_module import ImageDataModule
from star_head.examples.data.image_data import load_images
from star_head.examples.training.trainers import SeededData


def trainer(processes: int = 1, rank: int = 0) -> SimpleNamespace:
    strategy = SimpleNamespace(root_device=torch.device("cpu"), broadcast=lambda value: value)
    return SimpleNamespace(
        world_size=processes, global_rank=rank, num_devices=1, strategy=strategy, precision="32"
    )


def opened(*arguments: object, **options: object) -> ImageDataModule:
    transform = STARTransform(8)
    data = ImageDataModule(*arguments, transform=transform, num_workers=0, **options)
    data.trainer = trainer()
    data.prepare_data()
    data.setup("fit")
    return data


def test_the_monitors_first_batches_are_of_all_classes_and_the_same_each_time() -> None:
    splits = load_images("digits")
    labels = []
    for _ in range(2):
        data = opened("digits", batch_size=100)
        loaders = data.val_dataloader()
        labels.append([torch.cat([y for _, y in loader]) for loader in loaders])
        for part, loader in zip((splits.train, splits.test), loaders, strict=True):
            images, firsts = next(iter(loader))
            assert len(firsts.unique()) == 10
            # Each image has kept its label.
            plain = part.with_transform(data.transform.original)
            whole = [plain[i] for i in range(len(plain))]
            for image, label in zip(images[:5], firsts[:5], strict=True):
                assert any(y == label and torch.equal(x, image) for x, y in whole)
    for parts, again, part in zip(*labels, (splits.train, splits.test), strict=True):
        assert torch.equal(parts, again)
        assert sorted(parts.tolist()) == sorted(part.labels.tolist())


def test_monitors_are_given_as_many_images_as_are_asked_for(tmp_path: Path) -> None:
    data = opened("digits", batch_size=100, monitor_images=150)
    bank, queries = ([y for _, y in loader] for loader in data.val_dataloader())
    for labels in (torch.cat(bank), torch.cat(queries)):
        assert len(labels) == 150
        assert len(labels.unique()) == 10
    with pytest.raises(ValueError, match="monitor_images"):
        opened("digits", monitor_images=0)
    for i in range(12):  # without labels
        Image.new("RGB", (9, 9), (20 * i, 0, 0)).save(tmp_path / f"{i}.png")
    data = opened("folder", tmp_path, batch_size=4, monitor_images=10)
    (loader,) = data.val_dataloader()
    assert sum(len(images) for images, _ in loader) == 10


def test_the_test_items_first_batches_are_of_all_classes() -> None:
    """Fine-tuning and detection measure on these."""
    items = [(i, i // 25) for i in range(100)]  # class by class
    for processes in (1, 3):
        firsts = []
        for rank in range(processes):
            data = SeededData(items, items, batch_size=24, seed=0, num_workers=0)
            data.trainer = trainer(processes, rank)
            _, classes, _ = next(iter(data.test_dataloader()))
            firsts += classes.tolist()
        assert np.bincount(firsts, minlength=4).min() >= 2
