"""Weighted k-nearest-neighbour classification of frozen features, as lightly's benchmark does it.

    star-head knn-eval runs/stl10_resnet18/encoder --data_dir data
    star-head knn-eval resnet18 --dataset digits --k "[1,20]"

A test image takes the class for which its k nearest training images vote, by cosine similarity s,
with the weight exp(s / temperature): the classifier of Wu et al. 2018 (InstDisc, arXiv 1805.01978),
whose k = 200 and temperature 0.1 lightly has too. Nothing is trained, so that this is the quickest
look at an encoder. The paper reports no such figures: what is comparable is one encoder to another
here, and k = 200 to what lightly's ``KNNClassifier`` gives on the same images.
"""

import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize
from tqdm import tqdm

from star_head._whole_files import write_json
from star_head.adapters._images import Color
from star_head.adapters._pixel_range import PixelRange
from star_head.evaluation.features import extract
from star_head.evaluation.networks import Encoder, open_encoder
from star_head.examples.command_line import run
from star_head.examples.data.splits import Folders
from star_head.examples.data.transfer_data import TransferData, TransferName, measure_each

# Training and test images whose similarities are computed at a time.
_TRAIN_CHUNK, _TEST_CHUNK = 16_384, 1_024
# Classes of which one is to be the right one.
_TOP = 5


class Neighbours(NamedTuple):
    """The nearest training images of each test image, from the nearest on.

    Attributes:
        similarities: Cosines, (n, k), float32.
        indices: Of the training images, (n, k).
    """

    similarities: Tensor
    indices: Tensor


def main(
    encoder: str,
    data_dir: Path | None = None,
    dataset: TransferName | Literal["all"] = "all",
    k: tuple[int, ...] = (1, 20, 200),
    temperature: float = 0.1,
    half: bool = False,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
    cache: Path = Path("runs/features"),
    output: Path = Path("runs/knn_eval.json"),
    pixel_range: PixelRange | None = None,
    background: Color | None = None,
    folders: Folders | None = None,
) -> None:
    """Print the share of test images whose class is found, and is among the five likeliest.

    Args:
        encoder: An exported folder, a checkpoint or a timm name.
        data_dir: Where each data set has its folder, ``data`` unless given; for ``folder``, a
            folder of class folders.
        dataset: Which; all that lie there unless given.
        k: How many neighbours vote; several numbers, ``"[1,20,200]"``, cost no more than the last.
        temperature: The smaller, the more the nearest outvote the others.
        half: Keep features in half precision.
        device: Where images are encoded and neighbours are found.
        cache: Folder for the features.
        output: JSON file for the results, written anew after each data set.
        pixel_range: For ``folder``, the pixel values (low, high) that become black and white in
            images of more than 8 bits.
        background: For ``folder``, the colour (red, green, blue) under transparent pixels.
        folders: For ``folder``, what the folders at its top are, where their names do not say.
    """
    if not k or min(k) < 1:
        raise ValueError(f"k: expected numbers of at least 1, got {list(k)}")
    if temperature <= 0:
        raise ValueError(f"temperature: expected more than 0, got {temperature}")
    opened = open_encoder(encoder)
    opened.backbone.to(device)
    results: dict[str, dict[str, object]] = {}
    print(f"{'':14}{'images':>17}{'k':>6}{'top-1':>8}{'top-5':>8}")
    settings = {
        "encoder": encoder,
        "data_dir": str(data_dir or "data"),
        "temperature": temperature,
        "half": half,
    }

    def add_row(name: TransferName, data: TransferData) -> None:
        found = evaluate(opened, data, k, temperature, cache=cache, half=half)
        results[name] = {"train": len(data.train), "test": len(data.test), **found}
        counts = f"{len(data.train)} -> {len(data.test)}"
        for neighbours, shares in found.items():
            columns = "".join(f"{100 * share:8.2f}" for share in shares.values())
            print(f"{name:14}{counts:>17}{neighbours.removeprefix('k='):>6}{columns}")
        write_json(output, {**settings, "datasets": results})

    if left := measure_each(
        dataset, data_dir, add_row, pixel_range=pixel_range, background=background, folders=folders
    ):
        sys.exit(f"not measured: {', '.join(left)}")


