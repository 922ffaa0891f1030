"""What each callback logs of encoders whose value is known: perfect, constant, random."""

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import watched
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image
from sklearn.cross_decomposition import CCA
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from watched import Images, Method, Validated, fit, logged

from star_head.adapters.callbacks import (
    EquivarianceMonitor,
    NearestNeighbours,
    OnlineLinearProbe,
    RankMonitor,
    RedundancyMonitor,
    RoutingMonitor,
)
from star_head.evaluation import nearest_neighbours
from star_head.metrics import effective_rank, embedding_spread

CLASSES = 7


class Labelled(Dataset[Any]):
    """Images whose first pixel is their class, and whose second is a number of their own."""

    def __init__(self, images: int = 140, labels: Callable[[int], Any] | None = None) -> None:
        self.size = images
        self.labels = labels or (lambda index: index % CLASSES)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Any:
        image = torch.zeros(3, 4, 4)
        image[0, 0, 0] = index % CLASSES
        image[0, 0, 1] = math.sin(index)
        label = self.labels(index)
        return image if label is None else (image, label)


class Pairs(Labelled):
    """The same twice, as a training data set of two views."""

    def __getitem__(self, index: int) -> Any:
        image, label = super().__getitem__(index)
        return [image, image], label


def perfect(module: Any, images: Tensor) -> Tensor:
    return nn.functional.one_hot(images[:, 0, 0, 0].long(), CLASSES).to(images)


def constant(module: Any, images: Tensor) -> Tensor:
    return images.new_ones(len(images), CLASSES)


def random(module: Any, images: Tensor) -> Tensor:
    """Different for each image, and with nothing of its class in it."""
    angles = images[:, 0, 0, 1:2] * torch.arange(1, 9) * 1000
    return angles.sin()


