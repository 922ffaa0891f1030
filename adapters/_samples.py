"""What lies in a sample of a data set, as people have them."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from star_head import STARViews
from star_head._checks import describe

# Entries of a dictionary that may be what is meant by a label.
_LABEL = re.compile("label|class|target", re.IGNORECASE)


def split_sample(sample: Any, index: int) -> tuple[Any, int]:
    """The image and the label of what a data set gives."""
    if isinstance(sample, STARViews):
        raise TypeError(_several_views("STARViews", index))
    if isinstance(sample, Mapping):
        if "image" not in sample:
            raise TypeError(
                f'data_set: expected "image" and "label" in a dictionary, got '
                f"{describe(sample)} at {index}; rename its entries"
            )
        others = [key for key in sample if _LABEL.search(str(key))]
        if "label" not in sample and others:
            raise TypeError(
                f'data_set: expected the class as "label" in a dictionary, got '
                f"{', '.join(map(repr, others))} at {index}; rename the one that is meant"
            )
        return sample["image"], _label(sample.get("label"), index)
    if isinstance(sample, tuple | list):
        if not sample:
            raise TypeError(f"data_set: expected (image, label), got {describe(sample)} at {index}")
        if isinstance(sample[0], tuple | list):
            raise TypeError(_several_views(describe(sample[0]), index))
        return sample[0], _label(sample[1] if len(sample) > 1 else None, index)
    return sample, -1


def _label(label: Any, index: int) -> int:
    if label is None:
        return -1
    if isinstance(label, Tensor | np.ndarray) and label.ndim == 0:
        label = label.item()
    if isinstance(label, bool) or not isinstance(label, int | np.integer):
        raise TypeError(
            f"data_set: expected an integer as the label behind the image, got {describe(label)} "
            f"at {index}; number the classes from 0, and give images without classes alone"
        )
    if not -1 <= label < 2**63:
        raise ValueError(
            f"data_set: expected classes from 0, or -1 for none, got {label} at {index}; number "
            f"the classes from 0"
        )
    return int(label)


def _several_views(what: str, index: int) -> str:
    return (
        f"data_set: expected one image, got {what} at {index}; several views are for training: "
        f"open the data set once more without that transform"
    )
