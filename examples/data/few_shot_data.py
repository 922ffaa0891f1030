"""The data sets of few-shot classification, all of whose images episodes are drawn from."""

from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np

from star_head.adapters._images import Color
from star_head.adapters._pixel_range import PixelRange
from star_head.examples.data.image_data import load_images
from star_head.examples.data.image_files import ImageFiles
from star_head.examples.data.image_folder import (
    PassedOver,
    find_of_classes,
    folder_that_is_there,
    subfolders,
)
from star_head.examples.data.images import Images, in_memory
from star_head.examples.data.splits import Folders, split_of

FewShotName = Literal["fc100", "cub200", "plant-disease", "folder"]

# CIFAR100's superclasses 0 (aquatic mammals), 7 (insects), 12 (medium-sized mammals), 14 (people).
_FC100_TEST = [
    *(4, 30, 55, 72, 95),  # beaver, dolphin, otter, seal, whale
    *(6, 7, 14, 18, 24),  # bee, beetle, butterfly, caterpillar, cockroach
    *(34, 63, 64, 66, 75),  # fox, porcupine, possum, raccoon, skunk
    *(2, 11, 35, 46, 98),  # baby, boy, girl, man, woman
]


def load_few_shot(
    name: FewShotName,
    data_dir: Path,
    *,
    pixel_range: PixelRange | None = None,
    background: Color | None = None,
    folders: Folders | None = None,
) -> Images:
    """Load a data set, classes from 0.

    Args:
        name: ``"fc100"``: the 20 test classes of FC100 (Oreshkin et al. 2018, TADAM, arXiv
            1805.10123), 600 images each, which are four superclasses of CIFAR100, its training and
            test images together; CIFAR100 is read or fetched as :func:`load_images` does it.
            ``"cub200"``: all images of CUB-200-2011. ``"plant-disease"``: PlantVillage's training
            and test images together. ``"folder"``: what :func:`load_images` pretrains on.
        data_dir: Where the data set has its folder: cifar-100-python, CUB_200_2011/images,
            plant_disease/train and plant_disease/test or valid. For ``"folder"``, the folder.
        pixel_range: For ``"folder"``, as in :func:`load_images`.
        background: For ``"folder"``, as in :func:`load_images`.
        folders: For ``"folder"``, as in :func:`load_images`.

    Raises:
        ValueError: If the data set is not there, with how to get it, or its images are not in
            class folders.
    """
    if name not in get_args(FewShotName):
        raise ValueError(f"dataset: expected one of {get_args(FewShotName)}, got {name!r}")
    given = {"pixel_range": pixel_range, "background": background, "folders": folders}
    if name != "folder" and any(value is not None for value in given.values()):
        raise ValueError(f"{', '.join(given)}: expected None with {name!r}, got {given}")
    data_dir = folder_that_is_there(data_dir)
    if name == "fc100":
        return _fc100(data_dir)
    if name == "plant-disease":
        return _plant_disease(data_dir / "plant_disease")
    folder = data_dir
    if name == "cub200":
        folders = "classes"
        folder = data_dir / "CUB_200_2011" / "images"
        if not folder.is_dir():
            raise ValueError(
                f"data_dir: cub200 is not in {folder}\nGet CUB_200_2011.tgz from "
                f"https://www.vision.caltech.edu/datasets/cub_200_2011 and unpack it in {data_dir}"
            )
    images = load_images(
        "folder", folder, pixel_range=pixel_range, background=background, folders=folders
    ).pretrain
    if images.labels.min() < 0:
        raise ValueError(f"data_dir: expected class folders in {folder}, found images without")
    return images


def _fc100(root: Path) -> Images:
    pixels, labels = [], []
    for images in cast(tuple[Images, Images], load_images("cifar100", root)[1:]):
        chosen = np.flatnonzero(np.isin(images.labels, _FC100_TEST))
        pixels += [np.asarray(images[i][0]) for i in chosen.tolist()]
        labels += [_FC100_TEST.index(label) for label in images.labels[chosen].tolist()]
    return in_memory(np.stack(pixels), np.array(labels))


def _plant_disease(folder: Path) -> Images:
    splits = {name: split_of(name) for name in (subfolders(folder) if folder.is_dir() else [])}
    train = next((folder / n for n, split in splits.items() if split == "train"), folder / "train")
    classes = subfolders(train) if train.is_dir() else []
    # "New Plant Diseases" has test images of unknown class beside valid.
    held_out = [
        folder / name
        for wanted in ("validation", "test")
        for name, split in splits.items()
        if split == wanted and subfolders(folder / name) == classes
    ]
    if not classes or not held_out:
        raise ValueError(
            f"data_dir: expected the same class folders in {train} and in {folder / 'test'} or "
            f"{folder / 'valid'}, found {len(classes)} in the first and no others like them\n"
            f"Get it from https://www.kaggle.com/datasets/saroz014/plant-disease and put its "
            f"folders train and test into {folder}"
        )
    passed_over = PassedOver()
    samples = [
        sample
        for part in (train, *held_out)
        for sample in find_of_classes(part, classes, passed_over)
    ]
    if not samples:
        raise ValueError(f"data_dir: expected images in the class folders of {train}, found none")
    paths, names = zip(*samples, strict=True)
    passed_over.warn(folder, [name for name in classes if name not in set(names)])
    labels = np.array([classes.index(name) for name in names])
    return Images(ImageFiles(paths), np.arange(len(paths)), labels)