class Encoder(nn.Module):
    """One of these as a part of a module, whose features are caught."""

    def __init__(self, function: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        return self.function(self, images) * self.scale


class Fixed(Validated):
    """A module of one of these encoders, which does not move."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        first, second = batch[0]
        return 0 * (self.backbone(first) + self.backbone(second)).mean()


def run(
    folder: Path,
    callbacks: list[Callback],
    function: Callable[[Any, Tensor], Tensor] = perfect,
    data_set: Dataset[Any] | None = None,
    **options: Any,
) -> dict[str, dict[int, float]]:
    loader = DataLoader(data_set or Pairs(), batch_size=35, shuffle=True)
    fit(folder, callbacks, Fixed(Encoder(function)), loader, **options)
    return logged(folder)


@pytest.mark.parametrize("features", ["backbone", "function"])
@pytest.mark.parametrize(
    ("function", "low", "high"),
    [(perfect, 1, 1), (constant, 1 / CLASSES, 1 / CLASSES), (random, 0.02, 0.35)],
)
def test_the_probe(
    tmp_path: Path, features: str, function: Callable[..., Tensor], low: float, high: float
) -> None:
    given = "backbone" if features == "backbone" else function
    probe = OnlineLinearProbe(given, Labelled(70), learning_rate=0.05)
    found = run(tmp_path, [probe], function, epochs=30)
    last = max(found["probe_accuracy"])
    assert low - 1e-6 <= found["probe_accuracy"][last] <= high + 1e-6
    assert found["probe_top5_accuracy"][last] >= found["probe_accuracy"][last]
    if function is perfect:
        assert found["probe_top5_accuracy"][last] == 1
    if function is constant:
        assert found["probe_top5_accuracy"][last] == pytest.approx(5 / CLASSES)


def test_the_probe_is_a_linear_layer_trained_by_adam(tmp_path: Path) -> None:
    loader = DataLoader(watched.Images(64), batch_size=16, collate_fn=in_a_list)
    queries = Images(40, seed=9)
    module = fit(tmp_path, [OnlineLinearProbe("backbone", queries)], Frozen(), loader, epochs=3)
    norm, linear = nn.BatchNorm1d(watched.WIDTH, affine=False), nn.Linear(watched.WIDTH, 3)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    optimizer = torch.optim.Adam(linear.parameters(), lr=1e-3)
    for _ in range(3):
        for (images,), labels in loader:
            loss = nn.functional.cross_entropy(linear(norm(module.backbone(images))), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    norm.eval()
    right = linear(norm(module.backbone(queries.images))).argmax(1) == queries.labels
    assert logged(tmp_path)["probe_accuracy"][11] == pytest.approx(right.float().mean().item())


def in_a_list(samples: list[tuple[Tensor, int]]) -> tuple[list[Tensor], Tensor]:
    images = torch.stack([image for image, _ in samples])
    return [images], torch.tensor([label for _, label in samples])


class Frozen(Method):
    """A linear backbone that is run and does not move."""

    def __init__(self) -> None:
        torch.manual_seed(4)
        super().__init__(nn.Sequential(nn.Flatten(), nn.Linear(3 * watched.SIDE**2, watched.WIDTH)))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return 0 * self.backbone(batch[0][0]).sum()


def test_a_class_that_comes_late_is_learned_too(tmp_path: Path) -> None:
    late = sorted(range(140), key=lambda index: index % CLASSES >= 3)
    loader = DataLoader(Pairs(), batch_size=10, sampler=late)
    probe = OnlineLinearProbe("backbone", Labelled(70), learning_rate=0.05)
    fit(tmp_path, [probe], Fixed(Encoder(perfect)), loader, epochs=20)
    found = logged(tmp_path)["probe_accuracy"]
    assert found[max(found)] == 1


@pytest.mark.parametrize(
    ("function", "low", "high"),
    [(perfect, 1, 1), (constant, 1 / CLASSES, 1 / CLASSES), (random, 0.0, 0.4)],
)
def test_nearest_neighbours(
    tmp_path: Path, function: Callable[..., Tensor], low: float, high: float
) -> None:
    bank, queries = Labelled(140), Labelled(63)
    found = run(tmp_path, [NearestNeighbours(function, bank, queries, k=9)], function)
    for name in ("knn_accuracy", "weighted_knn_accuracy"):
        assert sorted(found[name]) == [0, 3, 7]
        assert low - 1e-6 <= found[name][7] <= high + 1e-6 or function is random


def test_nearest_neighbours_are_those_of_scikit_learn_and_of_the_evaluation(
    tmp_path: Path,
) -> None:
    bank, queries = Images(90, seed=1), Images(50, seed=2)
    bank.images += 2 * torch.randn(bank.images.shape)
    queries.images += 2 * torch.randn(queries.images.shape)
    callbacks = [NearestNeighbours("backbone", bank, queries, k=7, images=60)]
    module = fit(tmp_path, callbacks)
    module.eval()
    order = torch.randperm(90, generator=torch.Generator().manual_seed(0))[:60]
    with torch.no_grad():
        x, z = module.backbone(bank.images[order]), module.backbone(queries.images)
    one = KNeighborsClassifier(1, metric="cosine").fit(x, bank.labels[order])
    found = logged(tmp_path)
    assert found["knn_accuracy"][7] == pytest.approx(one.score(z, queries.labels))
    voted = nearest_neighbours((x, bank.labels[order]), (z, queries.labels), k=7)
    assert found["weighted_knn_accuracy"][7] == pytest.approx(voted.top1)


def test_neighbours_are_compared_in_float32(tmp_path: Path) -> None:
    """Features all alike but for little, whose cosines are one in bfloat16."""

    def close(module: Any, images: Tensor) -> Tensor:
        return (10 + 0.1 * images.flatten(1)).bfloat16()

    data = [(torch.randn(3, 4, 4), label) for label in range(60)]
    found = run(tmp_path, [NearestNeighbours(close, data, data)])
    assert found["knn_accuracy"][7] > 0.9  # each image is its own nearest neighbour


def test_the_rank_of_features(tmp_path: Path) -> None:
    flat = DataLoader(Images(64), batch_size=16, collate_fn=in_a_list)
    module = fit(tmp_path, [RankMonitor("backbone", samples=40)], Frozen(), flat)
    features = module.backbone(Images(64).images[-40:])
    found = logged(tmp_path)
    assert found["effective_rank"][7] == pytest.approx(effective_rank(features).item(), rel=1e-5)
    assert found["embedding_spread"][7] == pytest.approx(
        embedding_spread(features).item(), rel=1e-5
    )


@pytest.mark.parametrize(
    ("function", "rank", "spread"),
    [(perfect, CLASSES, math.sqrt(1 - 1 / CLASSES)), (constant, 1, 0)],
)
@pytest.mark.parametrize("caught", [True, False])
def test_rank_of_known_encoders_and_one_warning_of_a_collapse(
    tmp_path: Path, function: Callable[..., Tensor], rank: float, spread: float, caught: bool
) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        given = "backbone" if caught else function
        found = run(tmp_path, [RankMonitor(given)], function, Pairs(140), epochs=3)
    assert found["effective_rank"][11] == pytest.approx(rank, rel=0.05)
    assert found["embedding_spread"][11] == pytest.approx(spread, abs=0.03)
    collapses = [str(w.message) for w in said if "collapsed" in str(w.message)]
    assert len(collapses) == (function is constant)


def test_redundancy(tmp_path: Path) -> None:
    first, second = torch.randn(2, 48, 5)

    def same(module: Any, images: Tensor) -> tuple[Tensor, Tensor]:
        z = images.flatten(1).float() @ first
        return z, z @ torch.ones(5, 5).tril()

    def unlike(module: Any, images: Tensor) -> tuple[Tensor, Tensor]:
        x = images.flatten(1).float()
        return x @ first, x.square() @ second

    data = [(torch.randn(3, 4, 4), 0) for _ in range(400)]
    for name, given in (("same", same), ("unlike", unlike)):
        monitor = RedundancyMonitor(given, data, images=300)
        found = run(tmp_path / name, [monitor])
        chance = found["mean_canonical_correlation_chance"][7]
        assert chance < 0.25
        if given is same:
            assert found["mean_canonical_correlation"][7] == pytest.approx(1, abs=1e-4)
        else:
            order = torch.randperm(400, generator=torch.Generator().manual_seed(0))[:300]
            x, y = unlike(None, torch.stack([image for image, _ in data])[order])
            u, v = CCA(5, max_iter=5000, tol=1e-10).fit_transform(x.numpy(), y.numpy())
            slow = np.mean([np.corrcoef(u[:, k], v[:, k])[0, 1] for k in range(5)])
            assert found["mean_canonical_correlation"][7] == pytest.approx(slow, abs=2e-3)


@pytest.mark.parametrize(
    ("rows", "usage", "divergence", "entropy"),
    [
        ([[1.0, 0, 0, 0], [0, 0, 0, 1.0]], [1, 0, 0, 0], 1, 0),
        ([[0.25] * 4, [0.25] * 4], [0.25] * 4, 0, 1),
    ],
)
def test_routing(
    tmp_path: Path, rows: list[list[float]], usage: list[float], divergence: float, entropy: float
) -> None:
    def weights(module: Any, images: Tensor) -> Tensor:
        return torch.tensor(rows).expand(len(images), 2, 4)

    found = run(tmp_path, [RoutingMonitor(weights, every_n_steps=3)])
    assert sorted(found["routing_divergence"]) == [0, 3, 6]
    assert [found[f"usage/invariant_{k:02d}"][3] for k in range(4)] == usage
    assert found["routing_divergence"][3] == pytest.approx(divergence)
    assert found["routing_entropy/equivariant"][3] == pytest.approx(entropy)


def test_routing_of_three_tasks(tmp_path: Path) -> None:
    def weights(module: Any, images: Tensor) -> Tensor:
        return torch.full((len(images), 3, 4), 0.25)

    found = run(tmp_path, [RoutingMonitor(weights)])
    assert found["usage/task2_03"] == {0: 0.25}
    assert "routing_divergence" not in found


class Taking:
    """Loggers as Weights & Biases' and MLflow's are called, which keep what they are given."""

    class Logger(CSVLogger):
        def __init__(self, folder: Path, kind: str) -> None:
            super().__init__(folder, kind)
            self.pictures: list[Any] = []
            self.kind = kind
            self.run_id = "run"
            if kind == "wandb":
                self.log_image = self._log_image

        def _log_image(self, key: str, images: list[Any], step: int) -> None:
            self.pictures.append((key, images[0].shape[2], step))

        @property
        def experiment(self) -> Any:
            real = super().experiment
            if self.kind == "mlflow":
                real.log_figure = lambda run, figure, name: self.pictures.append((run, name))
            return real


def test_pictures_go_to_loggers_that_take_them(tmp_path: Path) -> None:
    def weights(module: Any, images: Tensor) -> Tensor:
        return torch.full((len(images), 2, 4), 0.25)

    wandb, mlflow = (Taking.Logger(tmp_path, kind) for kind in ("wandb", "mlflow"))
    board = TensorBoardLogger(tmp_path, "tensorboard")
    run(
        tmp_path,
        [RoutingMonitor(weights, picture_every_n_epochs=2)],
        epochs=5,
        logger=[wandb, mlflow, board, CSVLogger(tmp_path, "plain")],
    )
    assert wandb.pictures == [("usage", 3, 8), ("usage", 3, 16)]
    assert mlflow.pictures == [("run", "usage/00000008.png"), ("run", "usage/00000016.png")]
    (events,) = (tmp_path / "tensorboard").glob("*/events*")
    assert b"PNG" in events.read_bytes()


def colours(count: int = 60) -> list[Image.Image]:
    generator = np.random.default_rng(0)
    return [
        Image.fromarray(np.full((8, 8, 3), generator.integers(60, 190), dtype=np.uint8))
        for _ in range(count)
    ]


BRIGHTNESS = v2.Compose(
    [v2.ToImage(), v2.ColorJitter(brightness=0.3), v2.ToDtype(torch.float32, scale=True)]
)


def mean_pixel(module: Any, images: Tensor) -> Tensor:
    """Brightness times the image's own grey: with the original's, its logarithm tells the rest."""
    return images.mean(dim=(1, 2, 3)).log().unsqueeze(1)


def test_equivariance_of_known_features(tmp_path: Path) -> None:
    def noise(module: Any, images: Tensor) -> Tensor:
        return (images.flatten(1)[:, :1] * torch.arange(1, 9) * 1e5).sin()

    for name, given, low, high in (
        ("knows", mean_pixel, 0.9, 1),
        ("random", noise, -0.3, 0.2),
        ("constant", constant, -0.2, 0.01),
    ):
        found = run(tmp_path / name, [EquivarianceMonitor(given, colours(), BRIGHTNESS)])
        assert low <= found["mean_r2"][7] <= high, name
        assert found["r2/brightness"] == found["mean_r2"]
        assert -0.3 <= found["mean_r2_chance"][7] <= 0.1, name
        assert sorted(found["mean_r2"]) == [0, 3, 7]
        assert "mean_reciprocal_rank" not in found


def test_retrieval_of_known_predictions(tmp_path: Path) -> None:
    def embeddings(module: Any, images: Tensor) -> tuple[Tensor, Tensor]:
        """The pixels' mean as an angle: what a brightness makes of it can be told exactly."""
        angle = images.mean(dim=(1, 2, 3)) * 2
        return angle[:, None], torch.stack([angle.cos(), angle.sin()], dim=1)

    def perfect_prediction(module: Any, z: Tensor, params: Tensor) -> Tensor:
        angle = torch.atan2(z[:, 1], z[:, 0]) * params[:, 0]
        return torch.stack([angle.cos(), angle.sin()], dim=1)

    def no_prediction(module: Any, z: Tensor, params: Tensor) -> Tensor:
        return torch.ones_like(z)

    def constant_embeddings(module: Any, images: Tensor) -> Tensor:
        return images.new_ones(len(images), 2)

    for name, made, predict in (
        ("perfect", embeddings, perfect_prediction),
        ("constant", constant_embeddings, no_prediction),
    ):
        monitor = EquivarianceMonitor(
            mean_pixel, colours(), BRIGHTNESS, embeddings=made, predict=predict, views=4, images=30
        )
        found = {
            key: values[7] for key, values in run(tmp_path / name, [monitor]).items() if 7 in values
        }
        chance = (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4
        assert found["mean_reciprocal_rank_chance"] == pytest.approx(chance)
        assert found["hit_at_1_chance"] == pytest.approx(0.25)
        if name == "perfect":
            assert found["mean_reciprocal_rank"] > 0.95
            assert found["hit_at_1"] > 0.9
            assert found["prediction_retrieval_error"] < 0.1
        else:
            for key in ("mean_reciprocal_rank", "hit_at_1", "prediction_retrieval_error"):
                assert found[key] == pytest.approx(found[f"{key}_chance"])


NO_LABELS = "the training batches have no labels"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (lambda index: None, "bank: 140 of 140 images have no label"),
        (lambda index: -1, "bank: 140 of 140 images have no label"),
        (lambda index: -1 if index == 3 else index % 3, "bank: 1 of 140 images have no label"),
        (lambda index: 4, "bank: all 140 images are of one class, 4"),
    ],
)
def test_labels_that_are_missing_are_named(
    tmp_path: Path, labels: Callable[[int], Any], message: str
) -> None:
    data = Labelled(labels=labels)
    with pytest.warns(UserWarning, match=message) as said:
        found = run(tmp_path, [NearestNeighbours("backbone", data, data)])
    assert sum("left out" in str(w.message) for w in said) == 1
    assert "knn_accuracy" not in found


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (lambda images, labels: ([images, images],), NO_LABELS),
        (lambda images, labels: ([images, images], labels.float()), NO_LABELS),
        (lambda images, labels: ([images, images], images), NO_LABELS),
        (lambda images, labels: ([images, images], labels[:-1]), "a row for each of 34 labels"),
        (lambda images, labels: ([images, images], 0 * labels - 1), "has a label of 0 or more"),
    ],
)
def test_a_probe_without_labels_is_named(
    tmp_path: Path, batch: Callable[..., Any], message: str
) -> None:
    def collate(samples: list[tuple[Tensor, int]]) -> Any:
        images = torch.stack([image for image, _ in samples])
        return batch(images, torch.tensor([label for _, label in samples]))

    loader = DataLoader(Labelled(), batch_size=35, collate_fn=collate)
    with pytest.warns(UserWarning, match=f"OnlineLinearProbe: left out: .*{message}") as said:
        fit(tmp_path, [OnlineLinearProbe("backbone", Labelled())], Fixed(Encoder(perfect)), loader)
    assert sum("left out" in str(w.message) for w in said) == 1
    assert "probe_accuracy" not in logged(tmp_path)


