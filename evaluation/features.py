"""Features of images, extracted once and, where asked for, kept in a memory-mapped file."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from star_head._checks import check_count, check_folder, check_pooled, describe
from star_head._devices import to_device
from star_head._whole_files import replacing
from star_head.evaluation._labelled import Features as Features
from star_head.evaluation._progress import counting
from star_head.evaluation.preparation import (
    DataSet,
    Encoder,
    EvaluationTransform,
    Prepared,
    Transform,
    evaluating,
    load,
    stack,
)

# Raised whenever the same encoder and images would give other features.
_FORMAT = 2


def extract_features(
    encoder: nn.Module | Encoder,
    data_set: DataSet,
    *,
    transform: Transform | None = None,
    cache: Path | str | None = None,
    batch_size: int = 256,
    num_workers: int | None = None,
    half: bool = False,
) -> Features:
    """Compute the features of a data set's images, or open what was computed before.

    What is found in a cache is used only for the very same weights, images and preparation. It
    is written whole or not at all, and can be deleted at any time. A data set with a method
    ``fingerprint()`` and the array ``labels`` says itself whether its images are the same; another
    is read once for that, without the encoder.

    Args:
        encoder: From images to features (B, D); any module, or what
            :func:`~star_head.evaluation.open_encoder` gives, which also says how images are
            prepared. Used in evaluation mode, and on the device where it is.
        data_set: Any map-style data set of (image, label), a list among them. A module takes
            images as they come, as tensors of one size; an :class:`Encoder` PIL images or uint8
            tensors, which are resized, cropped and normalised as it was trained.
        transform: Prepares the data set's images instead.
        cache: Folder for the features (default: none is kept).
        batch_size: Images at a time.
        num_workers: Processes that read images; default: as many as there are processors, at most
            16, and none for a few images.
        half: Keep float16, which halves the file: 4 GB for a million of width 2,048.

    Raises:
        TypeError: If an argument is of another kind, or images or labels are.
        ValueError: If there are no images, they differ in size, the encoder does not pool, or a
            feature is not finite or too large for half precision; it names the image's index.
        OSError: If the disk has no room, or the cache is no folder.

    Example:
        >>> data_set = [(torch.rand(3, 8, 8), label) for label in (0, 1, 1)]
        >>> extract_features(nn.Flatten(), data_set).features.shape
        (3, 192)
    """
    check_count("batch_size", batch_size)
    if transform is not None and not callable(transform):
        raise TypeError(
            f"transform: expected a function from an image to a tensor, got {describe(transform)}"
        )
    module, images = _prepare(encoder, data_set, transform)
    dtype = np.float16 if half else np.float32
    if cache is None:
        parts, labels = zip(*_compute(module, images, batch_size, num_workers, dtype), strict=True)
        return Features(np.concatenate(parts), np.concatenate(labels))
    cache = check_folder("cache", cache)
    cache.mkdir(parents=True, exist_ok=True)
    known = _known_images(encoder, data_set, transform)
    if known is None:
        known = _read_through(images, batch_size, num_workers)
    labels, fingerprint = known
    path = cache / f"{_digest(encoder, module, images, fingerprint, half)}.npy"
    if not path.exists():
        _write(path, module, images, batch_size, num_workers, dtype)
    return Features(np.load(path, mmap_mode="r", allow_pickle=False), labels)


def _prepare(
    encoder: Any, data_set: DataSet, transform: Transform | None
) -> tuple[nn.Module, Prepared]:
    """The module, and the images as it takes them."""
    if isinstance(encoder, nn.Module):
        return encoder, Prepared(data_set, transform)
    if not isinstance(encoder, Encoder):
        remedy = ""
        if isinstance(encoder, str | os.PathLike):
            remedy = f"; open_encoder({str(encoder)!r}) opens it"
        elif isinstance(encoder, type):
            remedy = f"; give an instance, such as {encoder.__name__}()"
        elif isinstance(getattr(encoder, "backbone", None), nn.Module):
            remedy = "; pass its .backbone"
        raise TypeError(
            f"encoder: expected a module or what open_encoder gives, got {describe(encoder)}"
            f"{remedy}"
        )
    own = EvaluationTransform(encoder.input_size, encoder.normalize)
    return encoder.backbone, Prepared(data_set, own if transform is None else transform)


def _compute(
    module: nn.Module,
    images: Prepared,
    batch_size: int,
    num_workers: int | None,
    dtype: type[np.floating[Any]],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Features (b, D) and labels (b,) of one batch after another."""
    done = 0
    with evaluating(module) as device, counting(len(images), "Features") as progress:
        loader = load(
            images, batch_size, num_workers, collate=stack, pin_memory=device.type == "cuda"
        )
        for batch, labels in loader:
            rows = _rows(module, batch, device)
            if len(rows) != len(labels):
                raise ValueError(
                    f"encoder: expected a row for each of {len(labels)} images, got {len(rows)}"
                )
            if not np.isfinite(rows).all():
                bad = done + int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
                raise ValueError(f"encoder: the features of image {bad} are not finite")
            largest = np.abs(rows).max()
            if largest > np.finfo(dtype).max:
                raise ValueError(
                    f"half: features of up to {largest:.3g} do not fit into half precision; "
                    f"keep them in single"
                )
            yield rows.astype(dtype), labels.numpy()
            done += len(rows)
            progress(len(rows))