def evaluate(
    encoder: Encoder,
    data: TransferData,
    k: Sequence[int] = (1, 20, 200),
    temperature: float = 0.1,
    *,
    cache: Path = Path("runs/features"),
    half: bool = False,
) -> dict[str, dict[str, float]]:
    """Accuracies on a data set's test images for each k.

    Args:
        encoder: The encoder; neighbours are found on the device where it is.
        data: The data set; neighbours are of both its training and validation images.
        k: How many neighbours vote; more than there are training images are cut to these, with a
            warning.
        temperature: Of the weights.
        cache: Folder for the features.
        half: Keep features in half precision.

    Returns:
        ``{"k=1": {"top-1": ..., "top-5": ...}, ...}``, without top-5 for five classes or fewer.

    Raises:
        ValueError: If all training images have the same features.
    """
    train, test = (
        extract(encoder, images, cache=cache, half=half) for images in (data.train, data.test)
    )
    if max(k) > len(train.features):
        warnings.warn(
            f"k: {max(k)} is cut to the {len(train.features)} training images", stacklevel=2
        )
    counts = sorted({min(count, len(train.features)) for count in k})
    device = next(encoder.backbone.parameters()).device
    nearest = find_neighbours(train.features, test.features, counts[-1], device)
    votes = torch.from_numpy(train.labels).to(device)[nearest.indices]  # (n, k)
    truth = torch.from_numpy(test.labels).to(device)
    tops = (1, _TOP) if data.num_classes > _TOP else (1,)
    results = {}
    for count in counts:
        ranks = rank_truth(
            nearest.similarities[:, :count], votes[:, :count], truth, data.num_classes, temperature
        )
        results[f"k={count}"] = {f"top-{t}": (ranks < t).double().mean().item() for t in tops}
    return results


def find_neighbours(
    train: np.ndarray, test: np.ndarray, k: int, device: torch.device
) -> Neighbours:
    """Find the nearest training images of each test image by the cosine of their features.

    Works on a part of both at a time, so that neither needs to fit into memory.

    Args:
        train: (N, D), N at least k.
        test: (n, D).
        k: How many.
        device: Where similarities are computed, in float32.

    Raises:
        ValueError: If all training images have the same features.
    """
    if not any((part != train[0]).any() for _, part in _parts(train, _TRAIN_CHUNK)):
        raise ValueError(f"encoder: all {len(train)} training images have the same features")
    nearest = Neighbours(
        torch.full((len(test), k), -torch.inf, device=device),
        torch.zeros((len(test), k), dtype=torch.long, device=device),
    )
    with tqdm(total=len(train), desc="Neighbours", unit="img", delay=2, mininterval=1) as progress:
        for start, part in _parts(train, _TRAIN_CHUNK):
            bank = _normalized(part, device)
            for row, queries in _parts(test, _TEST_CHUNK):
                rows = slice(row, row + len(queries))
                found = (_normalized(queries, device) @ bank.T).topk(min(k, len(bank)))
                similarities = torch.cat([nearest.similarities[rows], found.values], dim=1)
                indices = torch.cat([nearest.indices[rows], found.indices + start], dim=1)
                nearest.similarities[rows], order = similarities.topk(k)
                nearest.indices[rows] = indices.gather(1, order)
            progress.update(len(part))
    return nearest


def rank_truth(
    similarities: Tensor, votes: Tensor, truth: Tensor, num_classes: int, temperature: float
) -> Tensor:
    """How many classes the neighbours put before the right one, (n,).

    A class for which none votes comes after all others, so that with one neighbour the right class
    is first or nowhere; lightly fills up with classes at hazard. Of equal classes, the one with the
    lower label is first.

    Args:
        similarities: Of each image's neighbours, (n, k).
        votes: Their classes, (n, k).
        truth: Each image's class, (n,).
        num_classes: Classes are below it.
        temperature: Neighbours have the weight exp(similarity / temperature).

    Returns:
        Ranks from 0; ``num_classes`` where none votes for the right class.
    """
    classes = torch.arange(num_classes, device=votes.device)
    ranks = []
    for start in range(0, len(votes), _TEST_CHUNK):
        rows = slice(start, start + _TEST_CHUNK)
        s = similarities[rows].double()
        # In each row, weights relative to the largest: the order is the same, and none overflows.
        weights = ((s - s.amax(dim=1, keepdim=True)) / temperature).exp()
        scores = weights.new_zeros(len(weights), num_classes).scatter_add_(1, votes[rows], weights)
        right = truth[rows].unsqueeze(1)
        score = scores.gather(1, right)
        before = (scores > score) | ((scores == score) & (classes < right))
        ranks.append(torch.where(score.squeeze(1) > 0, before.sum(dim=1), num_classes))
    return torch.cat(ranks)


def _parts(features: np.ndarray, size: int) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(features), size):
        yield start, features[start : start + size]


def _normalized(features: np.ndarray, device: torch.device) -> Tensor:
    return normalize(torch.from_numpy(np.array(features)).to(device).float())


if __name__ == "__main__":
    run(main)