def test_some_images_without_a_label_are_not_learned_from(tmp_path: Path) -> None:
    data = Pairs(labels=lambda index: -1 if index % 2 else index % CLASSES)
    probe = OnlineLinearProbe("backbone", Labelled(70), learning_rate=0.05)
    found = run(tmp_path, [probe], perfect, data, epochs=30)
    assert found["probe_accuracy"][119] == 1


def test_batches_without_any_label_are_passed_over(tmp_path: Path) -> None:
    data = Pairs(labels=lambda index: index % CLASSES if index < 70 else -1)
    loader = DataLoader(data, batch_size=35)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*left out")
        probe = OnlineLinearProbe("backbone", Labelled(70), learning_rate=0.05)
        fit(tmp_path, [probe], Fixed(Encoder(perfect)), loader, epochs=30)
    assert logged(tmp_path)["probe_accuracy"][119] == 1


def test_one_class_alone_is_no_accuracy(tmp_path: Path) -> None:
    for label in (0, 2):
        same = Pairs(labels=lambda index, label=label: label)
        with pytest.warns(UserWarning, match=f"training images so far are of one class, {label}"):
            found = run(tmp_path, [OnlineLinearProbe("backbone", Labelled())], perfect, same)
        assert "probe_accuracy" not in found
    probe = OnlineLinearProbe("backbone", Labelled(70, labels=lambda index: 2))
    with pytest.warns(UserWarning, match="validation: all 70 images are of one class, 2"):
        found = run(tmp_path / "validation", [probe])
    assert "probe_accuracy" not in found


