"""STAR as a method of stable-pretraining, against ``star_head.STAR``. `make test-frameworks`."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger
from running import in_one_process_and_in_two
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.transforms.functional import to_pil_image
from watched import logged

from star_head import STAR, STARLoss, STARProjectionHead, STARViews, estimate_statistics
from star_head.adapters.callbacks import (
    EquivarianceMonitor,
    RankMonitor,
    RedundancyMonitor,
    RoutingMonitor,
)
from star_head.adapters.lightly import STARTransform, STARViewTransform
from star_head.adapters.torchvision import RecordedTransform

spt = pytest.importorskip("stable_pretraining")

from stable_pretraining.forward import simclr  # noqa: E402

from star_head.adapters.stable_pretraining import (  # noqa: E402
    RecordedMultiViewTransform,
    star,
)

SIDE, WIDTH, BATCH, STEPS = 16, 12, 16, 6
SGD = {"type": "SGD", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3}


class Images(torch.utils.data.Dataset[Any]):
    """Noise in three colours and its labels, as a data set of torchvision's gives them."""

    def __init__(self) -> None:
        self.labels = torch.arange(BATCH * STEPS) % 3
        colors = torch.eye(3)[self.labels].view(-1, 3, 1, 1)
        noise = torch.rand(len(self), 3, 20, 20, generator=torch.Generator().manual_seed(3))
        self.images = (155 * colors + 100 * noise).to(torch.uint8)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], int(self.labels[index])


class Seen(Callback):
    """The batches that a run trained on, and the loss of each."""

    def __init__(self) -> None:
        self.batches: list[dict[str, Any]] = []
        self.losses: list[Tensor] = []

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
        self.batches.append(copy.deepcopy(batch))

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        self.losses.append(outputs["loss"].detach().clone())


def backbone() -> nn.Module:
    convolution = nn.Conv2d(3, WIDTH, 3, stride=2)
    return nn.Sequential(convolution, nn.BatchNorm2d(WIDTH), nn.ReLU(), nn.AdaptiveAvgPool2d(1))


def head(statistics: Any = "stl10", **options: Any) -> STARProjectionHead:
    options = {"num_experts": 3} | options
    return STARProjectionHead(WIDTH, WIDTH, 8, statistics=statistics, **options)


def data_set(transform: Any, **options: Any) -> Any:
    return spt.data.FromTorchDataset(
        Images(), names=["image", "label"], transform=transform, **options
    )


def loaders(train: Any, val: Any = None) -> Any:
    val = None if val is None else DataLoader(val, BATCH)
    return spt.data.DataModule(train=DataLoader(train, BATCH, shuffle=True), val=val)


def recorded_loaders() -> Any:
    return loaders(data_set(RecordedMultiViewTransform(STARTransform(input_size=SIDE))))


def module_of(**parts: Any) -> Any:
    optim = {"optimizer": SGD, "scheduler": {"type": "ConstantLR", "factor": 1.0}}
    return spt.Module(optim=optim, **parts)


def fit(folder: Path, module: Any, data: Any, *callbacks: Callback, epochs: int = 1) -> Trainer:
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=list(callbacks),
        default_root_dir=folder,
        logger=CSVLogger(folder, "csv", version=0),
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    torch.manual_seed(4)
    trainer.fit(module, data)
    return trainer


@pytest.fixture(autouse=True)
def _quiet(tmp_path: Path) -> None:
    off = dict.fromkeys(("env_dump", "hf_checkpoint", "module_summary"), False)
    spt.set(verbose="ERROR", cache_dir=str(tmp_path), default_callbacks=off)


def test_steps_are_those_of_star(tmp_path: Path) -> None:
    features, projector, loss = backbone(), head(), STARLoss(temperature=0.5)
    model = STAR(*copy.deepcopy((features, projector, loss)))
    seen = Seen()
    module = module_of(forward=star, backbone=features, projector=projector, star_loss=loss)
    fit(tmp_path, module, recorded_loaders(), seen, epochs=2)

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    losses = []
    for batch in seen.batches:
        first, second = batch["views"]
        views = STARViews(
            batch["original"]["image"],
            (first["image"], second["image"]),
            (first["params"], second["params"]),
        )
        assert views.views[0].shape == (BATCH, 3, SIDE, SIDE)
        total = model(views).total
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(total.detach())
    assert len(losses) == 2 * STEPS
    assert losses[-1] < losses[0]
    torch.testing.assert_close(seen.losses, losses, rtol=0, atol=1e-6)
    for mine, theirs in ((model.backbone, module.backbone), (model.head, module.projector)):
        torch.testing.assert_close(theirs.state_dict(), mine.state_dict(), rtol=0, atol=1e-6)


