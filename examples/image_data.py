"""Labelled image data sets for the examples: a training part and a held-out part."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image, UnidentifiedImageError
from sklearn.datasets import load_digits
from torch.utils.data import Dataset
from torchvision.datasets import CIFAR10, STL10, FashionMNIST, ImageFolder
from torchvision.datasets.folder import default_loader

DatasetName = Literal["digits", "fashion-mnist", "cifar10", "stl10", "folder"]

# Sides of the views, in pixels, that suit each data set's images.
IMAGE_SIZES: dict[DatasetName, int] = {
    "digits": 32,
    "fashion-mnist": 32,
    "cifar10": 32,
    "stl10": 96,
    "folder": 96,
}


class Images(Dataset[tuple[Any, int]]):
    """Images with labels, read by index and transformed as torchvision's data sets are.

    Args:
        source: Pixels, uint8 (n, H, W) or (n, H, W, 3), or paths of image files, (n,).
        labels: A class for each image.
        transform: Applied to each image; ``None`` leaves it as it is.
    """

    def __init__(
        self,
        source: np.ndarray,
        labels: np.ndarray,
        transform: Callable[[Image.Image], Any] | None = None,
    ) -> None:
        self.source = source
        self.labels = labels
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = _read(self.source[index])
        return image if self.transform is None else self.transform(image), int(self.labels[index])

    def with_transform(self, transform: Callable[[Image.Image], Any]) -> "Images":
        """The same images, transformed otherwise."""
        return Images(self.source, self.labels, transform)

    def part(self, indices: np.ndarray) -> "Images":
        """Some of the images."""
        return Images(self.source[indices], self.labels[indices], self.transform)


def _read(item: np.ndarray | np.str_) -> Image.Image:
    if isinstance(item, np.ndarray):
        return Image.fromarray(item)
    try:
        return default_loader(str(item))
    except UnidentifiedImageError as error:
        raise ValueError(f"data_dir: {item} is no image that Pillow reads") from error


def load_images(name: DatasetName, data_dir: Path | None = None) -> tuple[Images, Images]:
    """Load a data set's training and held-out images.

    Args:
        name: ``"digits"``: scikit-learn's 1,797 handwritten digits, which it ships; every fifth
            is held out. ``"fashion-mnist"``, ``"cifar10"``, ``"stl10"``: read from ``data_dir``,
            or fetched into it by torchvision. ``"folder"``: a folder of class folders; every
            fifth image is held out.
        data_dir: Where the files are; ``data`` unless given, and not needed for digits.

    Raises:
        ValueError: If the name is unknown, or the folder is missing or holds no images.
    """
    if name == "digits":
        digits = load_digits()
        return _hold_out(Images((digits.images * 255 / 16).astype(np.uint8), digits.target))
    if name == "folder":
        return _hold_out(_folder(data_dir))
    root = Path("data") if data_dir is None else data_dir
    if name == "fashion-mnist":
        return _fashion_mnist(root, "train"), _fashion_mnist(root, "t10k")
    if name == "cifar10":
        parts = [CIFAR10(root, train, download=True) for train in (True, False)]
        train, test = (Images(part.data, np.asarray(part.targets)) for part in parts)
        return train, test
    if name == "stl10":
        parts = [STL10(root, split, download=True) for split in ("train", "test")]
        train, test = (Images(p.data.transpose(0, 2, 3, 1), p.labels) for p in parts)
        return train, test
    raise ValueError(f"dataset: expected one of {get_args(DatasetName)}, got {name!r}")


def _hold_out(images: Images) -> tuple[Images, Images]:
    held_out = np.arange(len(images)) % 5 == 0
    return images.part(np.flatnonzero(~held_out)), images.part(np.flatnonzero(held_out))


def _fashion_mnist(root: Path, part: Literal["train", "t10k"]) -> Images:
    """Read the original .gz files where they are, and leave it to torchvision where not."""
    files = [root / f"{part}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")]
    if not all(file.is_file() for file in files):
        fetched = FashionMNIST(root, train=part == "train", download=True)
        return Images(fetched.data.numpy(), fetched.targets.numpy())
    pixels, labels = (np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8) for file in files)
    # The headers: magic number, count, and for images height and width, four bytes each.
    return Images(pixels[16:].reshape(-1, 28, 28), labels[8:])


def _folder(data_dir: Path | None) -> Images:
    if data_dir is None or not data_dir.is_dir():
        raise ValueError(f"data_dir: expected a folder of class folders, got {data_dir}")
    try:
        folder = ImageFolder(str(data_dir))
    except FileNotFoundError as error:
        raise ValueError(
            f"data_dir: expected class folders with images in {data_dir}: {error}"
        ) from error
    return Images(np.array([path for path, _ in folder.samples]), np.array(folder.targets))
