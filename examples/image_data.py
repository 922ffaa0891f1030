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
        read: Gives the image of an index, PIL of any mode.
        labels: A class for each image.
        transform: Applied to each image; ``None`` leaves it as it is.
    """

    def __init__(
        self,
        read: Callable[[int], Image.Image],
        labels: np.ndarray,
        transform: Callable[[Image.Image], Any] | None = None,
    ) -> None:
        self.read = read
        self.labels = labels
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = self.read(index)
        return image if self.transform is None else self.transform(image), int(self.labels[index])

    def with_transform(self, transform: Callable[[Image.Image], Any]) -> "Images":
        """The same images, transformed otherwise."""
        return Images(self.read, self.labels, transform)

    def part(self, indices: np.ndarray) -> "Images":
        """Some of the images."""
        return Images(lambda i: self.read(int(indices[i])), self.labels[indices], self.transform)


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
        return _hold_out(_arrays((digits.images * 255 / 16).astype(np.uint8), digits.target))
    if name == "folder":
        return _hold_out(_folder(data_dir))
    root = Path("data") if data_dir is None else data_dir
    if name == "fashion-mnist":
        return _fashion_mnist(root, "train"), _fashion_mnist(root, "t10k")
    if name == "cifar10":
        parts = [CIFAR10(root, train, download=True) for train in (True, False)]
        return _arrays(parts[0].data, parts[0].targets), _arrays(parts[1].data, parts[1].targets)
    if name == "stl10":
        parts = [STL10(root, split, download=True) for split in ("train", "test")]
        train, test = (_arrays(p.data.transpose(0, 2, 3, 1), p.labels) for p in parts)
        return train, test
    raise ValueError(f"dataset: expected one of {get_args(DatasetName)}, got {name!r}")


def _arrays(images: np.ndarray, labels: Any) -> Images:
    return Images(lambda i: Image.fromarray(images[i]), np.asarray(labels))


def _hold_out(images: Images) -> tuple[Images, Images]:
    held_out = np.arange(len(images)) % 5 == 0
    return images.part(np.flatnonzero(~held_out)), images.part(np.flatnonzero(held_out))


def _fashion_mnist(root: Path, part: Literal["train", "t10k"]) -> Images:
    """Read the original .gz files where they are, and leave it to torchvision where not."""
    files = [root / f"{part}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")]
    if not all(file.is_file() for file in files):
        fetched = FashionMNIST(root, train=part == "train", download=True)
        return _arrays(fetched.data.numpy(), fetched.targets)
    pixels, labels = (np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8) for file in files)
    # The headers: magic number, count, and for images height and width, four bytes each.
    return _arrays(pixels[16:].reshape(-1, 28, 28), labels[8:])


def _folder(data_dir: Path | None) -> Images:
    if data_dir is None or not data_dir.is_dir():
        raise ValueError(f"data_dir: expected a folder of class folders, got {data_dir}")
    try:
        folder = ImageFolder(str(data_dir))
    except FileNotFoundError as error:
        raise ValueError(
            f"data_dir: expected class folders with images in {data_dir}: {error}"
        ) from error

    def read(index: int) -> Image.Image:
        path = folder.samples[index][0]
        try:
            return folder.loader(path)
        except UnidentifiedImageError as error:
            raise ValueError(f"data_dir: {path} is no image that Pillow reads") from error

    return Images(read, np.asarray(folder.targets))
