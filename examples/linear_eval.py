"""Linear evaluation of frozen features: the paper's protocol, on every data set that is on disk.

    star-head linear-eval runs/stl10_resnet18/encoder --data_dir data
    star-head linear-eval resnet18 --dataset digits

Multinomial logistic regression with 45 penalties on the training part; the one with the best
accuracy on the validation part is fitted again on both parts, and measured once on the test images.
Where all of the paper's eleven data sets are there, their mean is comparable to the "mean of 11"
of arXiv 2510.27222, as each accuracy is to the paper's on that data set, given its pretraining.
"""

import sys
import warnings
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from star_head._whole_files import write_json
from star_head.adapters._images import Color
from star_head.adapters._pixel_range import PixelRange
from star_head.evaluation.features import extract
from star_head.evaluation.logistic import STRENGTHS, fit_path, predict
from star_head.evaluation.networks import Encoder, open_encoder
from star_head.examples.command_line import run
from star_head.examples.data.splits import Folders
from star_head.examples.data.transfer_data import Metric, TransferData, TransferName, measure_each

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


class Found(NamedTuple):
    """What linear evaluation on one data set gives.

    Attributes:
        strength: The penalty chosen.
        validation: Accuracy on the validation part with each of ``STRENGTHS``, (45,).
        test: Accuracy on the test images after fitting both parts.
        convergence: What the solver says of the path, and of the last fit.
    """

    strength: float
    validation: list[float]
    test: float
    convergence: tuple[str, str]


def main(
    encoder: str,
    data_dir: Path | None = None,
    dataset: TransferName | Literal["all"] = "all",
    half: bool = False,
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
        data_dir: Where each data set has its folder, ``data`` unless given; for ``folder``, a
            folder of class folders.
        dataset: Which; all that lie there unless given.
        half: Keep features in half precision.
        device: Where images are encoded and the regressions are solved.
        cache: Folder for the features.
        output: JSON file for the results, written anew after each data set.
        pixel_range: For ``folder``, the pixel values (low, high) that become black and white in
            images of more than 8 bits.
        background: For ``folder``, the colour (red, green, blue) under transparent pixels.
        folders: For ``folder``, what the folders at its top are, where their names do not say.
    """
    opened = open_encoder(encoder)
    opened.backbone.to(device)
    settings = {"encoder": encoder, "data_dir": str(data_dir or "data"), "half": half}
    results: dict[str, dict[str, object]] = {}
    accuracies: dict[TransferName, float] = {}
    header = f"{'':14}{'images':>17}  {'metric':14}{'strength':>10}{'validation':>12}{'test':>8}"
    print(header)

    def add_row(name: TransferName, data: TransferData) -> None:
        found = evaluate(opened, data, cache=cache, half=half)
        accuracies[name] = found.test
        results[name] = {
            "train": data.train_count,
            "validation": len(data.train) - data.train_count,
            "test": len(data.test),
            "metric": data.metric,
            "strength": found.strength,
            "accuracy": found.test,
            "validation accuracies": dict(zip(STRENGTHS, found.validation, strict=True)),
            "convergence": found.convergence,
        }
        counts = f"{len(data.train)} -> {len(data.test)}"
        shares = f"{100 * max(found.validation):12.2f}{100 * found.test:8.2f}"
        print(f"{name:14}{counts:>17}  {data.metric:14}{found.strength:10.1e}{shares}")
        print(f"    path: {found.convergence[0]}\n    last: {found.convergence[1]}")
        write_json(output, {**settings, "datasets": results, "mean": means(accuracies)})

    left = measure_each(
        dataset, data_dir, add_row, pixel_range=pixel_range, background=background, folders=folders
    )
    for of, mean in means(accuracies).items():
        print(f"mean of {of}: {100 * mean:.2f}")
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


def evaluate(
    encoder: Encoder,
    data: TransferData,
    *,
    cache: Path = Path("runs/features"),
    half: bool = False,
    num_workers: int | None = None,
) -> Found:
    """Choose the penalty on the validation part, fit both parts, and measure on the test images.

    Of equally good penalties the strongest is chosen.

    Args:
        encoder: The encoder; regressions are solved on the device where it is.
        data: The data set.
        cache: Folder for the features.
        half: Keep features in half precision.
        num_workers: Processes that read images; as :func:`features.extract` unless given.

    Raises:
        ValueError: If features are not finite, or the same for all training images.
    """
    train, test = (
        extract(encoder, images, cache=cache, half=half, num_workers=num_workers)
        for images in (data.train, data.test)
    )
    device = next(encoder.backbone.parameters()).device
    count, classes = data.train_count, data.num_classes
    path = fit_path(
        train.features[:count], train.labels[:count], STRENGTHS, num_classes=classes, device=device
    )
    predicted = predict(path.weights, train.features[count:]).cpu()
    validation = measure(predicted, train.labels[count:], classes, data.metric).tolist()
    best = max(range(len(STRENGTHS)), key=lambda k: (validation[k], STRENGTHS[k]))
    last = fit_path(
        train.features,
        train.labels,
        [STRENGTHS[best]],
        num_classes=classes,
        initial=path.weights[best],
        device=device,
    )
    predicted = predict(last.weights, test.features).cpu()
    (accuracy,) = measure(predicted, test.labels, classes, data.metric)
    convergence = (path.summary(), last.summary())
    return Found(STRENGTHS[best], validation, accuracy.item(), convergence)


def measure(predicted: Tensor, labels: np.ndarray, num_classes: int, metric: Metric) -> Tensor:
    """Shares of right predictions, (K,), float64.

    Args:
        predicted: Classes, (K, n).
        labels: The right ones, (n,).
        num_classes: Labels are below it.
        metric: ``"mean per class"`` leaves out classes without images, with a warning.
    """
    truth = torch.from_numpy(labels.astype(np.int64))
    right = (predicted == truth).double()
    if metric == "top-1":
        return right.mean(dim=1)
    counts = truth.bincount(minlength=num_classes)
    if not counts.all():
        warnings.warn(
            f"{int((counts == 0).sum())} of {num_classes} classes have none of the {len(labels)} "
            f"images to measure on, {int(counts.argmin())} among them; the mean is over the others",
            stacklevel=2,
        )
    shares = right.new_zeros(len(right), num_classes).index_add_(1, truth, right) / counts
    return shares[:, counts > 0].mean(dim=1)


if __name__ == "__main__":
    run(main)
