"""Image files in folders: splits, classes, and images without."""

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from star_head.examples.data.image_cache import cache_images
from star_head.examples.data.image_files import Conversion, ImageFiles, readable
from star_head.examples.data.image_folder import PassedOver, find_images, subfolders
from star_head.examples.data.images import Images, ImageSource, ImageSplits
from star_head.examples.data.splits import Folders, Splits, find_splits, tell_folders


class Files(NamedTuple):
    """Image files, a label for each, and the indices of those in each part."""

    paths: list[Path]
    labels: np.ndarray
    pretrain: np.ndarray
    train: np.ndarray | None = None
    test: np.ndarray | None = None


def find_imagenet(data_dir: Path, class_names: Path | None) -> Files:
    """Class folders in the splits of a folder: train, and val where it is there.

    Raises:
        ValueError: If there is no folder to train on, or a class's folder is missing.
    """
    return _find_in_splits(data_dir, class_names)


def find_in_any_folder(data_dir: Path, folders: Folders | None) -> Files:
    """Images in splits, in class folders, or without classes, as the folders' names say.

    Raises:
        ValueError: If there are no images, or the folders could mean two things.
    """
    passed_over = PassedOver()
    paths = find_images(data_dir, passed_over)
    if not paths:
        passed_over.warn(data_dir)
        raise ValueError(f"data_dir: expected a folder of images, found none in {data_dir}")
    inside = [path.relative_to(data_dir).parts for path in paths]
    kind = tell_folders(data_dir, inside) if folders is None else folders
    if kind == "splits":
        return _find_in_splits(data_dir, None, inside)
    everything = np.arange(len(paths))
    if kind == "unlabelled":
        passed_over.warn(data_dir)
        return Files(paths, np.full(len(paths), -1), everything)
    classes, labels = np.unique([parts[0] for parts in inside], return_inverse=True)
    if any(len(parts) == 1 for parts in inside) or len(classes) < 2:
        raise ValueError(
            f"folders: expected two class folders or more and no images beside them in "
            f"{data_dir} for 'classes', got {len(classes)} names at its top"
        )
    passed_over.warn(data_dir, [name for name in subfolders(data_dir) if name not in classes])
    train, test = _hold_out(labels)
    if not len(test):
        return Files(paths, labels, everything)
    return Files(paths, labels, everything, train, test)


def class_folders(data_dir: Path, folders: Folders | None) -> list[str]:
    """Names of the classes that :func:`find_in_any_folder` finds, in the order of their labels."""
    inside = [path.relative_to(data_dir).parts for path in find_images(data_dir)]
    kind = tell_folders(data_dir, inside) if folders is None else folders
    if kind == "splits":
        return subfolders(data_dir / _splits(data_dir).train)
    return sorted({parts[0] for parts in inside}) if kind == "classes" else []


def _hold_out(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every fifth image for the test, but the only one of a class, which is trained on.

    There is a test image where any class has two images; labels ascend.
    """
    alone = np.bincount(labels)[labels] == 1
    held_out = (np.arange(len(labels)) % 5 == 0) & ~alone
    if not held_out.any():
        held_out[np.flatnonzero(~alone)[:1]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _splits(data_dir: Path) -> Splits:
    splits = find_splits(data_dir)
    if splits is None:
        raise ValueError(
            f"data_dir: expected {data_dir / 'train'} with class folders in it, found none"
        )
    return splits


def _find_in_splits(
    data_dir: Path, class_names: Path | None, inside: list[tuple[str, ...]] | None = None
) -> Files:
    """Class folders to train on, and to measure on: the validation's or else the test's.

    Test images are often published without classes; then there is nothing to measure on.
    """
    splits = _splits(data_dir)
    if inside is not None:
        read = [name for name in splits if name is not None]
        if beside := sorted({parts[0] for parts in inside if parts[0] not in read}):
            warnings.warn(
                f"{data_dir} has the splits {', '.join(read)}; passed over: {', '.join(beside)}",
                stacklevel=4,
            )
    train = data_dir / splits.train
    classes = subfolders(train) if class_names is None else _read_names(class_names)
    label_of = {name: label for label, name in enumerate(classes)}
    paths, labels = _find_classes(train, label_of)
    pretrain = np.arange(len(paths))
    held_out_name = splits.validation
    if held_out_name is None and splits.test and subfolders(data_dir / splits.test):
        held_out_name = splits.test
    if held_out_name is None:
        return Files(paths, labels, pretrain)
    test = data_dir / held_out_name
    if class_names is None:
        names = subfolders(test)
        if unknown := [name for name in names if name not in label_of]:
            raise ValueError(f"data_dir: {test} has class folders that {train} lacks: {unknown}")
        label_of = {name: label_of[name] for name in names}
    test_paths, test_labels = _find_classes(test, label_of)
    held_out = np.arange(len(paths), len(paths) + len(test_paths))
    return Files(
        paths + test_paths, np.concatenate([labels, test_labels]), pretrain, pretrain, held_out
    )


def _find_classes(folder: Path, label_of: dict[str, int]) -> tuple[list[Path], np.ndarray]:
    paths: list[Path] = []
    labels: list[int] = []
    empty: list[str] = []
    passed_over = PassedOver()
    for name, label in label_of.items():
        if not (folder / name).is_dir():
            raise ValueError(f"data_dir: {folder} has no folder for the class {name!r}")
        found = find_images(folder / name, passed_over)
        empty += [] if found else [name]
        paths += found
        labels += [label] * len(found)
    if not paths:
        raise ValueError(
            f"data_dir: expected class folders with images in {folder}, found no images in any; "
            f"images without classes are pretrained on as 'folder' with the folder they lie in"
        )
    passed_over.warn(folder, empty)
    return paths, np.array(labels)


def _read_names(file: Path) -> list[str]:
    if not file.is_file():
        raise ValueError(f"class_names: expected a text file, got {file}")
    lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    names = [line for line in lines if line and not line.startswith("#")]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"class_names: expected folder names, each once, in {file}, got {names}")
    return names


def open_files(
    files: Files, skip_unreadable: bool, cache: Path | None, conversion: Conversion
) -> ImageSplits:
    """Make images of files, decoded beforehand where there is a cache.

    Raises:
        ValueError: If an image cannot be read, or none of a part can.
    """
    source: ImageSource = ImageFiles(files.paths, conversion)
    kept = np.arange(len(files.paths))
    if cache is not None:
        source, kept = cache_images(
            files.paths, cache, skip_unreadable=skip_unreadable, conversion=conversion
        )
    elif skip_unreadable:
        kept = readable(files.paths, conversion)

    def part(indices: np.ndarray) -> Images:
        left = np.intersect1d(indices, kept)
        if not len(left):
            first = files.paths[indices[0]]
            raise ValueError(f"data_dir: none of {len(indices)} images from {first} on can be read")
        return Images(source, left, files.labels[left])

    pretrain = part(files.pretrain)
    if files.train is None or files.test is None:
        return ImageSplits(pretrain, None, None)
    return ImageSplits(pretrain, part(files.train), part(files.test))
