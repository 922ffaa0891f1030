"""What a pretrained network makes of images and of recorded views of them."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from star_head._devices import to_device
from star_head._seeds import mix_seeds, seeded
from star_head.adapters._images import to_rgb
from star_head.evaluation.trained import Trained
from star_head.examples.data.image_data import Images

# Images at a time.
_BATCH = 256


class Embedded(NamedTuple):
    """What a network makes of images; T tasks, E experts, all float32 on the CPU.

    Attributes:
        features: The backbone's, (n, D).
        experts: Each expert's output, (n, E, d).
        weights: What each task takes of each expert, (n, T, E).
    """

    features: Tensor
    experts: Tensor
    weights: Tensor

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
        original: Of the images without augmentation.
        params: The views' raw augmentation parameters, (M, K, 11).
        features: Of the views, (M, K, D).
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


@torch.inference_mode()
def embed(trained: Trained, images: Images, num_workers: int = 2) -> Embedded:
    """Embed images without augmentation, prepared as in training.

    Raises:
        ValueError: If a feature is not finite.
    """
    loader = DataLoader(
        images.with_transform(trained.transform.original),
        _BATCH,
        num_workers=num_workers,
        generator=torch.Generator(),
    )
    parts = []
    with tqdm(total=len(images), desc="Images", unit="img", delay=2, mininterval=1) as progress:
        for pixels, _ in loader:
            parts.append(_embed(trained, pixels))
            progress.update(len(pixels))
    return Embedded(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


@torch.inference_mode()
def embed_views(
    trained: Trained,
    images: Images,
    original: Embedded,
    views: int,
    seed: int,
    num_workers: int = 2,
) -> Viewed:
    """Embed recorded views of images.

    The views follow from the seed and the image's place alone, so that two networks trained with
    the same settings see the same.

    Args:
        trained: The network.
        images: M images.
        original: What :func:`embed` made of them.
        views: K of each.
        seed: Of the views.
        num_workers: Processes that make views.

    Raises:
        ValueError: If a feature is not finite.
    """
    head = trained.head
    device = next(head.parameters()).device
    loader = DataLoader(
        _RecordedViews(images, trained, views, seed),
        max(1, _BATCH // views),
        num_workers=num_workers,
        generator=torch.Generator(),
    )
    embeddings = original.tasks
    parts = []
    done = 0
    total = len(images) * views
    with tqdm(total=total, desc="Views", unit="view", delay=2, mininterval=1) as progress:
        for pixels, params in loader:
            viewed = _embed(trained, pixels.flatten(0, 1))
            part = [viewed.features, viewed.tasks, viewed.weights]
            if head.predictor is not None:
                equivariant = embeddings[done : done + len(pixels), 1]
                predicted = head.predict(
                    equivariant.repeat_interleave(views, dim=0).to(device),
                    params.flatten(0, 1).to(device),
                )
                part.append(predicted.cpu())
            parts.append([params, *(t.view(len(pixels), views, *t.shape[1:]) for t in part)])
            done += len(pixels)
            progress.update(len(viewed.features))
    return Viewed(original, *(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def _embed(trained: Trained, pixels: Tensor) -> Embedded:
    device = next(trained.head.parameters()).device
    features = trained.backbone(to_device(pixels, device)).flatten(1).float()
    if not features.isfinite().all():
        raise ValueError("features: expected finite ones of all images, got nan or inf")
    outputs = trained.head.experts.expert_outputs(features)
    weights = trained.head.routing_weights(features)
    return Embedded(features.cpu(), outputs.cpu(), weights.cpu())


class _RecordedViews(Dataset[Any]):
    """K views of each image and their parameters."""

    def __init__(self, images: Images, trained: Trained, views: int, seed: int) -> None:
        self.images = images
        self.transform = trained.transform
        self.views = views
        self.seed = seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = to_rgb(self.images[index][0])
        with seeded(mix_seeds(self.seed, index) >> 1):
            records = [self.transform.sample(image) for _ in range(self.views)]
        pixels = torch.stack([self.transform.apply(image, record) for record in records])
        params = torch.stack([record.vector() for record in records])
        return pixels, params
