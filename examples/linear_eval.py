"""Linear evaluation of frozen features: the paper's protocol, on every data set that is on disk.

    star-head linear-eval runs/stl10_resnet18/encoder --data_dir data
    star-head linear-eval resnet18 --dataset digits
    star-head linear-eval ENCODER --data_dir data --label_share 0.01,0.1    # few labels
    star-head linear-eval ENCODER --dataset digits --corruptions true       # bad images

Multinomial logistic regression with 45 penalties on the training part; the one with the best
accuracy on the validation part is fitted again on both parts, and measured once on the test images.
Where all of the paper's eleven data sets are there, their mean is comparable to the "mean of 11"
of arXiv 2510.27222, as each accuracy is to the paper's on that data set, given its pretraining.
"""

import sys
from pathlib import Path
from typing import Literal

import torch

from star_head._whole_files import write_json
from star_head.adapters._images import Color
from star_head.adapters._pixel_range import PixelRange
from star_head.evaluation import (
    Corrupted,
    Encoder,
    Features,
    LinearProbe,
    extract_features,
    label_part,
    linear_probe,
    open_encoder,
)
from star_head.evaluation.corruptions import CORRUPTIONS, SEVERITIES
from star_head.evaluation.preparation import DataSet
from star_head.examples.command_line import print_next, run
from star_head.examples.data.available import measure_each
from star_head.examples.data.class_names import class_names
from star_head.examples.data.corrupted_folders import find_corrupted
from star_head.examples.data.image_folder import folder_that_is_there
from star_head.examples.data.splits import Folders
from star_head.examples.data.transfer_data import TransferData, TransferName

PAPER: tuple[TransferName, ...] = (
    "cifar10",
    "cifar100",
    "food101",
    "mit67",
    "pets",
    "flowers102",
    "caltech101",
    "cars",
    "aircraft",
    "dtd",
    "sun397",
)


def main(
    encoder: str,
    data_dir: Path | None = None,
    dataset: TransferName | Literal["all"] = "all",
    half: bool = False,
    label_share: list[float] | None = None,
    corruptions: bool = False,
    corrupted_dir: Path | None = None,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
    cache: Path = Path("runs/features"),
    output: Path = Path("runs/linear_eval.json"),
    pixel_range: PixelRange | None = None,
    background: Color | None = None,
    folders: Folders | None = None,
) -> None:
    """Print each data set's accuracy and their mean.

    Args:
        encoder: An exported folder, a checkpoint or a timm name.
        data_dir: Where each data set has its folder, default ``data``; for ``folder``, a folder of
            class folders.
        dataset: Data set (default: all found under ``--data_dir``).
        half: Keep features in half precision.
        label_share: Shares of each class's training and validation labels to fit with, all unless
            given: the same images for every encoder.
        corruptions: Measure the classifier on test images made worse, too: noise, blur, contrast,
            brightness, JPEG and pixelation at five severities. Not ImageNet-C.
        corrupted_dir: Measure it on KIND/SEVERITY/CLASS/images in this folder, too, as ImageNet-C
            unpacks; for ``imagenet100`` and ``folder``.
        device: Where images are encoded and the regressions are solved.
        cache: Folder for the features.
        output: JSON file for the results, written anew after each data set.
        pixel_range: For ``folder``, the pixel values (low, high) that become black and white in
            images of more than 8 bits.
        background: For ``folder``, the colour (red, green, blue) under transparent pixels.
        folders: For ``folder``, what the folders at its top are, where their names do not say.
    """
    shares = [1.0] if label_share is None else label_share
    if not shares:
        raise ValueError("label_share: expected shares such as 0.01,0.1, got none")
    if data_dir is not None:  # before weights are fetched
        folder_that_is_there(data_dir)
    opened = open_encoder(encoder)
    opened.backbone.to(device)
    settings = {"encoder": encoder, "data_dir": str(data_dir or "data"), "half": half}
    # By share of the labels, then by data set.
    results: dict[float, dict[str, dict[str, object]]] = {share: {} for share in shares}
    accuracies: dict[float, dict[TransferName, float]] = {share: {} for share in shares}
    header = f"{'':14}{'images':>17}  {'metric':14}{'strength':>10}{'validation':>12}{'test':>8}"
    print(header)

    def add_rows(name: TransferName, data: TransferData) -> None:
        extracted = extract(opened, data, cache=cache, half=half)
        worse = corrupted_images(name, data, data_dir, corruptions, corrupted_dir, folders)
        others = {
            f"{kind} {severity}": extract_features(opened, images, cache=cache, half=half)
            for (kind, severity), images in worse.items()
        }
        parts = {share: with_few_labels(*extracted, share=share) for share in shares}
        for share, (train, validation, test) in parts.items():
            found = linear_probe(
                train,
                validation,
                test,
                metric=data.metric,
                device=torch.device(device),
                others=others,
            )
            accuracies[share][name] = found.test
            results[share][name] = {
                "train": len(train.labels),
                "validation": len(validation.labels),
                "test": len(test.labels),
                "metric": data.metric,
                "strength": found.strength,
                "accuracy": found.test,
                "validation accuracies": found.by_strength,
                "convergence": found.convergence,
            }
            counts = f"{len(train.labels) + len(validation.labels)} -> {len(test.labels)}"
            percent = f"{100 * found.validation:12.2f}{100 * found.test:8.2f}"
            print(f"{name:14}{counts:>17}  {data.metric:14}{found.strength:10.1e}{percent}")
            print(f"    path: {found.convergence[0]}\n    last: {found.convergence[1]}")
            if worse:
                table = by_kind(found.others, worse)
                results[share][name]["corrupted"] = table
                print_corrupted(table)
            write_json(output, {**settings, **written(results, accuracies)})

    left = measure_each(
        dataset, data_dir, add_rows, pixel_range=pixel_range, background=background, folders=folders
    )
    for share in shares:
        with_labels = "" if label_share is None else f", {100 * share:g}% of the labels"
        for of, mean in means(accuracies[share]).items():
            print(f"mean of {of}{with_labels}: {100 * mean:.2f}")
    print_next(
        few_labels_per_class=f"star-head few-shot {encoder} FOLDER",
        all_weights_trained=f"star-head finetune {encoder} --dataset folder --data_dir FOLDER",
    )
    if left:
        sys.exit(f"not measured: {', '.join(left)}")


