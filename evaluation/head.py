"""All that is measured of one trained head."""

import itertools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset

try:
    from PIL import Image
except ImportError as error:
    raise ImportError(
        'star_head.evaluation reads images by Pillow: pip install "star-head[evaluation]"'
    ) from error

from star_head._checks import check_count, describe
from star_head.adapters._images import resize_and_center_crop
from star_head.evaluation.embeddings import embed, embed_views
from star_head.evaluation.measures import (
    equivariance,
    neighbours,
    parameters_read_off,
    redundancy,
    routing,
)
from star_head.evaluation.preparation import DataSet, check_data_set, split_sample
from star_head.evaluation.trained import Trained

QUERIES, NEIGHBOURS = 4, 5
LEAST_VIEWS, LEAST_VIEWED = 2, 5

# Side of the pictures in a report, in pixels.
_SIDE = 48


class HeadMeasures(NamedTuple):
    """What was measured of one trained head, for :func:`~star_head.evaluation.write_report`.

    Attributes:
        numbers: Plain values by name, as in report.json; ``None`` for those that the head does
            not have.
        images: How many images were embedded.
        viewed: How many of them have views.
        views: Views of each.
        seed: Seed of the images viewed, their views and the queries.
        classes: The name of each image's class; ``None`` where they have none.
        pictures: Those of the images that the report shows, uint8 (48, 48, 3), by index.
    """

    numbers: dict[str, Any]
    images: int
    viewed: int
    views: int
    seed: int
    classes: list[str] | None
    pictures: dict[int, np.ndarray]


def measure_head(
    trained: Trained,
    data_set: DataSet,
    *,
    view_images: int = 500,
    views: int = 50,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
    num_workers: int | None = None,
) -> HeadMeasures:
    """Measure redundancy, routing, equivariance, parameters read off features, and neighbours.

    Heads are comparable on the same images and with the same seed. Numbers of few images come out
    too good or too bad; docs/analysis.md says which.

    Args:
        trained: What :func:`~star_head.evaluation.open_trained` gives.
        data_set: Any map-style data set of (image, label), PIL images or uint8 tensors, that the
            network has not been trained on; labels may be left out.
        view_images: Number of images of which views are made.
        views: Views of each.
        seed: Seed of the images viewed, their views and the queries.
        class_names: A name for each class; default: the data set's ``classes``, or numbers.
        num_workers: Processes that read images and make views; default: as many as there are
            processors, at most 16, and none for a few images.

    Raises:
        TypeError: If an argument is of another kind, or images or labels are.
        ValueError: If there are too few images or views, a feature is not finite, or classes have
            no names or not different ones.
    """
    if not isinstance(trained, Trained):
        raise TypeError(
            f"trained: expected what open_trained gives, got {describe(trained)}; open_trained "
            f"opens a checkpoint, and an encoder without a head is for extract_features"
        )
    check_count("views", views, LEAST_VIEWS)
    check_count("view_images", view_images, LEAST_VIEWED)
    check_count("seed", seed, 0)
    count = len(check_data_set(data_set))
    if count <= NEIGHBOURS:
        raise ValueError(f"data_set: expected more than {NEIGHBOURS} images, got {count}")
    image, _ = split_sample(data_set[0], 0)
    prepared = isinstance(image, Tensor) and image.is_floating_point()
    takes_8_bits = getattr(trained.transform, "pixel_range", "any") is None
    if prepared and takes_8_bits:
        raise TypeError(
            f"data_set: expected PIL images or uint8 tensors, got {image.dtype}; images are "
            f"prepared as in training: open the data set without a transform of its own"
        )
    embedded = embed(trained, data_set, num_workers)
    labels = _labels(embedded.labels)
    names = _names(labels, data_set, class_names)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    chosen = order[:view_images].sort().values
    part: Any = Subset(data_set, chosen.tolist())  # type: ignore[arg-type]
    viewed = embed_views(trained, part, embedded.part(chosen), views, seed, num_workers)
    head = trained.head
    units = {parameter.label: parameter.unit for parameter in trained.transform.parameters}
    near = neighbours(embedded, head.routing, labels, draw_queries(labels, count, seed), NEIGHBOURS)
    numbers = {
        "settings": trained.settings,
        "routing": head.routing,
        "redundancy": redundancy(embedded.tasks, seed),
        "routing weights": (
            routing(embedded, viewed, list(units), labels, names)
            if head.routing == "mmoe"
            else None
        ),
        "equivariance": (
            None if head.predictor is None else equivariance(viewed, head.predictor.std)
        ),
        "parameters": parameters_read_off(viewed, units, seed),
        "neighbours": near,
    }
    shown = {*near["queries"], *itertools.chain(*itertools.chain(*near["nearest"].values()))}
    return HeadMeasures(
        numbers,
        count,
        len(chosen),
        views,
        seed,
        None if labels is None else [names[label] for label in labels.tolist()],
        {index: _picture(trained, data_set, index) for index in sorted(shown)},
    )


def draw_queries(labels: Tensor | None, count: int, seed: int) -> Tensor:
    """Indices of a few images, of different classes as far as there are."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    first: dict[int, int] = {}
    if labels is not None:
        for index in order:
            first.setdefault(int(labels[index]), index)
    chosen = list(first.values())[:QUERIES]
    others = (index for index in order if index not in chosen)
    return torch.tensor([*chosen, *itertools.islice(others, QUERIES - len(chosen))])


def _labels(labels: Tensor) -> Tensor | None:
    """``None`` unless all images have one, with a warning where some do."""
    without = int((labels < 0).sum())
    if 0 < without < len(labels):
        warnings.warn(
            f"{without} of {len(labels)} images have no label, and nothing is measured by class; "
            f"leave them out to have it",
            stacklevel=3,
        )
    return None if without else labels


def _names(
    labels: Tensor | None, data_set: DataSet, class_names: Sequence[str] | None
) -> list[str]:
    if labels is None:
        return []
    count = int(labels.max()) + 1
    if class_names is None:
        found = getattr(data_set, "classes", None)
        if not isinstance(found, list | tuple) or not found:
            return [str(label) for label in range(count)]
        # torchvision's ImageNet has several names for a class.
        class_names = [
            ", ".join(map(str, name)) if isinstance(name, list | tuple) else str(name)
            for name in found
        ]
    listed = isinstance(class_names, Sequence) and not isinstance(class_names, str | Mapping)
    if not listed or not all(isinstance(name, str) for name in class_names):
        raise TypeError(
            f"class_names: expected a list of names, that of class 0 first, got "
            f"{describe(class_names)}"
        )
    if len(class_names) < count:
        raise ValueError(
            f"class_names: expected a name for each of {count} classes, got {len(class_names)}"
        )
    names = list(class_names)[:count]
    if len(set(names)) < count:
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(
            f"class_names: expected a different name for each class, got {twice!r} more than once"
        )
    return names


def _picture(trained: Trained, data_set: DataSet, index: int) -> np.ndarray:
    image = split_sample(data_set[index], index)[0]
    to_rgb = getattr(trained.transform, "to_rgb", _shown)
    image = to_rgb(image)
    return np.array(resize_and_center_crop(image, _SIDE, Image.Resampling.BICUBIC))


def _shown(image: Any) -> Image.Image:
    """An RGB picture of what some transforms take: any channels, in any range of pixels."""
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    pixels = image[:3] if len(image) >= 3 else image[:1].expand(3, -1, -1)
    pixels = pixels.float() - pixels.min()
    pixels = pixels * (255 / pixels.max().clamp(min=1e-12))
    return Image.fromarray(pixels.byte().permute(1, 2, 0).numpy())
