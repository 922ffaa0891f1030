"""Which labelled data sets lie whole in a folder, and measuring on each of them."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Literal, cast, get_args

from torchvision.datasets import CIFAR10, CIFAR100, STL10

from star_head.adapters._images import Color
from star_head.adapters._pixel_range import PixelRange
from star_head.examples.data.image_folder import folder_that_is_there
from star_head.examples.data.published import fashion_mnist_is_there, wrong_stl10_files
from star_head.examples.data.splits import Folders
from star_head.examples.data.transfer_data import TransferData, TransferName, load_transfer
from star_head.examples.data.transfer_files import ListedName, is_begun, read_listing

# Measured on when asked for by name, and not wherever they lie.
_ASKED = ("digits", "folder")


def available(data_dir: Path) -> list[TransferName]:
    """Names of the data sets that lie whole below a folder; never ``"digits"`` and ``"folder"``.

    Warns of those that are there in part. Fetches nothing.
    """
    return [name for name in get_args(TransferName) if _is_there(name, data_dir)]


def measure_each(
    dataset: TransferName | Literal["all"],
    data_dir: Path | None,
    measure: Callable[[TransferName, TransferData], None],
    *,
    pixel_range: PixelRange | None = None,
    background: Color | None = None,
    folders: Folders | None = None,
) -> list[TransferName]:
    """Measure on one data set, or on all that are available and can be measured on.

    Args:
        dataset: The data set; ``"all"``: those that :func:`available` names.
        data_dir: As in :func:`load_transfer`.
        measure: Called with each data set.
        pixel_range: For ``"folder"``, as in :func:`load_transfer`.
        background: For ``"folder"``, as in :func:`load_transfer`.
        folders: For ``"folder"``, as in :func:`load_transfer`.

    Returns:
        Those that could not, after printing why.

    Raises:
        ValueError: If the one that was asked for cannot be measured on, if ``data_dir`` is not
            there, or if no data set lies there.
    """
    left: list[TransferName] = []
    names = [dataset] if dataset != "all" else _found(data_dir)
    for name in names:
        try:
            data = load_transfer(
                name, data_dir, pixel_range=pixel_range, background=background, folders=folders
            )
            measure(name, data)
        except ValueError as error:
            if dataset != "all":
                raise
            print(f"{name:14} not measured: {error}")
            left.append(name)
    return left


def _found(data_dir: Path | None) -> list[TransferName]:
    place = folder_that_is_there(Path("data") if data_dir is None else data_dir)
    if names := available(place):
        return names
    raise ValueError(
        f"data_dir: none of {', '.join(n for n in get_args(TransferName) if n not in _ASKED)} "
        f"lies in {place}; with dataset='folder' it is measured on as a folder of class folders, "
        f"and dataset='digits' needs no files"
    )


def _is_there(name: TransferName, root: Path) -> bool:
    if name in get_args(ListedName):
        return _is_whole(cast(ListedName, name), root)
    if name == "cifar10" or name == "cifar100":
        dataset = CIFAR10 if name == "cifar10" else CIFAR100
        files = [file for file, _ in (*dataset.train_list, *dataset.test_list)]
        folder = root / dataset.base_folder
        return _are_files(folder, [*files, dataset.meta["filename"]])
    if name == "stl10":
        return not wrong_stl10_files(root / STL10.base_folder)
    if name == "imagenet100":
        return all((root / name / part).is_dir() for part in ("train", "val"))
    if name == "fashion-mnist":
        return fashion_mnist_is_there(root)
    return False


def _is_whole(name: ListedName, root: Path) -> bool:
    if not is_begun(name, root):
        return False
    try:
        read_listing(name, root)
    except ValueError as error:
        warnings.warn(f"{name} is left out: {error}", stacklevel=4)
        return False
    return True


def _are_files(folder: Path, names: list[str]) -> bool:
    return all((folder / name).is_file() for name in names)