def means(accuracies: dict[TransferName, float]) -> dict[str, float]:
    """The mean accuracy, and that over the paper's eleven data sets where all are there."""
    if not accuracies:
        return {}
    found = {f"{len(accuracies)} here": sum(accuracies.values()) / len(accuracies)}
    if accuracies.keys() >= set(PAPER):
        found["the paper's 11"] = sum(accuracies[name] for name in PAPER) / len(PAPER)
    return found


def written(
    results: dict[float, dict[str, dict[str, object]]],
    accuracies: dict[float, dict[TransferName, float]],
) -> dict[str, object]:
    """What the JSON file says: of all labels at its top, of each share of them beneath it."""
    found: dict[float, dict[str, object]] = {
        share: {"datasets": results[share], "mean": means(accuracies[share])} for share in results
    }
    if found.keys() == {1.0}:
        return found[1.0]
    return {"label shares": {f"{share:g}": part for share, part in found.items()}}


def corrupted_images(
    name: TransferName,
    data: TransferData,
    data_dir: Path | None,
    corruptions: bool,
    corrupted_dir: Path | None,
    folders: Folders | None,
) -> dict[tuple[str, int], DataSet]:
    """Test images made worse, and those in a folder, by kind and severity."""
    found: dict[tuple[str, int], DataSet] = {}
    if corruptions:
        for kind in CORRUPTIONS:
            for severity in SEVERITIES:
                found[kind, severity] = Corrupted(data.test, kind, severity)
    if corrupted_dir is not None:
        if name not in ("imagenet100", "folder"):
            raise ValueError(
                f"corrupted_dir: expected none with {name!r}, whose classes are no folders; "
                f"imagenet100 and folder take one"
            )
        names = class_names(name, data_dir, data.num_classes, folders)
        found |= find_corrupted(corrupted_dir, names)
    return found


def by_kind(
    accuracies: dict[str, float], worse: dict[tuple[str, int], DataSet]
) -> dict[str, dict[str, float] | float]:
    """Accuracies of each kind by severity, their mean, and the mean over the kinds."""
    table: dict[str, dict[str, float]] = {}
    for kind, severity in worse:
        table.setdefault(kind, {})[str(severity)] = accuracies[f"{kind} {severity}"]
    means = {kind: sum(row.values()) / len(row) for kind, row in table.items()}
    rows = {kind: {**row, "mean": means[kind]} for kind, row in table.items()}
    return {**rows, "mean": sum(means.values()) / len(means)}


def print_corrupted(table: dict[str, dict[str, float] | float]) -> None:
    """One row for each kind."""
    for kind, row in table.items():
        cells = row.values() if isinstance(row, dict) else [row]
        print(f"    {kind:17}" + "".join(f"{100 * cell:8.2f}" for cell in cells))


def evaluate(
    encoder: Encoder,
    data: TransferData,
    *,
    cache: Path = Path("runs/features"),
    half: bool = False,
    num_workers: int | None = None,
) -> LinearProbe:
    """Linear evaluation on a data set's own validation part, where the encoder is."""
    parts = extract(encoder, data, cache=cache, half=half, num_workers=num_workers)
    device = next(encoder.backbone.parameters()).device
    return linear_probe(*parts, metric=data.metric, device=device)


def extract(
    encoder: Encoder,
    data: TransferData,
    *,
    cache: Path | None = Path("runs/features"),
    half: bool = False,
    num_workers: int | None = None,
) -> tuple[Features, Features, Features]:
    """Features of a data set's training, validation and test images, where the encoder is."""
    both, test = (
        extract_features(encoder, images, cache=cache, half=half, num_workers=num_workers)
        for images in (data.train, data.test)
    )
    count = data.train_count
    train = Features(both.features[:count], both.labels[:count])
    return train, Features(both.features[count:], both.labels[count:]), test


def with_few_labels(
    train: Features, validation: Features, test: Features, share: float
) -> tuple[Features, Features, Features]:
    """The parts with a share of the labels to fit with; all images to measure on."""
    if share == 1:
        return train, validation, test
    return _part("training", train, share), _part("validation", validation, share), test


def _part(name: str, given: Features, share: float) -> Features:
    try:
        kept = label_part(given.labels, share)
    except ValueError as error:
        raise ValueError(f"label_{error}, among the {name} images") from error
    return Features(given.features[kept], given.labels[kept])


if __name__ == "__main__":
    run(main)
