"""Weighted k-nearest-neighbour classification of frozen features, as lightly's benchmark does it.

    star-head knn-eval runs/stl10_resnet18/encoder --data_dir data
    star-head knn-eval resnet18 --dataset digits --k 1,20

A test image takes the class for which its k nearest training images vote, by cosine similarity s,
with the weight exp(s / temperature): the classifier of Wu et al. 2018 (InstDisc, arXiv 1805.01978),
whose k = 200 and temperature 0.1 lightly has too. Nothing is trained, so that this is the quickest
look at an encoder. The paper reports no such figures: what is comparable is one encoder to another
here, and k = 200 to what lightly's ``KNNClassifier`` gives on the same images.
"""

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from star_head._whole_files import write_json
from star_head.adapters._images import Color
from star_head.adapters._pixel_range import PixelRange
from star_head.evaluation import Encoder, extract_features, open_encoder
from star_head.evaluation.nearest import vote_of_each
from star_head.examples.command_line import print_next, run
from star_head.examples.data.available import measure_each
from star_head.examples.data.image_folder import folder_that_is_there
from star_head.examples.data.splits import Folders
from star_head.examples.data.transfer_data import TransferData, TransferName


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
        data_dir: Where each data set has its folder, default ``data``; for ``folder``, a folder of
            class folders.
        dataset: Data set (default: all found under ``--data_dir``).
        k: How many neighbours vote; several numbers, ``1,20,200``, cost no more than the last.
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
    if data_dir is not None:  # before weights are fetched
        folder_that_is_there(data_dir)
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

    left = measure_each(
        dataset, data_dir, add_row, pixel_range=pixel_range, background=background, folders=folders
    )
    print_next(the_papers_protocol=f"star-head linear-eval {encoder} --data_dir DATA")
    if left:
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
        temperature: Temperature of the weights.
        cache: Folder for the features.
        half: Keep features in half precision.

    Returns:
        ``{"k=1": {"top-1": ..., "top-5": ...}, ...}``, without top-5 for five classes or fewer.

    Raises:
        ValueError: If all training images have the same features.
    """
    train, test = (
        extract_features(encoder, images, cache=cache, half=half)
        for images in (data.train, data.test)
    )
    count = len(train.features)
    if max(k) > count:
        warnings.warn(f"k: {max(k)} is cut to the {count} training images", stacklevel=2)
    found = vote_of_each(
        train,
        test,
        sorted({min(neighbours, count) for neighbours in k}),
        temperature=temperature,
        device=next(encoder.backbone.parameters()).device,
    )
    return {
        f"k={neighbours}": {"top-1": of.top1} | ({} if of.top5 is None else {"top-5": of.top5})
        for neighbours, of in found.items()
    }


if __name__ == "__main__":
    run(main)
