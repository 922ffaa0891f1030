"""Data sets of image files that name the class and the part of each image.

torchvision's layouts, read here all in one way: torchvision has neither MIT67 nor the parts of
SUN397, and keeps what it read in private attributes.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from star_head.evaluation.labels import draw
from star_head.examples.data.annotation_files import (
    NotAsPublished,
    read_lines,
    read_mat,
    reading,
)
from star_head.examples.data.image_folder import find_of_classes, subfolders
from star_head.examples.data.listings import Listing, Sample, check_listing

ListedName = Literal[
    "food101",
    "mit67",
    "pets",
    "flowers102",
    "caltech101",
    "cars",
    "aircraft",
    "dtd",
    "sun397",
]


def read_listing(name: ListedName, root: Path) -> Listing:
    """Read a data set's annotation files and see that all images are there.

    Args:
        name: Name of the data set; its parts are those published. ``"caltech101"`` has none: 30
            images of each class are drawn to train on, five of them to choose by, and the rest is
            for the test, without ``BACKGROUND_Google``, which is no class. That is the 2,525,
            505 and 5,647 images of Lee et al. 2021 (AugSelf, arXiv 2111.09613), whose counts the
            paper's agree with; some others count the background as a class. Of ``"dtd"`` and
            ``"sun397"``, the first of ten partitions.
        root: Folder with the data set's folder in it.

    Raises:
        ValueError: If files are missing or are not as expected, with how to get them; or if a
            part lacks a class.
    """
    place = _LISTED[name]
    advice = "\n" + place.how_to_get.format(root=root)
    try:
        listing = place.read(root / place.folder)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(f"data_dir: {name} lacks {error.filename}{advice}") from error
    except NotAsPublished as error:
        raise ValueError(f"data_dir: {name}: {error}{advice}") from error
    except Exception as error:  # what a broken file raises depends on its format and on how
        raise ValueError(f"data_dir: {name} in {root} is not as published: {error!r}") from error
    check_listing(listing, name, advice)
    return listing


def is_begun(name: ListedName, root: Path) -> bool:
    """Whether there is anything of a data set."""
    return (root / _LISTED[name].folder).is_dir()


def _numbers(count: int) -> list[str]:
    """Names of classes that have a number only, from 1."""
    return [str(i + 1) for i in range(count)]


def _food101(folder: Path) -> Listing:

    def part(name: str) -> list[Sample]:
        path = folder / "meta" / f"{name}.json"
        with reading(path):
            listed = json.loads(path.read_text(encoding="utf-8"))
            return [
                (folder / "images" / f"{image}.jpg", c)
                for c, images in listed.items()
                for image in images
            ]

    train = part("train")
    return Listing(sorted({c for _, c in train}), train, part("test"))


def _mit67(folder: Path) -> Listing:

    def part(name: str) -> list[Sample]:
        lines = read_lines(folder / f"{name}Images.txt")
        return [(folder / "Images" / line, line.split("/")[0]) for line in lines]

    train = part("Train")
    return Listing(sorted({c for _, c in train}), train, part("Test"))


def _pets(folder: Path) -> Listing:

    def part(name: str) -> list[Sample]:
        path = folder / "annotations" / f"{name}.txt"
        with reading(path):
            lines = [line.split() for line in read_lines(path)]
            return [
                (folder / "images" / f"{image}.jpg", str(int(number)))
                for image, number, *_ in lines
            ]

    train = part("trainval")
    return Listing(_numbers(max(int(c) for _, c in train)), train, part("test"))


def _flowers102(folder: Path) -> Listing:
    labels = read_mat(folder / "imagelabels.mat", "labels")

    def part(key: str) -> list[Sample]:
        path = folder / "setid.mat"
        numbers = read_mat(path, key)
        with reading(path):
            if numbers.min() < 1 or numbers.max() > len(labels):
                raise ValueError(
                    f"expected numbers of 1 to {len(labels)}, of which imagelabels.mat has the "
                    f"labels, in {key!r}, got {numbers.min()} to {numbers.max()}"
                )
        return [(folder / "jpg" / f"image_{i:05}.jpg", str(labels[i - 1])) for i in numbers]

    return Listing(_numbers(labels.max()), part("trnid"), part("tstid"), part("valid"))


def _caltech101(folder: Path) -> Listing:
    images = folder / "101_ObjectCategories"
    classes = [name for name in subfolders(images) if name != "BACKGROUND_Google"]
    samples = find_of_classes(images, classes)
    number = {name: i for i, name in enumerate(classes)}
    labels = np.array([number[name] for _, name in samples])
    # 31 images are the fewest of a class.
    chosen, rest = draw(labels, np.full(len(classes), 30))
    validation, train = draw(labels[chosen], np.full(len(classes), 5))
    return Listing(
        classes,
        [samples[i] for i in chosen[train]],
        [samples[i] for i in rest],
        [samples[i] for i in chosen[validation]],
    )


def _cars(folder: Path) -> Listing:

    def part(images: str, annotations: Path) -> list[Sample]:
        listed = read_mat(annotations, "annotations")
        with reading(annotations):
            names, numbers = listed["fname"], listed["class"]
            there = sum(1 for _ in (folder / images).glob("[!.]*.jpg"))
            if len(names) < there:  # those of the other part, say
                raise ValueError(f"it lists {len(names)} images, and {images} has {there}")
            return [(folder / images / n, str(int(c))) for n, c in zip(names, numbers, strict=True)]

    return Listing(
        _numbers(len(read_mat(folder / "devkit" / "cars_meta.mat", "class_names"))),
        part("cars_train", folder / "devkit" / "cars_train_annos.mat"),
        part("cars_test", folder / "cars_test_annos_withlabels.mat"),
    )


def _aircraft(folder: Path) -> Listing:
    data = folder / "data"

    def part(name: str) -> list[Sample]:
        path = data / f"images_variant_{name}.txt"
        with reading(path):
            lines = [line.split(" ", 1) for line in read_lines(path)]
            return [(data / "images" / f"{image}.jpg", variant) for image, variant in lines]

    return Listing(read_lines(data / "variants.txt"), part("train"), part("test"), part("val"))


def _dtd(folder: Path) -> Listing:
    data = folder / "dtd"

    def part(name: str) -> list[Sample]:
        lines = read_lines(data / "labels" / f"{name}1.txt")
        return [(data / "images" / line, line.split("/")[0]) for line in lines]

    train = part("train")
    return Listing(sorted({c for _, c in train}), train, part("test"), part("val"))


def _sun397(folder: Path) -> Listing:

    def part(name: str) -> list[Sample]:
        lines = read_lines(folder / f"{name}_01.txt")
        return [(folder / line.lstrip("/"), line.rsplit("/", 1)[0]) for line in lines]

    return Listing(read_lines(folder / "ClassName.txt"), part("Training"), part("Testing"))


def _by_torchvision(name: str) -> str:
    command = f"from torchvision.datasets import {name}; {name}('{{root}}', download=True)"
    return f'To fetch it: python -c "{command}"'


class _Place(NamedTuple):
    """Where a data set lies, how it is read, and how one gets it into a root."""

    folder: str
    read: Callable[[Path], Listing]
    how_to_get: str


_LISTED: dict[ListedName, _Place] = {
    "food101": _Place("food-101", _food101, _by_torchvision("Food101")),
    "mit67": _Place(
        "mit67",
        _mit67,
        "Get indoorCVPR_09.tar, TrainImages.txt and TestImages.txt from "
        "https://web.mit.edu/torralba/www/indoor.html and put the folder Images of the first and "
        "the two lists into {root}/mit67",
    ),
    "pets": _Place("oxford-iiit-pet", _pets, _by_torchvision("OxfordIIITPet")),
    "flowers102": _Place("flowers-102", _flowers102, _by_torchvision("Flowers102")),
    "caltech101": _Place("caltech101", _caltech101, _by_torchvision("Caltech101")),
    "cars": _Place(
        "stanford_cars",
        _cars,
        "Its address, https://ai.stanford.edu/~jkrause/cars/car_dataset.html, gives it no more. "
        "Get it from a mirror, and put the folders cars_train, cars_test and devkit and the file "
        "cars_test_annos_withlabels.mat into {root}/stanford_cars",
    ),
    "aircraft": _Place("fgvc-aircraft-2013b", _aircraft, _by_torchvision("FGVCAircraft")),
    "dtd": _Place("dtd", _dtd, _by_torchvision("DTD")),
    "sun397": _Place(
        "SUN397",
        _sun397,
        _by_torchvision("SUN397") + "\nand get its lists, Training_01.txt and Testing_01.txt, from "
        "https://vision.princeton.edu/projects/2010/SUN/download/Partitions.zip and put them into "
        "{root}/SUN397",
    ),
}
