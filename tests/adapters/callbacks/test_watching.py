"""What holds for all callbacks: nothing is changed, no run is ended, resumed runs go on."""

import contextlib
import copy
import random
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import watched
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2
from watched import Images, Method, Validated, fit, logged, star_head, train_loader

from star_head.adapters.callbacks import (
    EquivarianceMonitor,
    NearestNeighbours,
    OnlineLinearProbe,
    RankMonitor,
    RedundancyMonitor,
    RoutingMonitor,
    watch,
)
from star_head.adapters.callbacks._classifier import Classifier
from star_head.adapters.lightly import STARTransform


def pictures(count: int = 24, classes: int = 3) -> list[tuple[Image.Image, int]]:
    generator = np.random.default_rng(3)
    return [
        (Image.fromarray(generator.integers(0, 255, (12, 12, 3), dtype=np.uint8)), i % classes)
        for i in range(count)
    ]


def routing_weights(module: Any, images: Tensor) -> Tensor:
    return module.head.routing_weights(module.backbone(images))


def all_callbacks(seen: Sequence[Any] | None = None) -> list[Callback]:
    """One of each, looking as often as it can."""
    transform = STARTransform(watched.SIDE)
    seen = seen or pictures()
    options = {"transform": transform.original}
    return [
        OnlineLinearProbe("backbone", seen, **options),
        NearestNeighbours("backbone", seen, seen, **options),
        RankMonitor("backbone"),
        RedundancyMonitor("forward", seen, every_n_steps=1, **options),
        RoutingMonitor(routing_weights, every_n_steps=1, picture_every_n_epochs=1),
        EquivarianceMonitor(
            "backbone", seen, transform, embeddings="forward", predict="head.predict", views=3
        ),
    ]


def star_method(cls: type[Method] = Method) -> Method:
    torch.manual_seed(1)
    return cls(head=star_head())


class Spy(Callback):
    """All that a run could be changed in: random states, modes, gradients, at every step."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.seen.append(
            [
                torch.get_rng_state(),
                torch.tensor(np.random.get_state()[1].astype(np.int64)),  # noqa: NPY002
                torch.tensor(random.getstate()[1]),
                torch.tensor([part.training for part in pl_module.modules()]),
                *(p.grad.clone() for p in pl_module.parameters() if p.grad is not None),
                *(b.clone() for b in pl_module.buffers()),
            ]
        )


class Counting(nn.Module):
    """Counts its calls in a buffer, in evaluation mode too, and draws from every generator."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * watched.SIDE**2, watched.WIDTH)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        torch.rand(1), np.random.rand(1), random.random()  # noqa: NPY002
        return self.linear(images.flatten(1))


@pytest.mark.parametrize("backbone", [None, Counting])
def test_watching_changes_nothing(tmp_path: Path, backbone: Callable[[], nn.Module] | None) -> None:
    ends = []
    for name, callbacks in (("without", []), ("with", all_callbacks())):
        torch.manual_seed(1)
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        module = Method(backbone() if backbone else None, star_head())
        spy = Spy()
        fit(tmp_path / name, [*callbacks, spy], module)
        ends.append((spy.seen, module))
    (alone, left), (beside, right) = ends
    assert len(alone) == len(beside) == 8
    for step, (before, after) in enumerate(zip(alone, beside, strict=True)):
        assert len(before) == len(after)
        for one, other in zip(before, after, strict=True):
            assert torch.equal(one, other), step
    for key, tensor in left.state_dict().items():
        assert torch.equal(tensor, right.state_dict()[key]), key
    assert not any(part._forward_hooks for part in right.modules())
    found = logged(tmp_path / "with")
    for key in (
        "probe_accuracy",
        "knn_accuracy",
        "weighted_knn_accuracy",
        "effective_rank",
        "embedding_spread",
        "mean_canonical_correlation",
        "mean_canonical_correlation_chance",
        "batch_canonical_correlation",
        "usage/invariant_00",
        "routing_entropy/equivariant",
        "routing_divergence",
        "r2/crop_top",
        "mean_r2_chance",
        "mean_reciprocal_rank",
        "hit_at_1_chance",
        "prediction_retrieval_error",
    ):
        assert found[key], key
    assert sorted(found["knn_accuracy"]) == [0, 3, 7]  # first before training
    assert sorted(found["batch_canonical_correlation"]) == list(range(8))


def test_on_the_trainers_own_loaders_nothing_changes_either(tmp_path: Path) -> None:
    loaders = [DataLoader(Images(n, seed=n), batch_size=10) for n in (40, 25)]
    weights = []
    for callbacks in (
        [],
        [
            OnlineLinearProbe("backbone"),
            NearestNeighbours("backbone"),
            RedundancyMonitor("forward"),
        ],
    ):
        folder = tmp_path / str(len(callbacks))
        module = fit(folder, callbacks, star_method(Validated), validation=loaders)
        weights.append(module.state_dict())
    for key, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][key]), key
    found = logged(tmp_path / "3")
    assert sorted(found["knn_accuracy"]) == [3, 7]
    assert found["knn_accuracy"][7] > 0.9
    assert found["probe_accuracy"][7] > 0.9
    assert sorted(found["mean_canonical_correlation"]) == [3, 7]


