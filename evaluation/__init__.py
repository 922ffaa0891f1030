"""Encoders and trained heads measured: features, accuracies, and a page on a head.

An encoder is measured on any data set of (image, label) by its frozen features::

    train, validation, test = (extract_features(encoder, part) for part in data_sets)
    linear_probe(train, validation, test)
    nearest_neighbours(train, test, k=20)
    few_shot(test, shots=1)

and a trained head by what it makes of images and of recorded views of them::

    measures = measure_head(open_trained("last.ckpt"), data_set)
    write_report({"last": measures}, "report")

Methods are compared over seeds by ``paired_difference``, which needs SciPy.

What classifies features needs torch and NumPy only; reading images and writing the report need
``star-head[evaluation]``, and are imported when they are asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

# At once, since the modules few_shot and few_shot.few_shot have one name.
from star_head.evaluation.comparison import PairedDifference, paired_difference
from star_head.evaluation.few_shot import FewShot, few_shot
from star_head.evaluation.labels import label_part
from star_head.evaluation.linear import LinearProbe, linear_probe
from star_head.evaluation.nearest import NearestNeighbours, nearest_neighbours

if TYPE_CHECKING:
    from star_head.evaluation.corruptions import Corrupted, corrupt
    from star_head.evaluation.features import Features, extract_features
    from star_head.evaluation.head import HeadMeasures, measure_head
    from star_head.evaluation.networks import open_encoder
    from star_head.evaluation.preparation import Encoder
    from star_head.evaluation.report import write_report
    from star_head.evaluation.segmentation import SegmentationProbe, segmentation_probe
    from star_head.evaluation.spatial import spatial_features
    from star_head.evaluation.trained import Trained, open_trained

__all__ = [
    "Corrupted",
    "Encoder",
    "Features",
    "FewShot",
    "HeadMeasures",
    "LinearProbe",
    "NearestNeighbours",
    "PairedDifference",
    "SegmentationProbe",
    "Trained",
    "corrupt",
    "extract_features",
    "few_shot",
    "label_part",
    "linear_probe",
    "measure_head",
    "nearest_neighbours",
    "open_encoder",
    "open_trained",
    "paired_difference",
    "segmentation_probe",
    "spatial_features",
    "write_report",
]

_LATER = {
    "Corrupted": "corruptions",
    "Encoder": "preparation",
    "Features": "_labelled",
    "HeadMeasures": "head",
    "SegmentationProbe": "segmentation",
    "Trained": "trained",
    "corrupt": "corruptions",
    "extract_features": "features",
    "measure_head": "head",
    "open_encoder": "networks",
    "open_trained": "trained",
    "segmentation_probe": "segmentation",
    "spatial_features": "spatial",
    "write_report": "report",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LATER])
