"""Corrupted copies of test images in folders, laid out as ImageNet-C is."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from star_head.examples.data.image_files import ImageFiles
from star_head.examples.data.image_folder import (
    find_of_classes,
    folder_that_is_there,
    subfolders,
)
from star_head.examples.data.images import Images


def find_corrupted(root: Path, names: Sequence[str]) -> dict[tuple[str, int], Images]:
    """Find KIND/SEVERITY/CLASS/images in a folder, or in folders in it.

    ImageNet-C unpacks to that, noise/gaussian_noise/1/n01440764 for one.

    Args:
        root: The folder.
        names: Class names in the order of the labels; other folders of classes are left out.

    Returns:
        Images by kind and severity.

    Raises:
        ValueError: If there are none, or a severity has no images of these classes.
    """
    labels = {name: label for label, name in enumerate(names)}
    found: dict[tuple[str, int], Images] = {}
    for place in _severities(folder_that_is_there(root)):
        files = find_of_classes(place, [n for n in subfolders(place) if n in labels])
        if not files:
            raise ValueError(
                f"corrupted_dir: {place} has no images of the classes {', '.join(names[:3])}, ..."
            )
        paths = [path for path, _ in files]
        classes = np.array([labels[name] for _, name in files])
        images = Images(ImageFiles(paths), np.arange(len(paths)), classes)
        found[place.parent.name, int(place.name)] = images
    if not found:
        raise ValueError(f"corrupted_dir: expected KIND/SEVERITY/CLASS/images in {root}, got none")
    return found


def _severities(root: Path) -> Iterator[Path]:
    """The folders named 1, 2 and so on, in one or two of folders."""
    for name in subfolders(root):
        for inner in subfolders(root / name):
            if inner.isdecimal():
                yield root / name / inner
            else:
                for number in subfolders(root / name / inner):
                    if number.isdecimal():
                        yield root / name / inner / number