def test_views_are_those_of_the_transform_and_keep_the_sample() -> None:
    recorded = STARTransform(input_size=SIDE)
    torch.manual_seed(5)
    sample = data_set(RecordedMultiViewTransform(recorded))[7]
    torch.manual_seed(5)
    views = recorded(Images()[7][0])
    assert sample.keys() == {"views", "original"}
    torch.testing.assert_close([v["image"] for v in sample["views"]], list(views.views))
    torch.testing.assert_close([v["params"] for v in sample["views"]], list(views.params))
    torch.testing.assert_close(sample["original"]["image"], views.original)
    for view in (*sample["views"], sample["original"]):
        assert (view["label"], view["sample_idx"]) == (1, 7)


def test_without_the_equivariant_task_it_is_their_simclr(tmp_path: Path) -> None:
    class Invariant(nn.Module):
        def __init__(self, head: STARProjectionHead) -> None:
            super().__init__()
            self.head = head

        def forward(self, features: Tensor) -> Tensor:
            return self.head(features.flatten(1)).invariant

    features, projector = backbone(), head(routing="invariant", num_experts=None)
    pooled = nn.Sequential(features, nn.Flatten())
    theirs = module_of(
        forward=simclr,
        backbone=copy.deepcopy(pooled),
        projector=Invariant(copy.deepcopy(projector)),
        simclr_loss=spt.losses.NTXEntLoss(temperature=0.2),
    )
    ours = module_of(forward=star, backbone=pooled, projector=projector)
    seen = Seen(), Seen()
    for module, callback in zip((ours, theirs), seen, strict=True):
        trainer = fit(tmp_path / str(len(callback.losses)), module, recorded_loaders(), callback)
        assert "fit/loss_equivariant" not in trainer.callback_metrics
    torch.testing.assert_close(seen[0].losses, seen[1].losses, rtol=1e-4, atol=1e-5)


def test_their_probe_and_neighbours_read_the_features(tmp_path: Path) -> None:
    from torchmetrics.classification import MulticlassAccuracy

    module = module_of(forward=star, backbone=backbone(), projector=head())
    common = {"input": "embedding", "target": "label"}
    probe = spt.callbacks.OnlineProbe(
        module,
        name="probe",
        probe=nn.Linear(WIDTH, 3),
        loss=nn.CrossEntropyLoss(),
        metrics={"top1": MulticlassAccuracy(3)},
        **common,
    )
    neighbours = spt.callbacks.OnlineKNN(
        name="knn",
        queue_length=256,
        input_dim=WIDTH,
        num_classes=3,
        metrics={"top1": MulticlassAccuracy(3)},
        **common,
    )
    plain = STARViewTransform(input_size=SIDE).original
    colored = STARTransform(input_size=SIDE, cj_prob=0, random_gray_scale=0)
    train = data_set(RecordedMultiViewTransform(colored))
    val = data_set(lambda sample: {**sample, "image": plain(sample["image"])})
    trainer = fit(tmp_path, module, loaders(train, val), probe, neighbours, epochs=3)
    values = trainer.callback_metrics
    assert {"fit/loss_epoch", "fit/loss_invariant_epoch", "fit/loss_equivariant_epoch"} <= {*values}
    parts = values["fit/loss_invariant_epoch"] + values["fit/loss_equivariant_epoch"]
    torch.testing.assert_close(values["fit/loss_epoch"], parts)
    assert values["eval/knn_top1"] > 0.9
    assert values["train/probe_loss_epoch"] < 1.09  # log 3, of chance
    with torch.no_grad():
        module.eval()
        images = torch.rand(5, 3, SIDE, SIDE)
        out = module({"image": images, "label": torch.arange(5)}, stage="test")
        assert out["label"].tolist() == list(range(5))
        torch.testing.assert_close(out["embedding"], module.backbone(images).flatten(1))


