"""Linear evaluation of frozen features by the paper's protocol (arXiv 2510.27222)."""

import warnings
from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from star_head.evaluation._labelled import (
    Features,
    Joined,
    Labelled,
    check_features,
    check_widths,
    count_classes,
    device_of,
)
from star_head.evaluation.logistic import STRENGTHS, fit_path, predict

Metric = Literal["top-1", "mean per class"]


class LinearProbe(NamedTuple):
    """What linear evaluation gives.

    Attributes:
        test: Accuracy on the test images, of the classifier fitted on training and validation
            images with the strength chosen.
        strength: The L2 penalty chosen: of those best on the validation images, the strongest.
        validation: Accuracy on the validation images with it, fitted on the training images.
        converged: Whether all strengths and the last fit were solved within the tolerance.
        by_strength: Accuracy on the validation images with each of the 45 strengths.
        convergence: What the solver says of the path, and of the last fit.
        others: Accuracy of the same classifier on further images, by their name.
    """

    test: float
    strength: float
    validation: float
    converged: bool
    by_strength: dict[float, float]
    convergence: tuple[str, str]
    others: dict[str, float]


def linear_probe(
    train: Labelled,
    validation: Labelled,
    test: Labelled,
    *,
    metric: Metric = "top-1",
    device: torch.device | str | None = None,
    others: Mapping[str, Labelled] | None = None,
) -> LinearProbe:
    """Choose the penalty on validation images, fit these too, and measure once on test images.

    Multinomial logistic regression with an L2 penalty of each of 45 strengths, log-spaced from
    1e-6 to 1e5, as the paper has it; ``star_head.evaluation.logistic.fit_path`` has the objective.

    Args:
        train: Features (n, D) and their classes (n,) as a pair of arrays or tensors, or what
            :func:`~star_head.evaluation.extract_features` gives. Each class from 0 on is there.
        validation: The same for the images that the penalty is chosen by.
        test: The same for the images to measure on.
        metric: The share of right predictions, or the mean of each class's share, for which
            classes without images are left out with a warning.
        device: Where regressions are solved; default: where the training features are.
        others: Further images to measure the classifier on, such as test images made worse; nothing
            is chosen by them.

    Raises:
        TypeError: If features are not of floating point, or classes are not integers.
        ValueError: If shapes or widths do not fit, a feature is not finite, or classes do not
            correspond.

    Example:
        >>> x = torch.randn(90, 5)
        >>> y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
        >>> probe = linear_probe((x[:40], y[:40]), (x[40:60], y[40:60]), (x[60:], y[60:]))
        >>> 0 <= probe.test <= 1 and len(probe.by_strength) == 45
        True
    """
    if metric not in get_args(Metric):
        raise ValueError(f"metric: expected one of {get_args(Metric)}, got {metric!r}")
    device = device_of(train) if device is None else device
    train, validation, test = (
        check_features(name, part)
        for name, part in (("train", train), ("validation", validation), ("test", test))
    )
    further = {
        name: check_features(f"others[{name!r}]", part) for name, part in (others or {}).items()
    }
    named = {f"others[{name!r}]": part for name, part in further.items()}
    check_widths(train=train, validation=validation, test=test, **named)
    classes = count_classes(train, validation=validation, test=test, **named)
    path = fit_path(train.features, train.labels, STRENGTHS, num_classes=classes, device=device)
    predicted = predict(path.weights, validation.features).cpu()
    found = accuracies(predicted, validation.labels, classes, metric).tolist()
    best = max(range(len(STRENGTHS)), key=lambda k: (found[k], STRENGTHS[k]))
    last = fit_path(
        Joined(train.features, validation.features),
        np.concatenate([train.labels, validation.labels]),
        [STRENGTHS[best]],
        num_classes=classes,
        initial=path.weights[best],
        device=device,
    )

    def measured(part: Features) -> float:
        predicted = predict(last.weights, part.features).cpu()
        return accuracies(predicted, part.labels, classes, metric).item()

    return LinearProbe(
        test=measured(test),
        strength=STRENGTHS[best],
        validation=found[best],
        converged=bool(path.converged.all() and last.converged.all()),
        by_strength=dict(zip(STRENGTHS, found, strict=True)),
        convergence=(path.summary(), last.summary()),
        others={name: measured(part) for name, part in further.items()},
    )


def accuracies(predicted: Tensor, labels: np.ndarray, num_classes: int, metric: Metric) -> Tensor:
    """Shares of right predictions, (K,), float64.

    Equal to scikit-learn's ``accuracy_score`` and ``balanced_accuracy_score``, for all K at once;
    the solvers need torch and NumPy only.

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
            stacklevel=3,
        )
    shares = right.new_zeros(len(right), num_classes).index_add_(1, truth, right) / counts
    return shares[:, counts > 0].mean(dim=1)
