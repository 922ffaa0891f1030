"""STARModule under a real Trainer, on small networks and views made up beforehand."""

import copy
import csv
import math
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from star_head import STAR, STARLoss, STARProjectionHead, STARViews
from star_head.adapters.callbacks import NearestNeighbours, RedundancyMonitor, RoutingMonitor
from star_head.adapters.lightning import STARModule
from star_head.adapters.timm import create_backbone
from star_head.head import Routing

SIDE, WIDTH, BATCH = 8, 24, 16


class Views(torch.utils.data.Dataset):
    """Views that depend on torch's random numbers as a transform's do, and their labels."""

    def __init__(self, images: int = 4 * BATCH, random: bool = False) -> None:
        generator = torch.Generator().manual_seed(5)
        self.images = torch.randn(images, 3, 3, SIDE, SIDE, generator=generator)
        self.params = 50 * torch.rand(images, 2, 11, generator=generator)
        self.random = random

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[STARViews, int]:
        original, *views = self.images[index]
        if self.random:
            views = [view + torch.randn(()) for view in views]
        return STARViews(original, tuple(views), tuple(self.params[index])), index % 3


def make_star(routing: Routing = "mmoe", dropout: float = 0.0) -> STAR:
    torch.manual_seed(1)
    backbone = nn.Sequential(
        nn.Flatten(), nn.Linear(3 * SIDE * SIDE, WIDTH), nn.BatchNorm1d(WIDTH), nn.Dropout(dropout)
    )
    experts = 4 if routing == "mmoe" else None
    head = STARProjectionHead(
        WIDTH, WIDTH, 8, num_experts=experts, routing=routing, statistics="stl10"
    )
    return STAR(backbone, head, STARLoss(0.2))


def make_trainer(folder: Path, epochs: int = 2, **options: object) -> Trainer:
    options = {"logger": False, "enable_checkpointing": False, "log_every_n_steps": 1} | options
    return Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        max_epochs=epochs,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


def train_loader(**options: object) -> DataLoader:
    return DataLoader(Views(), BATCH, drop_last=True, **options)


def eval_loaders() -> list[DataLoader]:
    torch.manual_seed(3)
    parts = [(40, 0), (25, 1)]
    return [
        DataLoader(
            TensorDataset(torch.randn(n, 3, SIDE, SIDE) + k, torch.randint(3, (n,))), batch_size=16
        )
        for n, k in parts
    ]


