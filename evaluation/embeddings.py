"""What a pretrained network makes of images and of recorded views of them."""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from star_head._devices import to_device
from star_head._processors import loading_processes
from star_head._seeds import all_seeded, mix_seeds
from star_head.evaluation._progress import counting
from star_head.evaluation.nearest import nearest_neighbour_accuracy
from star_head.evaluation.preparation import (
    DataSet,
    Prepared,
    evaluating,
    load,
    split_sample,
    stack,
)
from star_head.evaluation.trained import Trained

# Images at a time.
_BATCH = 256


class Embedded(NamedTuple):
    """What a network makes of images; T tasks, E experts, all on the CPU and float32 but labels.

    Attributes:
        features: The backbone's, (n, D).
        experts: Each expert's output, (n, E, d).
        weights: What each task takes of each expert, (n, T, E).
        labels: The images' classes, (n,), int64; -1 where they have none.
    """

    features: Tensor
    experts: Tensor
    weights: Tensor
    labels: Tensor

    @property
    def tasks(self) -> Tensor:
        """The embeddings of each task, (n, T, d): the experts mixed by the weights."""
        return self.weights @ self.experts

    def part(self, indices: Tensor) -> "Embedded":
        """Those of some of the images."""
        return Embedded(*(tensor[indices] for tensor in self))


class Viewed(NamedTuple):
    """What a network makes of K recorded views of each of M images.

    Attributes:
        original: Embeddings of the images without augmentation.
        params: The views' raw augmentation parameters, (M, K, P).
        features: Features of the views, (M, K, D).
        tasks: The views' embeddings for each task, (M, K, T, d).
        weights: What each task takes of each expert for each view, (M, K, T, E).
        predicted: The equivariant embeddings predicted for the views, (M, K, d); ``None`` from a
            head without that task.
    """

    original: Embedded
    params: Tensor
    features: Tensor
    tasks: Tensor
    weights: Tensor
    predicted: Tensor | None = None


def embed(trained: Trained, data_set: DataSet, num_workers: int | None = None) -> Embedded:
    """Embed images without augmentation, prepared as in training.

    Args:
        trained: The network.
        data_set: Any map-style data set of (image, label), PIL images or uint8 tensors.
        num_workers: Processes that read images; default: as many as there are processors, at most
            16, and none for a few images.

    Raises:
        TypeError: If images or labels are of another kind.
        ValueError: If there are no images, or a feature is not finite.
    """
    images = Prepared(data_set, trained.transform.original)
    parts = []
    with _evaluating(trained), counting(len(images), "Images") as progress:
        for pixels, labels in load(images, _BATCH, num_workers, collate=stack):
            parts.append(Embedded(*_embed(trained, pixels), labels))
            progress(len(pixels))
    return Embedded(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def measure_features(trained: Trained, train: DataSet, test: DataSet) -> float:
    """Share of test images of the class of the training image nearest by their features."""
    bank, queries = embed(trained, train), embed(trained, test)
    return nearest_neighbour_accuracy(
        bank.features, bank.labels.numpy(), queries.features, queries.labels.numpy()
    )


def embed_views(
    trained: Trained,
    data_set: DataSet,
    original: Embedded,
    views: int,
    seed: int,
    num_workers: int | None = None,
) -> Viewed:
    """Embed recorded views of images.

    The views follow from the seed and the image's place alone, so that two networks trained with
    the same settings see the same. Where a transform's views differ, they are made in turn.

    Args:
        trained: The network.
        data_set: M images, likewise.
        original: What :func:`embed` made of them.
        views: K of each.
        seed: Seed of the views.
        num_workers: Processes that make views; default: as for :func:`embed`.

    Raises:
        ValueError: If a feature is not finite.
    """
    head = trained.head
    device = next(head.parameters()).device
    recorded = _RecordedViews(data_set, trained, views, seed)
    if num_workers is None:
        num_workers = loading_processes(len(recorded) * views)
    loader = load(recorded, max(1, _BATCH // views), num_workers)
    embeddings = original.tasks
    parts = []
    done = 0
    with _evaluating(trained), counting(len(recorded) * views, "Views", "view") as progress:
        for pixels, params in loader:
            features, outputs, weights = _embed(trained, pixels.flatten(0, 1))
            part = [features, weights @ outputs, weights]
            if head.predictor is not None:
                equivariant = embeddings[done : done + len(pixels), 1]
                predicted = head.predict(
                    equivariant.repeat_interleave(views, dim=0).to(device),
                    params.flatten(0, 1).to(device),
                )
                part.append(predicted.cpu())
            parts.append([params, *(t.view(len(pixels), views, *t.shape[1:]) for t in part)])
            done += len(pixels)
            progress(len(features))
    return Viewed(original, *(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


@contextlib.contextmanager
def _evaluating(trained: Trained) -> Iterator[None]:
    with evaluating(trained.backbone), evaluating(trained.head):
        yield


def _embed(trained: Trained, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Features, experts' outputs and routing weights."""
    device = next(trained.head.parameters()).device
    features = trained.backbone(to_device(pixels, device)).flatten(1).float()
    if not features.isfinite().all():
        raise ValueError("features: expected finite ones of all images, got nan or inf")
    outputs = trained.head.experts.expert_outputs(features)
    weights = trained.head.routing_weights(features)
    return features.cpu(), outputs.cpu(), weights.cpu()


class _RecordedViews(Dataset[Any]):
    """K views of each image and their parameters."""

    def __init__(self, data_set: DataSet, trained: Trained, views: int, seed: int) -> None:
        self.data_set = data_set
        self.transform: Any = trained.transform
        self.samplers = getattr(trained.transform, "recorded", (trained.transform,))
        self.views = views
        self.seed = seed

    def __len__(self) -> int:
        return len(self.data_set)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = split_sample(self.data_set[index], index)[0]
        # Once, where it is for all views; other transforms take images as they are.
        image = getattr(self.transform, "to_rgb", _as_it_is)(image)
        samplers = self.samplers
        with all_seeded(mix_seeds(self.seed, index) >> 1):
            records = [samplers[i % len(samplers)].sample(image) for i in range(self.views)]
        pixels = torch.stack([self.transform.apply(image, record) for record in records])
        params = torch.stack([record.vector() for record in records])
        return pixels, params


def _as_it_is(image: Any) -> Any:
    return image
