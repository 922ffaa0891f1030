"""What the classes of a data set are called."""

from pathlib import Path

from torchvision.datasets import CIFAR10, CIFAR100, STL10, FashionMNIST

from star_head.examples.data.folder_data import class_folders
from star_head.examples.data.image_data import DatasetName
from star_head.examples.data.image_folder import subfolders
from star_head.examples.data.splits import Folders, find_splits


def class_names(
    name: DatasetName, data_dir: Path | None, count: int, folders: Folders | None = None
) -> list[str]:
    """Names of the first ``count`` classes of a data set that was loaded by ``load_images``.

    They are numbers where the files do not say names.
    """
    found = _find(name, Path("data" if data_dir is None else data_dir).expanduser(), folders)
    return found[:count] if len(found) >= count else [str(number) for number in range(count)]


def _find(name: DatasetName, root: Path, folders: Folders | None) -> list[str]:
    if name == "fashion-mnist":
        return list(FashionMNIST.classes)
    if name in ("cifar10", "cifar100"):
        return list((CIFAR10 if name == "cifar10" else CIFAR100)(root, train=False).classes)
    if name == "stl10":
        listed = root / STL10.base_folder / "class_names.txt"
        return listed.read_text().split() if listed.is_file() else []
    if name == "folder":
        return class_folders(root, folders)
    if name == "imagenet100" and (splits := find_splits(root)):
        return subfolders(root / splits.train)
    return []