def test_trains_as_a_plain_loop_does(tmp_path: Path) -> None:
    epochs, batch_size = 3, 64
    module = STARModule(make_star(), batch_size=batch_size)
    make_trainer(tmp_path, epochs).fit(module, train_loader())

    star = make_star().train()
    optimizer = torch.optim.SGD(
        star.parameters(), lr=0.03 * batch_size / 256, momentum=0.9, weight_decay=5e-4
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for views, _ in train_loader():
            optimizer.zero_grad()
            star(views).total.backward()
            optimizer.step()
        schedule.step()
    for name, tensor in star.state_dict().items():
        torch.testing.assert_close(module.star.state_dict()[name], tensor, msg=name)


def test_learning_rate_follows_batch_accumulation_and_cosine(tmp_path: Path) -> None:
    rates = Rates()
    module = STARModule(make_star(), batch_size=512, learning_rate=0.1)
    make_trainer(tmp_path, 4, callbacks=[rates], accumulate_grad_batches=2).fit(
        module, train_loader()
    )
    full = 0.1 * 2 * 512 / 256
    expected = [full * (1 + math.cos(math.pi * epoch / 4)) / 2 for epoch in range(4)]
    assert rates.seen == pytest.approx(expected)


def test_logs_what_it_says(tmp_path: Path) -> None:
    module = STARModule(make_star(), batch_size=BATCH)
    trainer = make_trainer(tmp_path, 2, logger=CSVLogger(tmp_path, "csv"))
    trainer.fit(module, train_loader(), eval_loaders())
    with open(tmp_path / "csv/version_0/metrics.csv") as file:
        rows = list(csv.DictReader(file))
    steps = [row for row in rows if row["train_loss"]]
    assert [int(row["step"]) for row in steps] == list(range(8))
    for row in steps:
        total, invariant, equivariant = (
            float(row[f"train_loss{part}"]) for part in ("", "_invariant", "_equivariant")
        )
        assert total == pytest.approx(invariant + equivariant, rel=1e-5)
        assert float(row["images_per_second"]) > 0
        assert float(row["learning_rate"]) > 0


def watching() -> list[Callback]:
    """What looks at the head, the features and the Trainer's validation loaders."""
    return [
        NearestNeighbours("star.backbone"),
        RedundancyMonitor(lambda module, x: module.star.head(module(x)), every_n_steps=1),
        RoutingMonitor(
            lambda module, x: module.star.head.routing_weights(module(x)), every_n_steps=3
        ),
    ]


def test_callbacks_watch_it_and_change_nothing(tmp_path: Path) -> None:
    modules = []
    for name, callbacks in (("alone", []), ("watched", watching())):
        module = STARModule(make_star(dropout=0.2), batch_size=BATCH)
        logger = CSVLogger(tmp_path, name)
        options = {"callbacks": callbacks, "logger": logger, "num_sanity_val_steps": -1}
        make_trainer(tmp_path, **options).fit(module, train_loader(), eval_loaders())
        modules.append(module)
    for name, tensor in modules[0].state_dict().items():
        assert torch.equal(tensor, modules[1].state_dict()[name]), name
    with open(tmp_path / "watched/version_0/metrics.csv") as file:
        rows = list(csv.DictReader(file))
    for name, steps in (
        ("knn_accuracy", [0, 3, 7]),
        ("mean_canonical_correlation", [0, 3, 7]),
        ("batch_canonical_correlation", list(range(8))),
        ("routing_divergence", [0, 3, 6]),
        ("usage/equivariant_03", [0, 3, 6]),
    ):
        assert [int(row["step"]) for row in rows if row[name]] == steps, name


@pytest.mark.parametrize(
    ("routing", "divergence", "usage"),
    [("invariant", None, None), ("shared", 0.5, [0.5, 0, 0.5]), ("separate", 1.0, [1, 0])],
)
def test_other_routings_train(
    tmp_path: Path, routing: Routing, divergence: float | None, usage: list[float] | None
) -> None:
    module = STARModule(make_star(routing), batch_size=BATCH)
    before = copy.deepcopy(module.state_dict())
    callbacks = [] if usage is None else watching()
    make_trainer(tmp_path, 1, logger=CSVLogger(tmp_path, "csv"), callbacks=callbacks).fit(
        module, train_loader(), eval_loaders()
    )
    assert any(not torch.equal(t, before[n]) for n, t in module.state_dict().items())
    with open(tmp_path / "csv/version_0/metrics.csv") as file:
        logged = [row for row in csv.DictReader(file) if row.get("routing_divergence")]
    assert bool(logged) == (divergence is not None)
    for row in logged:  # shares, though the rows of "shared" sum to 2
        assert float(row["routing_divergence"]) == pytest.approx(divergence)
        found = [float(row[f"usage/invariant_{k:02d}"]) for k in range(len(usage))]
        assert found == pytest.approx(usage)


def test_weight_decay_groups() -> None:
    star = make_star()
    (group,) = STARModule(star)._parameter_groups()
    assert len(group["params"]) == len(list(star.parameters()))
    assert group["weight_decay"] == 5e-4
    decayed, exempt = STARModule(star, decay_norm_and_bias=False)._parameter_groups()
    names = {id(p): name for name, p in star.named_parameters()}
    assert (decayed["weight_decay"], exempt["weight_decay"]) == (5e-4, 0)
    assert {names[id(p)] for p in decayed["params"]} == {
        "backbone.1.weight",
        *(f"head.experts.layers.{i}.weight" for i in (0, 3, 6)),
        "head.experts.router.weight",
        "head.predictor.psi.weight",
        *(f"head.predictor.phi.{i}.weight" for i in (0, 3, 6)),
    }
    assert "head.experts.layers.6.bias" in {names[id(p)] for p in exempt["params"]}


def test_what_a_backbone_exempts_is_not_decayed_either() -> None:
    backbone = create_backbone("test_vit", input_size=32)
    star = STAR(backbone, STARProjectionHead(64, 16, 8, num_experts=2, statistics="stl10"))
    decayed, exempt = STARModule(star, decay_norm_and_bias=False)._parameter_groups()
    spared = [backbone.pos_embed, backbone.cls_token]
    assert {id(p) for p in spared} <= {id(p) for p in exempt["params"]}
    assert any(p is backbone.patch_embed.proj.weight for p in decayed["params"])
    (group,) = STARModule(star)._parameter_groups()
    assert len(group["params"]) == len(list(star.parameters()))


class Stop(Exception):
    pass


class StopAt(Callback):
    """Breaks off in the middle of an epoch."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int
    ) -> None:
        if trainer.global_step == self.step:
            raise Stop


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_run_equals_an_unbroken_one(tmp_path: Path, workers: int) -> None:
    """With plain loaders too: shuffling, views and dropout draw the same random numbers."""

    def fit(callbacks: list[Callback], resume: bool = False) -> STARModule:
        torch.manual_seed(7 if not resume else 8)
        module = STARModule(make_star(dropout=0.3), batch_size=BATCH)
        torch.manual_seed(9 if not resume else 10)
        trainer = make_trainer(
            tmp_path, 3, callbacks=callbacks, enable_checkpointing=True, num_sanity_val_steps=0
        )
        loader = DataLoader(
            Views(random=True), BATCH, shuffle=True, drop_last=True, num_workers=workers
        )
        trainer.fit(
            module, loader, eval_loaders(), ckpt_path="last" if resume else None, weights_only=True
        )
        return module

    def checkpoint(folder: str) -> ModelCheckpoint:
        return ModelCheckpoint(
            tmp_path / folder,
            filename="last",
            enable_version_counter=False,
            save_on_train_epoch_end=True,
        )

    whole = fit([checkpoint("whole")])
    with pytest.raises(Stop):
        fit([checkpoint("broken"), StopAt(6)])
    resumed = fit([checkpoint("broken")], resume=True)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


def save(folder: Path, module: STARModule) -> Path:
    trainer = make_trainer(folder, 1)
    trainer.fit(module, train_loader())
    trainer.save_checkpoint(folder / "run.ckpt")
    return folder / "run.ckpt"


def test_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, STARModule(make_star(), batch_size=BATCH))
    message = r"layers.0.weight is \(4, 24, 24\) in the checkpoint and \(1, 24, 24\) here"
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path).fit(
            STARModule(make_star("invariant"), batch_size=BATCH),
            train_loader(),
            ckpt_path=path,
            weights_only=True,
        )


def test_checkpoint_says_how_the_backbone_was_built(tmp_path: Path) -> None:
    backbone = create_backbone("resnet10t", small_images=True, drop_path_rate=0.1)
    star = STAR(backbone, STARProjectionHead(512, 16, 8, num_experts=2, statistics="stl10"))
    checkpoint = torch.load(save(tmp_path, STARModule(star, batch_size=BATCH)), weights_only=True)
    assert checkpoint["backbone"] == {
        "name": "resnet10t",
        "small_images": True,
        "in_chans": 3,
        "global_pool": "avg",
        "drop_path_rate": 0.1,
    }
    again = create_backbone(**checkpoint["backbone"])
    again.load_state_dict(backbone.state_dict())


class Counting(nn.Sequential):
    """A backbone that adds something to its state that is no weight."""

    def __init__(self, extra: object) -> None:
        super().__init__(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, WIDTH))
        self.extra = extra

    def get_extra_state(self) -> object:
        return self.extra

    def set_extra_state(self, state: object) -> None:
        self.extra = state


class Own:
    """What is of no plain type."""


def with_extra_state(extra: object) -> STARModule:
    star = make_star()
    star.backbone = Counting(extra)
    return STARModule(star, batch_size=BATCH)


@pytest.mark.parametrize(
    "extra",
    [
        {"calls": 3, "name": "cat", "best": math.inf},
        None,
        17,
        [torch.tensor([1.0, math.nan])],
        torch.tensor([math.inf]),
        torch.arange(5),
    ],
)
def test_a_backbones_extra_state_is_saved_and_loaded(tmp_path: Path, extra: object) -> None:
    path = save(tmp_path, with_extra_state(extra))
    # As long as it likes: what is not a weight has no shape to fit.
    again = with_extra_state(torch.zeros(2, 2))
    make_trainer(tmp_path, 2).fit(again, train_loader(), ckpt_path=path, weights_only=True)
    assert repr(again.star.backbone.extra) == repr(extra)


def test_extra_state_that_no_checkpoint_could_give_back_is_refused_at_the_start(
    tmp_path: Path,
) -> None:
    module = with_extra_state({"calls": Own()})
    message = "star.backbone._extra_state: a checkpoint holds .*gives a dict.*weights_only=True"
    with pytest.raises(TypeError, match=message):
        make_trainer(tmp_path, 1).fit(module, train_loader())
    assert module.global_step == 0


def test_a_checkpoint_without_the_extra_state_is_another_models(tmp_path: Path) -> None:
    star = make_star()
    star.backbone = nn.Sequential(*with_extra_state(3).star.backbone)
    path = save(tmp_path, STARModule(star, batch_size=BATCH))
    with pytest.raises(
        ValueError, match="_extra_state is absent in the checkpoint and of type int here"
    ):
        make_trainer(tmp_path).fit(
            with_extra_state(3), train_loader(), ckpt_path=path, weights_only=True
        )


class Diverging(nn.Module):
    """Its output leaves the numbers at some step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step, self.calls = step, 0

    def forward(self, out0: Tensor, out1: Tensor) -> Tensor:
        self.calls += 1
        return (out0 * out1).sum() * (math.inf if self.calls > self.step else 1)


def test_stops_at_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    star = make_star()
    star.loss = STARLoss(equivariant_loss=Diverging(step=5))
    module = STARModule(star, batch_size=BATCH)
    last = ModelCheckpoint(
        tmp_path, filename="last", enable_version_counter=False, save_on_train_epoch_end=True
    )
    message = r"step 5: invariant part \d.*, equivariant part -?inf.*learning rate.*bf16"
    with pytest.raises(FloatingPointError, match=message):
        make_trainer(tmp_path, callbacks=[last], enable_checkpointing=True).fit(
            module, train_loader()
        )
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 4
    assert all(t.isfinite().all() for t in saved["state_dict"].values())


def test_monitors_leave_the_stop_its_words(tmp_path: Path) -> None:
    class Poison(Callback):
        def on_train_batch_start(
            self, trainer: Trainer, pl_module: LightningModule, *args: object
        ) -> None:
            if trainer.global_step == 2:
                next(pl_module.parameters()).data.fill_(math.nan)

    module = STARModule(make_star(), batch_size=BATCH)
    callbacks = [Poison(), *watching()]
    with pytest.raises(FloatingPointError, match="the loss is not finite at step 2: .*lower"):
        make_trainer(tmp_path, callbacks=callbacks).fit(module, train_loader(), eval_loaders())


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    class Poison(Callback):
        def on_train_batch_end(
            self, trainer: Trainer, pl_module: LightningModule, *args: object
        ) -> None:
            if trainer.global_step == 8:  # the last of the second epoch
                next(pl_module.parameters()).data.fill_(math.nan)

    last = ModelCheckpoint(
        tmp_path, filename="last", enable_version_counter=False, save_on_train_epoch_end=True
    )
    with pytest.raises(FloatingPointError, match="weights are not finite after step 8, first star"):
        make_trainer(tmp_path, callbacks=[Poison(), last], enable_checkpointing=True).fit(
            STARModule(make_star(), batch_size=BATCH), train_loader()
        )
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 4


@pytest.mark.parametrize("scheduling", [{0: 4, 2: 1}, {1: 2, 3: 4}])
def test_learning_rate_follows_an_accumulation_that_changes(
    tmp_path: Path, scheduling: dict[int, int]
) -> None:
    rates = Rates()
    module = STARModule(make_star(), batch_size=BATCH, learning_rate=0.1)
    callbacks = [rates, GradientAccumulationScheduler(scheduling)]
    make_trainer(tmp_path, 4, callbacks=callbacks).fit(module, train_loader())
    batches = [
        max((e, n) for e, n in {0: 1, **scheduling}.items() if e <= epoch)[1] for epoch in range(4)
    ]
    expected = [
        0.1 * BATCH * count / 256 * (1 + math.cos(math.pi * epoch / 4)) / 2
        for epoch, count in enumerate(batches)
    ]
    assert rates.seen == pytest.approx(expected)
    assert module.global_step == sum(4 // count for count in batches)


def test_a_run_is_gone_on_with_by_its_own_settings(tmp_path: Path) -> None:
    def module(temperature: float | nn.Parameter = 0.2, **options: object) -> STARModule:
        star = make_star()
        star.loss = STARLoss(temperature)
        return STARModule(star, **{"batch_size": BATCH, **options})

    path = save(tmp_path, module())
    for other, difference in (
        (module(learning_rate=0.1), "learning_rate 0.03, and this has 0.1"),
        (module(momentum=0), "momentum 0.9, and this has 0.0"),
        (module(weight_decay=0), "weight_decay 0.0005, and this has 0.0"),
        (module(decay_norm_and_bias=False), "decay_norm_and_bias True, and this has False"),
        (module(batch_size=2 * BATCH), "batch_size 16, and this has 32"),
        (module(temperature=0.3), "invariant_loss.temperature 0.2, and this has 0.3"),
    ):
        with pytest.raises(ValueError, match=f"checkpoint: its run had {difference}"):
            make_trainer(tmp_path, 2).fit(other, train_loader(), ckpt_path=path, weights_only=True)
        # To measure it, any will do.
        make_trainer(tmp_path).validate(
            other, eval_loaders(), ckpt_path=path, weights_only=True, verbose=False
        )

    scheduled = module()
    scheduled.star.loss.invariant_loss.temperature = 0.5  # by the run, as before
    make_trainer(tmp_path, 2).fit(scheduled, train_loader(), ckpt_path=path, weights_only=True)
    assert scheduled.global_step == 8


class Rates(Callback):
    """The learning rate of each epoch."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_longer_training_follows_the_longer_cosine(tmp_path: Path) -> None:
    last = tmp_path / "last.ckpt"
    trainer = make_trainer(tmp_path, 2)
    trainer.fit(STARModule(make_star(), batch_size=256), train_loader())
    trainer.save_checkpoint(last)
    rates = Rates()
    make_trainer(tmp_path, 4, callbacks=[rates]).fit(
        STARModule(make_star(), batch_size=256), train_loader(), ckpt_path=last, weights_only=True
    )
    assert rates.seen == pytest.approx([0.03 * (1 + math.cos(math.pi * e / 4)) / 2 for e in (2, 3)])


@pytest.mark.parametrize(
    ("device", "blocking"),
    [("cuda", False), ("cuda:1", False), ("cpu", True), ("mps", True), ("xpu", True)],
)
def test_only_a_cuda_device_is_not_waited_for(device: str, blocking: bool) -> None:
    seen = {}

    class Watched(Tensor):
        def to(self, *args: object, **kwargs: object) -> Tensor:
            seen[str(args[0])] = kwargs
            return self.as_subclass(Tensor)

    module = STARModule(make_star())
    views, label = Views()[0]
    original, *others = (
        t.as_subclass(Watched) for t in (views.original, *views.views, *views.params)
    )
    watched = STARViews(original, others[:2], others[2:])
    moved, labels = module.transfer_batch_to_device(
        [watched, torch.tensor([label]).as_subclass(Watched)], torch.device(device), 0
    )
    assert isinstance(moved, STARViews)
    assert torch.equal(moved.views[1], views.views[1])
    assert labels.item() == label
    assert device in seen
    assert all(options == {"non_blocking": not blocking} for options in seen.values())


@pytest.mark.slow
def test_compiled_channels_last_and_clipped(tmp_path: Path) -> None:
    losses = []
    for options in ({}, {"compile": True, "channels_last": True}):
        torch.manual_seed(2)
        backbone = nn.Sequential(
            nn.Conv2d(3, WIDTH, 3), nn.BatchNorm2d(WIDTH), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )
        star = STAR(backbone, STARProjectionHead(WIDTH, 16, 8, num_experts=2, statistics="stl10"))
        module = STARModule(star, batch_size=BATCH, **options)
        trainer = make_trainer(tmp_path, 1, gradient_clip_val=0.5)
        trainer.fit(module, train_loader())
        losses.append(trainer.callback_metrics["train_loss"])
        if options:
            weight = backbone[0].weight
            assert weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(*losses, rtol=1e-3, atol=1e-3)


def test_autocast(tmp_path: Path) -> None:
    module = STARModule(make_star(), batch_size=BATCH)
    trainer = make_trainer(tmp_path, 1, precision="bf16-mixed", logger=CSVLogger(tmp_path))
    trainer.fit(module, train_loader(), eval_loaders())
    assert trainer.callback_metrics["train_loss"].isfinite()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"weight_decay": math.nan}, "weight_decay"),
        ({"momentum": math.inf}, "momentum"),
    ],
)
def test_bad_settings(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        STARModule(make_star(), **options)


def test_training_without_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="max_epochs"):
        make_trainer(tmp_path, -1).fit(STARModule(make_star()), train_loader())
