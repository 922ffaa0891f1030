"""Listings: image files with the class and the part of each."""

import os
from pathlib import Path
from typing import NamedTuple

from star_head.examples.data.image_folder import PassedOver, find_of_classes, subfolders
from star_head.examples.data.splits import Splits

# An image file and its class.
Sample = tuple[Path, str]


class Listing(NamedTuple):
    """Which images there are in each part of a data set.

    Attributes:
        classes: Their names, in the order of their labels.
        train: Images to train on.
        test: Images to measure on.
        validation: Images to choose by; ``None`` where they are to be drawn from ``train``.
    """

    classes: list[str]
    train: list[Sample]
    test: list[Sample]
    validation: list[Sample] | None = None


def read_parts(root: Path, splits: Splits) -> Listing:
    """List the class folders in folders for training, validation and test.

    Raises:
        ValueError: If there are other classes in one than in another.
    """
    classes = subfolders(root / splits.train)
    passed_over = PassedOver()
    train, validation, test = (
        find_of_classes(root / part, subfolders(root / part), passed_over)
        for part in splits
        if part is not None
    )
    passed_over.warn(root)
    listing = Listing(classes, train, test, validation)
    check_listing(listing, f"the folder {root}", "")
    return listing


def check_listing(listing: Listing, name: str, advice: str) -> None:
    """See that all images are there, in one part each, which has all classes and no others.

    Raises:
        ValueError: If not; ``name`` and ``advice`` are part of the message.
    """
    parts = {"training": listing.train, "test": listing.test}
    if listing.validation is not None:
        parts["validation"] = listing.validation
    for part, samples in parts.items():
        missing = [path for path, _ in samples if not os.path.isfile(path)]
        if missing:
            raise ValueError(
                f"data_dir: {name} lacks {len(missing)} of {len(samples)} {part} images, "
                f"first {missing[0]}{advice}"
            )
        if not samples:
            raise ValueError(f"data_dir: {name} has no {part} images{advice}")
        found = {c for _, c in samples}
        if unknown := sorted(found.difference(listing.classes)):
            raise ValueError(
                f"data_dir: {name} has {part} images of classes that are not among its "
                f"{len(listing.classes)}: {_shown(unknown)}"
            )
        if absent := [c for c in listing.classes if c not in found]:
            raise ValueError(f"data_dir: {name} has no {part} images of classes {_shown(absent)}")

    seen: dict[Path, str] = {}
    for part, samples in parts.items():
        if both := [path for path, _ in samples if seen.setdefault(path, part) != part]:
            raise ValueError(
                f"data_dir: {name} has {len(both)} images in its {seen[both[0]]} and in its "
                f"{part} images, first {both[0]}{advice}"
            )


def _shown(names: list[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