def test_a_bank_of_another_width_is_named(tmp_path: Path) -> None:
    def widths(module: Any, images: Tensor) -> Tensor:
        return images.flatten(1)

    bank = [(torch.rand(3, 4, 4), i % 2) for i in range(20)]
    queries = [(torch.rand(3, 5, 5), i % 2) for i in range(20)]
    with pytest.warns(UserWarning, match="queries: expected features of the bank's width 48"):
        found = run(tmp_path, [NearestNeighbours(widths, bank, queries)])
    assert "knn_accuracy" not in found


def test_images_of_several_sizes_are_named(tmp_path: Path) -> None:
    bank = [(torch.rand(3, 4 + i % 2, 4), i % 2) for i in range(20)]
    with pytest.warns(UserWarning, match="expected images of one size"):
        run(tmp_path, [NearestNeighbours("backbone", bank, bank)])


@pytest.mark.parametrize(
    "callback", [OnlineLinearProbe, NearestNeighbours, RedundancyMonitor], ids=lambda c: c.__name__
)
def test_no_validation_loader_is_said(tmp_path: Path, callback: Any) -> None:
    with pytest.warns(UserWarning, match=f"{callback.__name__}: left out: no validation loader"):
        run(tmp_path, [callback("backbone")])


def test_one_validation_loader_is_too_few_for_a_bank_and_queries(tmp_path: Path) -> None:
    callbacks = [NearestNeighbours("backbone"), OnlineLinearProbe("backbone", learning_rate=0.05)]
    loader = DataLoader(Labelled(), batch_size=50)
    with pytest.warns(UserWarning, match="expected 2 validation loaders, .*queries, got 1"):
        found = run(tmp_path, callbacks, validation=loader, epochs=30)
    assert "knn_accuracy" not in found
    assert found["probe_accuracy"][119] == 1


def test_validation_batches_that_are_not_images_are_left_out(tmp_path: Path) -> None:
    loaders: list[Any] = [DataLoader([(torch.zeros(3), 0)] * 4) for _ in range(2)]
    with pytest.warns(UserWarning, match="NearestNeighbours: left out: .*batch: expected images"):
        run(tmp_path, [NearestNeighbours("backbone")], validation=loaders)
