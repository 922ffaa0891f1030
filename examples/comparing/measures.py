"""All numbers of an encoder, and of the run that it is from."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from star_head._checkpoint_files import read_checkpoint
from star_head.evaluation import Encoder, Features, few_shot, linear_probe, nearest_neighbours
from star_head.evaluation.embeddings import Embedded, embed, embed_views
from star_head.evaluation.measures import equivariance, parameters_read_off, redundancy
from star_head.evaluation.trained import Trained, open_trained
from star_head.examples.comparing.step_cost import step_cost
from star_head.examples.data.image_data import ImageSplits
from star_head.examples.data.images import Images
from star_head.examples.data.transfer_data import TransferData
from star_head.examples.linear_eval import extract
from star_head.metrics import expert_usage, routing_divergence

# Held-out images, and recorded views of each.
IMAGES, VIEWS = 200, 20
# Correlations of few samples come out large by chance, and more than these change little.
MOST_EMBEDDED = 10_000
WAYS, SHOTS = 5, 5

T = TypeVar("T")


class Data(NamedTuple):
    """What all encoders of a comparison are measured on.

    Attributes:
        images: What they were trained on, and held-out images where there are any.
        own: The same with labels; ``None`` where it has none.
        others: Further data sets by name.
        few_shot: Names of the data sets whose test images are enough for few-shot classification;
            ``""`` is the own one's.
    """

    images: ImageSplits
    own: TransferData | None
    others: Mapping[str, TransferData]
    few_shot: tuple[str, ...]


class Stopwatch:
    """Seconds of each part of a measurement."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, part: str, compute: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Compute something and note what it took."""
        start = time.perf_counter()
        found = compute(*args, **kwargs)
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start
        return found


def measure_encoder(
    encoder: Encoder, data: Data, watch: Stopwatch, num_workers: int
) -> dict[str, Any]:
    """Accuracies of frozen features, on each data set's own test images.

    Args:
        encoder: On the device where it computes.
        data: The data sets.
        watch: Notes what each part takes.
        num_workers: Processes that read images.

    Returns:
        ``None`` for what the data has no labels or too few images for.
    """
    found: dict[str, Any] = {"1-NN": None, "linear": None, "5-shot": None}
    found |= {"linear elsewhere": {}, "5-shot elsewhere": {}}
    named = {} if data.own is None else {"": data.own}
    device = next(encoder.backbone.parameters()).device
    for name, part in {**named, **data.others}.items():
        train, validation, test = watch(
            "features", extract, encoder, part, cache=None, num_workers=num_workers
        )
        linear = watch(
            "linear",
            linear_probe,
            train,
            validation,
            test,
            metric=part.metric,
            device=device,
        ).test
        shots = None
        if name in data.few_shot:
            shots = watch("few-shot", few_shot, test, SHOTS, ways=WAYS).accuracy
        if name:
            found["linear elsewhere"][name] = linear
            found["5-shot elsewhere"][name] = shots
            continue
        bank = Features(*(np.concatenate(pair) for pair in zip(train, validation, strict=True)))
        nearest = watch("1-NN", nearest_neighbours, bank, test, 1, device=device)
        found |= {"1-NN": nearest.top1, "linear": linear, "5-shot": shots}
    return found


def measure_run(
    folder: Path, data: Data, device: torch.device, watch: Stopwatch, num_workers: int
) -> dict[str, Any]:
    """What a finished run of examples/pretrain.py made of its head, and what a step took.

    Args:
        folder: Folder of the run.
        data: What it was trained on, and held-out images.
        device: Where images are embedded.
        watch: Notes what each part takes.
        num_workers: Processes that read images and make views.

    Returns:
        Plain values by name; ``None`` for what the run's head does not have.
    """
    path = folder / "checkpoints" / "last.ckpt"
    checkpoint = read_checkpoint(path)
    trained = open_trained(path)
    for module in (trained.backbone, trained.head):
        module.to(device)
    return {
        "epochs": checkpoint["epoch"] + 1,
        "steps": checkpoint["global_step"],
        "images": len(data.images.pretrain),
        "head's parameters": sum(p.numel() for p in trained.head.parameters()),
        **_measure_head(trained, data.images, watch, num_workers),
        "step": {**step_cost(checkpoint), "device": device.type},
    }


def _measure_head(
    trained: Trained, images: ImageSplits, watch: Stopwatch, num_workers: int
) -> dict[str, Any]:
    """Redundancy over all images, use of the experts, and what held-out views tell."""
    held_out = images.pretrain if images.test is None else images.test
    parts = [_some(images.pretrain, MOST_EMBEDDED)]
    if images.test is not None and not _overlap(images):
        parts.append(_some(images.test, MOST_EMBEDDED))
    embedded = [watch("embeddings", embed, trained, part, num_workers) for part in parts]
    everything = Embedded(*(torch.cat(tensors) for tensors in zip(*embedded, strict=True)))
    viewed_images = _some(held_out, IMAGES)
    original = watch("embeddings", embed, trained, viewed_images, num_workers)
    viewed = watch(
        "views", embed_views, trained, viewed_images, original, VIEWS, 0, num_workers=num_workers
    )
    predictor = trained.head.predictor
    units = {parameter.label: parameter.unit for parameter in trained.transform.parameters}
    correlations = watch("redundancy", redundancy, everything.tasks, seed=0)
    read_off = watch("R^2", parameters_read_off, viewed, units, seed=0)
    found: dict[str, Any] = {
        "canonical correlation": None,
        "equivariance": (
            None
            if predictor is None
            else watch("equivariance", equivariance, viewed, predictor.std.cpu())
        ),
        "R^2": read_off["R^2"]["features"],
        "routing": None,
    }
    if correlations is not None:
        names = {"mean": "measured", "mean by chance": "by chance"}
        found["canonical correlation"] = {new: correlations[old] for old, new in names.items()}
    if trained.head.routing == "mmoe":
        weights = everything.weights
        found["routing"] = {
            "usage": expert_usage(weights).tolist(),
            "spread": weights.std(dim=0).tolist(),
            "divergence": routing_divergence(weights).item(),
        }
    return found


def _overlap(images: ImageSplits) -> bool:
    """Whether test images are among those that are pretrained on."""
    assert images.test is not None
    same = images.pretrain.source is images.test.source
    return same and bool(set(images.pretrain.indices) & set(images.test.indices))


def _some(images: Images, count: int) -> Images:
    """A random part, the same on every call, in order."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images.part(order[:count].sort().values.numpy())
