"""Semantic segmentation by frozen features: what dense tasks gain from an encoder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

try:
    from PIL import Image
except ImportError as error:
    raise ImportError(
        'star_head.evaluation reads images by Pillow: pip install "star-head[evaluation]"'
    ) from error

from star_head._checkpoint_files import read_checkpoint
from star_head._checks import check_count, check_number, describe
from star_head._seeds import mix_seeds, seeded
from star_head._whole_files import replacing
from star_head.adapters._images import to_rgb
from star_head.evaluation._progress import counting
from star_head.evaluation.preparation import (
    DataSet,
    Encoder,
    check_data_set,
    evaluating,
    load,
    normalized,
)
from star_head.evaluation.spatial import spatial_features

DenseHead = Literal["linear", "conv"]
"""What is trained on the frozen features."""

_CONV_WIDTH = 256
# As for other linear layers on frozen features here: AdamW, a cosine to 0.
_WEIGHT_DECAY = 1e-4


class SegmentationProbe(NamedTuple):
    """What segmentation by frozen features gives.

    Attributes:
        mean_iou: Mean over the classes that are in the masks or the predictions of intersection
            over union, all test pixels together.
        pixel_accuracy: Share of the test pixels whose class is right.
        iou: Intersection over union of each class, ``nan`` of those in neither.
        loss: Mean cross-entropy of the last epoch.
    """

    mean_iou: float
    pixel_accuracy: float
    iou: list[float]
    loss: float


def segmentation_probe(
    encoder: Encoder,
    train: DataSet,
    test: DataSet,
    *,
    num_classes: int,
    head: DenseHead = "linear",
    input_size: int | None = None,
    epochs: int = 20,
    batch_size: int = 16,
    learning_rate: float = 1e-3,
    ignore: int = 255,
    seed: int = 0,
    num_workers: int | None = None,
    checkpoint: Path | None = None,
) -> SegmentationProbe:
    """Train a head on frozen features of places, and measure it at the masks' own sizes.

    Images are resized to squares of the encoder's size. ``"linear"`` is one layer on each place's
    features, standardised by a batch norm without scale; ``"conv"`` has a 3x3 convolution of 256
    channels before it. The head's map is resized bilinearly: to the images' size in training,
    where masks are resized by nearest neighbour, and to each mask's own size at test. AdamW with a
    cosine to 0; pixels of the ``ignore`` value count nowhere.

    Args:
        encoder: From :func:`~star_head.evaluation.open_encoder`; stays as it is.
        train: Map-style data set of (image, mask): masks are PIL images of one channel or of a
            palette, or integer arrays (H, W) of their image's size, each pixel a class from 0.
        test: The same for the images to measure on.
        num_classes: Classes; other values than these and ``ignore`` are an error.
        head: What is trained.
        input_size: Side of the images in pixels; default: the encoder's own.
        epochs: Passes over the training images.
        batch_size: Images a step.
        learning_rate: Learning rate of AdamW.
        ignore: Value of pixels without a class.
        seed: Seed of the head's weights and of the order.
        num_workers: Processes that read images; default: by the number of processors.
        checkpoint: File from which an interrupted training goes on; written after each epoch.

    Raises:
        TypeError: If the encoder's backbone has no map of features, or a mask is no such thing.
        ValueError: If a mask has an unknown value or another size than its image, or the
            checkpoint is of another training.
    """
    if not isinstance(encoder, Encoder):
        raise TypeError(f"encoder: expected what open_encoder gives, got {describe(encoder)}")
    if head not in get_args(DenseHead):
        raise ValueError(f"head: expected one of {get_args(DenseHead)}, got {head!r}")
    for name, count in (("epochs", epochs), ("batch_size", batch_size)):
        check_count(name, count)
    check_count("num_classes", num_classes, minimum=2)
    check_number("learning_rate", learning_rate)
    side = encoder.input_size if input_size is None else input_size
    check_count("input_size", side)
    parts = {
        name: _Prepared(
            name, part, encoder, side, num_classes, ignore, resize_masks=name == "train"
        )
        for name, part in (("train", train), ("test", test))
    }
    with evaluating(encoder.backbone) as device:
        probe = spatial_features(encoder.backbone, torch.zeros(1, 3, side, side, device=device))
    with seeded(seed):
        model = _create_head(head, probe.shape[1], num_classes).to(device)
    settings = {
        "head": head,
        "num_classes": num_classes,
        "input_size": side,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "ignore": ignore,
        "seed": seed,
        "images": len(train),
    }
    loss = _fit(model, encoder.backbone, parts["train"], settings, num_workers, checkpoint)
    return _measure(model, encoder.backbone, parts["test"], settings, num_workers, loss)


class _Prepared(Dataset[tuple[Tensor, Tensor]]):
    """Images as the encoder takes them, (3, S, S), and their masks, int64 (H, W)."""

    def __init__(
        self,
        name: str,
        data_set: DataSet,
        encoder: Encoder,
        side: int,
        num_classes: int,
        ignore: int,
        resize_masks: bool,
    ) -> None:
        self.name = name
        self.data_set = check_data_set(data_set)
        self.side = side
        self.num_classes = num_classes
        self.ignore = ignore
        self.resize_masks = resize_masks
        self.mean, self.std = (
            torch.tensor(encoder.normalize[k]).view(3, 1, 1) for k in ("mean", "std")
        )

    def __len__(self) -> int:
        return len(self.data_set)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        sample = self.data_set[index]
        if not isinstance(sample, tuple | list) or len(sample) != 2:
            raise TypeError(
                f"{self.name}: expected (image, mask), got {describe(sample)} as sample {index}"
            )
        image, given = to_rgb(sample[0]), sample[1]
        mask = self._classes(given, index)
        if mask.shape != image.size[::-1]:
            raise ValueError(
                f"{self.name}: expected a mask of its image's size, {image.size[::-1]}, got "
                f"{mask.shape} of sample {index}"
            )
        resized = image.resize((self.side, self.side), Image.Resampling.BICUBIC)
        pixels = normalized(resized, self.mean, self.std)
        if self.resize_masks:
            rows, columns = (
                (np.arange(self.side) + 0.5) * (length / self.side) for length in mask.shape
            )
            mask = mask[rows.astype(int)[:, None], columns.astype(int)]
        return pixels, torch.from_numpy(mask)

    def _classes(self, given: Any, index: int) -> np.ndarray:
        if isinstance(given, Image.Image) and len(given.getbands()) > 1:
            raise TypeError(
                f"{self.name}: expected a mask of one channel, whose values are classes, got mode "
                f"{given.mode} of sample {index}"
            )
        mask = np.asarray(given)
        whole = mask.dtype == bool or np.issubdtype(mask.dtype, np.integer)
        if mask.ndim != 2 or not whole:
            raise TypeError(
                f"{self.name}: expected a mask of integers (H, W), got {describe(given)} of sample "
                f"{index}"
            )
        mask = mask.astype(np.int64)
        values = np.unique(mask)
        unknown = values[(values != self.ignore) & ((values < 0) | (values >= self.num_classes))]
        if len(unknown):
            raise ValueError(
                f"{self.name}: expected classes from 0 to {self.num_classes - 1} and {self.ignore} "
                f"for none, got {unknown.tolist()[:5]} in the mask of sample {index}"
            )
        return mask


def _create_head(head: DenseHead, width: int, num_classes: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.BatchNorm2d(width, affine=False)]
    if head == "conv":
        layers += [
            nn.Conv2d(width, _CONV_WIDTH, 3, padding=1, bias=False),
            nn.BatchNorm2d(_CONV_WIDTH),
            nn.ReLU(),
        ]
        width = _CONV_WIDTH
    return nn.Sequential(*layers, nn.Conv2d(width, num_classes, 1))


def _fit(
    model: nn.Sequential,
    backbone: nn.Module,
    images: _Prepared,
    settings: dict[str, Any],
    num_workers: int | None,
    checkpoint: Path | None,
) -> float:
    """Train the head; the loss of the last epoch."""
    epochs, batch_size = settings["epochs"], settings["batch_size"]
    rate = settings["learning_rate"]
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    done, loss = _resume(checkpoint, parts, settings)
    with counting((epochs - done) * len(images), "Segmentation") as progress:
        for epoch in range(done, epochs):
            generator = torch.Generator().manual_seed(mix_seeds(settings["seed"], epoch))
            order = torch.randperm(len(images), generator=generator).tolist()
            loader = load(Subset(images, order), batch_size, num_workers)
            total = pixels = 0.0
            for batch, masks in loader:
                with evaluating(backbone) as device:
                    features = spatial_features(backbone, batch.to(device))
                masks = masks.to(device)
                # What inference mode made cannot be kept for a backward pass.
                logits = _resized(model(features.clone()), masks.shape[1:])
                counted = int((masks != settings["ignore"]).sum())
                error = F.cross_entropy(
                    logits, masks, ignore_index=settings["ignore"], reduction="sum"
                )
                optimizer.zero_grad()
                torch.autograd.backward(error / max(1, counted))
                optimizer.step()
                total, pixels = total + error.item(), pixels + counted
                progress(len(batch))
            schedule.step()
            loss = total / max(1, pixels)
            _save(checkpoint, parts, settings, epoch + 1, loss)
    return loss


def _measure(
    model: nn.Sequential,
    backbone: nn.Module,
    images: _Prepared,
    settings: dict[str, Any],
    num_workers: int | None,
    loss: float,
) -> SegmentationProbe:
    try:
        from torchmetrics.classification import MulticlassConfusionMatrix
    except ImportError as error:
        raise ImportError(
            'segmentation is measured by torchmetrics: pip install "star-head[evaluation]"'
        ) from error
    confusion = MulticlassConfusionMatrix(settings["num_classes"], ignore_index=settings["ignore"])
    loader = load(images, settings["batch_size"], num_workers, collate=_stack_images)
    model.eval()
    with evaluating(backbone) as device:
        for batch, masks in loader:
            maps = model(spatial_features(backbone, batch.to(device)))
            for logits, mask in zip(maps, masks, strict=True):
                found = _resized(logits[None], mask.shape).argmax(dim=1).cpu()
                confusion.update(found, mask[None])
    counts = confusion.compute().double()
    right = counts.diagonal()
    union = counts.sum(dim=0) + counts.sum(dim=1) - right
    iou = torch.where(union > 0, right / union, torch.nan)
    return SegmentationProbe(
        mean_iou=iou.nanmean().item(),
        pixel_accuracy=(right.sum() / counts.sum()).item(),
        iou=iou.tolist(),
        loss=loss,
    )


def _stack_images(samples: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, list[Tensor]]:
    images, masks = zip(*samples, strict=True)
    return torch.stack(images), list(masks)


def _resized(logits: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)


def _resume(
    checkpoint: Path | None, parts: dict[str, Any], settings: dict[str, Any]
) -> tuple[int, float]:
    """Epochs that are done, and the loss of the last."""
    if checkpoint is None or not checkpoint.exists():
        return 0, float("nan")
    saved = read_checkpoint(checkpoint)
    if saved.get("settings") != settings:
        raise ValueError(
            f"checkpoint: {checkpoint} is of a training with {saved.get('settings')}, and this has "
            f"{settings}; delete it, or name another"
        )
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    return int(saved["epoch"]), float(saved["loss"])


def _save(
    checkpoint: Path | None,
    parts: dict[str, Any],
    settings: dict[str, Any],
    epoch: int,
    loss: float,
) -> None:
    if checkpoint is None:
        return
    state = {name: part.state_dict() for name, part in parts.items()}
    with replacing(checkpoint) as place:
        torch.save({**state, "settings": settings, "epoch": epoch, "loss": loss}, place)