def _rows(module: nn.Module, batch: Tensor, device: torch.device) -> np.ndarray:
    """The features of one batch, (b, D), on the CPU, in the order that is written."""
    weights = next((p for p in module.parameters() if p.is_floating_point()), None)
    pixels = batch if weights is None else batch.to(weights.dtype)
    features = check_pooled("encoder", module(to_device(pixels, device)))
    return np.ascontiguousarray(features.float().cpu().numpy())


def _write(
    path: Path,
    module: nn.Module,
    images: Prepared,
    batch_size: int,
    num_workers: int | None,
    dtype: type[np.floating[Any]],
) -> None:
    # Not memory-mapped: there, a disk that fills up kills the process without a word.
    with replacing(path, several=True) as scratch, open(scratch, "wb") as file:
        for i, (features, _) in enumerate(_compute(module, images, batch_size, num_workers, dtype)):
            if i == 0:
                header = np.lib.format.header_data_from_array_1_0(features)
                shape = (len(images), features.shape[1])
                np.lib.format.write_array_header_1_0(file, header | {"shape": shape})
            file.write(features.data)


def _known_images(
    encoder: nn.Module | Encoder, data_set: Any, transform: Transform | None
) -> tuple[np.ndarray, str] | None:
    """Labels, and what differs where images do, of a data set that says so; else ``None``.

    It does not say how a transform prepares them.
    """
    own_way = isinstance(encoder, Encoder) and transform is None
    if not own_way or getattr(data_set, "transform", None) is not None:
        return None
    if not hasattr(data_set, "fingerprint") or not hasattr(data_set, "labels"):
        return None
    return np.asarray(data_set.labels), data_set.fingerprint()


def _read_through(
    images: Prepared, batch_size: int, num_workers: int | None
) -> tuple[np.ndarray, str]:
    """Labels, and a digest of all images as the encoder is given them."""
    if not torch.equal(images[0][0], images[0][0]):
        raise ValueError(
            "cache: data_set gives its first image differently each time; only features of images "
            "without random changes can be kept"
        )
    digest = hashlib.sha256()
    labels = []
    with counting(len(images), "Images") as progress:
        for batch, of_batch in load(images, batch_size, num_workers, collate=stack):
            digest.update(f"{batch.dtype} {tuple(batch.shape[1:])}".encode())
            digest.update(batch.contiguous().view(torch.uint8).numpy().data)
            labels.append(of_batch.numpy())
            progress(len(batch))
    return np.concatenate(labels), digest.hexdigest()


def _digest(
    encoder: nn.Module | Encoder, module: nn.Module, images: Prepared, fingerprint: str, half: bool
) -> str:
    """A name for these features of these images."""
    digest = hashlib.sha256()
    settings: list[Any] = [_FORMAT, str(module), half]
    if isinstance(encoder, Encoder):
        settings += [encoder.input_size, encoder.normalize]
        shape = (2, 3, encoder.input_size, encoder.input_size)
        probe = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    else:
        probe = torch.stack([images[0][0], images[len(images) - 1][0]])
    digest.update(json.dumps(settings).encode())
    # In the features shows what neither weights nor layers' names say: a method that pools
    # otherwise, a hook, a stride set by hand.
    with evaluating(module) as device:
        digest.update(_rows(module, probe, device).tobytes())
    for name, tensor in sorted(module.state_dict().items()):
        if isinstance(tensor, Tensor):  # not a module's extra state
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(
                tensor.detach().cpu().flatten().contiguous().view(torch.uint8).numpy().data
            )
    digest.update(fingerprint.encode())
    return digest.hexdigest()