def test_monitors_of_ours_watch_a_module_of_theirs(tmp_path: Path) -> None:
    def features(module: Any, images: Tensor) -> Tensor:
        return module.backbone(images).flatten(1)

    def embeddings(module: Any, images: Tensor) -> Any:
        return module.projector(features(module, images))

    recorded, held_out = STARTransform(input_size=SIDE), Images()
    monitors = [
        RankMonitor(features),
        RoutingMonitor(lambda m, x: m.projector.routing_weights(features(m, x)), every_n_steps=2),
        RedundancyMonitor(embeddings, held_out, transform=recorded.original),
        EquivarianceMonitor(
            features, held_out, recorded, embeddings=embeddings, predict="projector.predict"
        ),
    ]
    module = module_of(forward=star, backbone=backbone(), projector=head())
    fit(tmp_path, module, recorded_loaders(), *monitors)
    found = logged(tmp_path)
    for name in ("effective_rank", "mean_canonical_correlation", "mean_reciprocal_rank", "mean_r2"):
        assert len(found[name]) >= 1, name
    assert len(found["usage/invariant_00"]) == STEPS / 2


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    script = "tests/adapters/stable_pretraining_processes.py"
    one, two = in_one_process_and_in_two(tmp_path, script=script)
    assert {"fit/loss_epoch", "fit/loss_equivariant_epoch"} <= one["losses"].keys()
    torch.testing.assert_close(two["losses"], one["losses"], rtol=0, atol=1e-5)
    torch.testing.assert_close(two["weights"], one["weights"], rtol=0, atol=1e-6)


def test_views_of_kornia_are_made_where_the_model_is(tmp_path: Path) -> None:
    kornia = pytest.importorskip("kornia.augmentation")
    from star_head.adapters.kornia import RecordedTransform as OnDevice

    steps = kornia.RandomResizedCrop((SIDE, SIDE)), kornia.RandomHorizontalFlip(p=0.5)
    recorded = OnDevice(kornia.AugmentationSequential(*steps))
    statistics = estimate_statistics(recorded, (20, 20), num_samples=64)
    to_float = spt.data.transforms.ToImage()
    train = data_set(to_float, gpu_transform=RecordedMultiViewTransform(recorded))
    seen = Seen()
    module = module_of(forward=star, backbone=backbone(), projector=head(statistics))
    fit(tmp_path, module, loaders(train), seen)
    assert len(seen.losses) == STEPS
    assert all(loss.isfinite() for loss in seen.losses)
    (view, _), original = seen.batches[0]["views"], seen.batches[0]["original"]
    assert view["params"].shape == (BATCH, len(recorded.parameters))
    assert view["image"].shape == original["image"].shape == (BATCH, 3, SIDE, SIDE)
    assert torch.equal(view["label"], original["label"])


def test_small_crops_are_kept_but_star_takes_two_views() -> None:
    from lightly.transforms import DINOTransform

    crops = RecordedTransform(DINOTransform(global_crop_size=SIDE, local_crop_size=8))
    as_pil = spt.data.transforms.WrapTorchTransform(to_pil_image)
    data = data_set(spt.data.transforms.Compose(as_pil, RecordedMultiViewTransform(crops)))
    batch = next(iter(DataLoader(data, 4)))
    assert ["params" in view for view in batch["views"]] == [True] * 2 + [False] * 6
    module = module_of(forward=star, backbone=backbone(), projector=head())
    with pytest.raises(ValueError, match="expected 2 views with 2 sets of parameters, got 8 and 2"):
        module(batch, stage="fit")


def test_bad_input_is_named() -> None:
    module = module_of(forward=star, backbone=backbone(), projector=head())
    image = {"image": torch.rand(2, 3, SIDE, SIDE)}
    with pytest.raises(ValueError, match=r"batch: expected the keys 'views' and 'original'.*image"):
        module(image, stage="fit")
    theirs = spt.data.transforms.MultiViewTransform([dict, dict])(image)
    with pytest.raises(ValueError, match=r"RecordedMultiViewTransform makes them, got \['views'\]"):
        module(theirs, stage="fit")
    other = module_of(forward=star, backbone=backbone(), projector=nn.Linear(WIDTH, 8))
    with pytest.raises(TypeError, match="expected a STARProjectionHead, got a Linear"):
        other(image, stage="fit")
    with pytest.raises(TypeError, match="transform: expected one that records its views"):
        RecordedMultiViewTransform(STARTransform)
    with pytest.raises(TypeError, match="transform: expected STARViews"):
        RecordedMultiViewTransform(STARViewTransform(input_size=SIDE))(data_set(None)[0])
    with pytest.raises(ValueError, match=r"sample: expected the key 'image', got \['img'\]"):
        RecordedMultiViewTransform(STARTransform(input_size=SIDE))({"img": image["image"][0]})