class Stop(Exception):
    pass


class StopAt(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise Stop


def test_a_resumed_run_logs_what_an_unbroken_one_does(tmp_path: Path) -> None:
    def checkpoint(folder: Path) -> ModelCheckpoint:
        return ModelCheckpoint(
            folder, filename="last", enable_version_counter=False, save_on_train_epoch_end=True
        )

    fixed = {"loader": train_loader(Images(), shuffle=False, collate_fn=fixed_views), "epochs": 3}
    whole = tmp_path / "whole"
    fit(whole, all_callbacks(), still(star_method()), **fixed)
    broken, resumed = tmp_path / "broken", tmp_path / "resumed"
    options = fixed | {"enable_checkpointing": True}
    callbacks = [*all_callbacks(), checkpoint(broken), StopAt(6)]
    with pytest.raises(Stop):
        fit(broken, callbacks, still(star_method()), **options)
    module = still(star_method())
    watched.trainer_for(
        resumed,
        [*all_callbacks(), checkpoint(resumed)],
        **{key: value for key, value in options.items() if key != "loader"},
    ).fit(module, fixed["loader"], ckpt_path=broken / "last.ckpt", weights_only=True)
    expected, found = logged(whole), logged(resumed)
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        later = {step: value for step, value in values.items() if step >= 4}
        assert found[name] == later, name


def fixed_views(samples: list[tuple[Tensor, int]]) -> tuple[list[Tensor], Tensor]:
    images = torch.stack([image for image, _ in samples])
    return [images, images + 0.1], torch.tensor([label for _, label in samples])


def still(module: Method) -> Method:
    """Without dropout, whose random numbers Lightning does not save."""
    module.backbone[3].p = 0.0
    return module


def test_under_bf16(tmp_path: Path) -> None:
    fit(tmp_path, all_callbacks(), star_method(), precision="bf16-mixed")
    found = logged(tmp_path)
    assert found["effective_rank"][7] > 1
    assert "mean_r2" in found
    assert "probe_accuracy" in found
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*left out.*")
        fit(tmp_path / "true", all_callbacks(), star_method(), precision="bf16-true")
    assert {"knn_accuracy", "mean_reciprocal_rank", "mean_r2"} <= set(logged(tmp_path / "true"))


def test_with_accumulated_gradients_steps_are_looked_at_once(tmp_path: Path) -> None:
    callbacks = [
        RedundancyMonitor(
            "forward", pictures(), transform=STARTransform(8).original, every_n_steps=1
        )
    ]
    fit(tmp_path, callbacks, star_method(), accumulate_grad_batches=2)
    assert sorted(logged(tmp_path)["batch_canonical_correlation"]) == [0, 1, 2, 3]


def test_a_compiled_backbone_is_computed_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what is compiled nothing is caught; it is not computed in every step."""
    learned = []
    learn = Classifier.learn

    def counted(self: Classifier, *inputs: Tensor) -> None:
        learned.append(self)
        learn(self, *inputs)

    monkeypatch.setattr(Classifier, "learn", counted)
    weights = []
    for callbacks in ([], [OnlineLinearProbe("backbone", Images()), RankMonitor("backbone")]):
        torch.manual_seed(1)
        module = Method()
        module.backbone.compile(backend="aot_eager")
        folder = tmp_path / str(len(callbacks))
        weights.append(fit(folder, callbacks, module).state_dict())
    for key, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][key]), key
    assert "probe_accuracy" in logged(tmp_path / "2")
    assert "effective_rank" in logged(tmp_path / "2")
    assert len(learned) == 2  # the first batch of either epoch


class InPlace(Method):
    """Works in place on what its backbone gave."""

    def forward(self, images: Tensor) -> Any:
        return self.head(self.backbone(images).zero_() + 1)


def test_features_are_those_that_the_backbone_gave(tmp_path: Path) -> None:
    torch.manual_seed(1)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * watched.SIDE**2, watched.WIDTH))
    fit(tmp_path, [RankMonitor("backbone")], InPlace(linear))
    assert logged(tmp_path)["effective_rank"][7] > 1.5


def test_lazy_parameters_are_drawn_by_training_alone(tmp_path: Path) -> None:
    weights = []
    for callbacks in ([], [*all_callbacks()[:3], all_callbacks()[5]]):
        torch.manual_seed(1)
        module = Method(nn.Sequential(nn.Flatten(), nn.LazyLinear(watched.WIDTH)), star_head())
        folder = tmp_path / str(len(callbacks))
        with contextlib.ExitStack() as stack:
            if callbacks:
                stack.enter_context(pytest.warns(UserWarning, match="left out: .*lazy parameters"))
            weights.append(fit(folder, callbacks, module).state_dict())
    for key, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][key]), key
    assert sorted(logged(tmp_path / "4")["knn_accuracy"]) == [3, 7]  # not before training


class Failing(Method):
    """Features that fail, in one way or another, once it trains."""

    kind = "raises"

    def features(self, images: Tensor) -> Any:
        found = self.backbone(images)
        return {
            "raises": lambda: found @ images,
            "nan": lambda: found * torch.nan,
            "inf": lambda: found * torch.inf,
            "constant": lambda: torch.ones_like(found),
            "not pooled": lambda: images,
            "no tensor": lambda: [found],
            "empty": lambda: found[:, :0],
        }[self.kind]()


@pytest.mark.parametrize(
    "kind", ["raises", "nan", "inf", "constant", "not pooled", "no tensor", "empty"]
)
def test_what_is_not_defined_is_left_out_and_said_once(tmp_path: Path, kind: str) -> None:
    seen, transform = pictures(), STARTransform(watched.SIDE)
    options = {"transform": transform.original}
    callbacks = [
        OnlineLinearProbe("features", seen, **options),
        NearestNeighbours("features", seen, seen, **options),
        RankMonitor("features"),
        RedundancyMonitor(
            lambda module, x: (module.features(x),) * 2, seen, every_n_steps=1, **options
        ),
        RoutingMonitor(lambda module, x: module.features(x)[:, None], every_n_steps=1),
        EquivarianceMonitor("features", seen, transform, views=3),
    ]
    torch.manual_seed(1)
    module = Failing()
    module.kind = kind
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(tmp_path, callbacks, module)
    assert module.trainer.global_step == 8
    said = [str(warning.message) for warning in caught if "left out" in str(warning.message)]
    assert len(said) == len(set(said))
    own = [words for words in said if words.startswith("RedundancyMonitor")]
    assert own, said
    found = logged(tmp_path)
    assert "train_loss" in found
    assert "mean_canonical_correlation" not in found
    assert all(np.isfinite(list(values.values())).all() for values in found.values())
    if kind == "constant":
        assert found["embedding_spread"][7] == pytest.approx(0, abs=1e-6)
        assert any("collapsed" in str(warning.message) for warning in caught)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: RankMonitor(nn.Linear(2, 2)), TypeError, "features: .*give its name"),
        (lambda: RankMonitor(3), TypeError, "features: expected the name"),
        (lambda: RankMonitor(""), TypeError, "features: expected the name"),
        (lambda: RankMonitor("backbone", samples=1), ValueError, "samples"),
        (
            lambda: NearestNeighbours("backbone", Images()),
            ValueError,
            "bank, queries: .*bank alone",
        ),
        (lambda: NearestNeighbours("b", k=0), ValueError, "k: "),
        (lambda: NearestNeighbours("b", temperature=0), ValueError, "temperature"),
        (lambda: NearestNeighbours("b", [], []), ValueError, "bank: data_set: .*at least one"),
        (lambda: OnlineLinearProbe("b", DataLoader(Images())), TypeError, "validation: .*dataset"),
        (lambda: OnlineLinearProbe("b", pictures()), TypeError, "validation: .*tensors"),
        (lambda: OnlineLinearProbe("b", Images(views=2)), TypeError, "validation: .*one image"),
        (lambda: OnlineLinearProbe("b", learning_rate=-1), ValueError, "learning_rate"),
        (lambda: OnlineLinearProbe("b", transform=3), TypeError, "transform: expected a function"),
        (lambda: RedundancyMonitor("b", every_n_steps=0), ValueError, "every_n_steps"),
        (lambda: RoutingMonitor(None), TypeError, "weights"),
        (
            lambda: EquivarianceMonitor("b", pictures(), STARTransform(8), embeddings="forward"),
            ValueError,
            "embeddings, predict: expected both",
        ),
        (lambda: EquivarianceMonitor("b", pictures(4), STARTransform(8)), ValueError, "at least 5"),
        (lambda: EquivarianceMonitor("b", pictures(), 3), TypeError, "transform"),
        (lambda: EquivarianceMonitor("b", Images(), STARTransform(8)), TypeError, "image"),
    ],
)
def test_bad_input_is_named_at_the_door(
    make: Callable[[], Callback], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("callback", [RankMonitor, OnlineLinearProbe, NearestNeighbours])
def test_an_attribute_that_is_not_there_is_named_before_training(
    tmp_path: Path, callback: Callable[..., Callback]
) -> None:
    message = "features: Method has no attribute 'encoder'; its parts are backbone, head, frozen"
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, [callback("encoder")])
    with pytest.raises(ValueError, match="Sequential has no attribute 'x'; its parts are 0, 1"):
        fit(tmp_path, [callback("backbone.x")])
    with pytest.raises(TypeError, match="called on images, got .* as 'training'"):
        fit(tmp_path, [callback("training")])


def test_three_lines_watch_any_method(tmp_path: Path) -> None:
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(watched.SIDE),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    before = copy.deepcopy(transform)
    fit(tmp_path, watch("backbone", pictures(), pictures(12), transform))
    assert {"knn_accuracy", "probe_accuracy", "effective_rank", "mean_r2", "r2/crop_top"} <= set(
        logged(tmp_path)
    )
    assert repr(before) == repr(transform)
