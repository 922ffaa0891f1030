"""Published data sets whose files are read by hand, or fetched by torchvision."""

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100, STL10, FashionMNIST
from torchvision.datasets.utils import check_integrity

from star_head.examples.data.image_folder import fingerprint
from star_head.examples.data.images import Images, ImageSplits, in_memory

# Where torchvision fetches each data set.
_ADDRESSES = {
    "fashion-mnist": f"the four .gz files at {FashionMNIST.mirrors[0]}",
    "cifar10": CIFAR10.url,
    "cifar100": CIFAR100.url,
    "stl10": STL10.url,
}


@contextlib.contextmanager
def _fetching(name: str, root: Path, found: str = "") -> Iterator[None]:
    """Say what to do where torchvision cannot fetch a data set, and what there is of it."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"data_dir: {name} is not in {root}{found} and could not be fetched: {error}\n"
            f"Get {_ADDRESSES[name]} by other means and put it into {root}"
        ) from error


FashionPart = Literal["train", "t10k"]
_FASHION_FILES = {
    part: (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte") for part in ("train", "t10k")
}
# Images in each part, as published.
_FASHION_COUNTS = {"train": 60_000, "t10k": 10_000}


def load_fashion_mnist(root: Path) -> ImageSplits:
    """Read Fashion-MNIST's files, packed or not, and fetch them where they are missing.

    Raises:
        ValueError: If a file is not the one that its name says, or cannot be fetched.
    """
    if not fashion_mnist_is_there(root):
        with _fetching("fashion-mnist", root):
            FashionMNIST(root, download=True)
    train, test = _fashion_part(root, "train"), _fashion_part(root, "t10k")
    return ImageSplits(train, train, test)


def fashion_mnist_is_there(root: Path) -> bool:
    """Whether all four files are in ``root`` or where torchvision puts them."""
    return all(_fashion_file(root, name) for names in _FASHION_FILES.values() for name in names)


def _fashion_file(root: Path, name: str) -> Path | None:
    raw = root / "FashionMNIST" / "raw"
    places = (root / f"{name}.gz", raw / name, raw / f"{name}.gz")
    return next((path for path in places if path.is_file()), None)


def _fashion_part(root: Path, part: FashionPart) -> Images:
    files = [_fashion_file(root, name) for name in _FASHION_FILES[part]]
    if None in files:
        raise ValueError(f"data_dir: fashion-mnist as fetched into {root} is not whole")
    pixels_file, labels_file = (file for file in files if file is not None)
    pixels, labels = _read_idx(pixels_file, 3), _read_idx(labels_file, 1)
    other: FashionPart = "t10k" if part == "train" else "train"
    for file, numbers in ((pixels_file, pixels), (labels_file, labels)):
        if len(numbers) == _FASHION_COUNTS[other]:
            raise _not_published(
                file,
                f"it has {len(numbers)} entries, as {other!r} has, and {part!r} has "
                f"{_FASHION_COUNTS[part]}",
            )
    if pixels.shape[1:] != (28, 28):
        raise _not_published(pixels_file, f"expected images of 28 x 28, got {pixels.shape[1:]}")
    if len(pixels) != len(labels):
        raise _not_published(
            labels_file, f"it has {len(labels)} labels for the {len(pixels)} of {pixels_file}"
        )
    if len(labels) and labels.max() > 9:
        raise _not_published(labels_file, f"expected labels of 0 to 9, got {labels.max()}")
    return in_memory(pixels, labels.astype(np.int64))


def _read_idx(path: Path, ndim: int) -> np.ndarray:
    """Numbers of an IDX file of bytes: magic number and sizes, four bytes each, and the numbers."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise _not_published(path, f"it cannot be unpacked: {error}") from error
    start = 4 + 4 * ndim
    if len(content) < start or content[:4] != bytes([0, 0, 8, ndim]):
        raise _not_published(
            path,
            f"expected the magic number {bytes([0, 0, 8, ndim])!r} of an IDX file of bytes in "
            f"{ndim} dimensions, got {content[:4]!r}",
        )
    shape = [int.from_bytes(content[4 * i : 4 * i + 4], "big") for i in range(1, ndim + 1)]
    expected = start + int(np.prod(shape, dtype=object))
    if len(content) != expected:
        raise _not_published(
            path, f"its header says {shape}, which are {expected} bytes, and it has {len(content)}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _not_published(path: Path, why: str) -> ValueError:
    return ValueError(
        f"data_dir: {path} is not Fashion-MNIST's file of that name: {why}\n"
        f"Delete it and get {_ADDRESSES['fashion-mnist']} anew"
    )


def load_cifar(name: Literal["cifar10", "cifar100"], root: Path) -> ImageSplits:
    """Read CIFAR by torchvision, which fetches it where it is missing.

    Raises:
        ValueError: If a file is not as published, or cannot be fetched.
    """
    dataset = CIFAR10 if name == "cifar10" else CIFAR100
    folder = root / dataset.base_folder
    parts = [*dataset.train_list, *dataset.test_list]
    sums = dict(parts) | {dataset.meta["filename"]: dataset.meta["md5"]}
    missing = [file for file in sums if not (folder / file).is_file()]
    if missing:
        with _fetching(name, root, f" (of {folder}, {len(missing)} files are missing)"):
            fetched = [dataset(root, train, download=True) for train in (True, False)]
    else:
        try:
            fetched = [dataset(root, train, download=False) for train in (True, False)]
        except RuntimeError as error:  # torchvision compares the sums, and does not say which
            wrong = [
                str(folder / file)
                for file, expected in sums.items()
                if not check_integrity(folder / file, expected)
            ]
            raise ValueError(
                f"data_dir: not as published, by their MD5 sums, are {', '.join(wrong)}\n"
                f"Delete {folder} and get {_ADDRESSES[name]} anew"
            ) from error
    train, test = (in_memory(part.data, np.asarray(part.targets)) for part in fetched)
    return ImageSplits(train, train, test)


# Counts of images, in the order in which _STL10Pixels has them; and all files' sizes in bytes.
_STL10_COUNTS = {"train_X.bin": 5_000, "unlabeled_X.bin": 100_000, "test_X.bin": 8_000}
_STL10_BYTES = {name: count * 3 * 96 * 96 for name, count in _STL10_COUNTS.items()} | {
    "train_y.bin": 5_000,
    "test_y.bin": 8_000,
}


class _STL10Pixels:
    """STL10's files memory-mapped, so that all processes of a machine share one copy."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Each image is stored by channel, and each channel column after column.
        self.parts = [
            np.memmap(folder / name, np.uint8, "r", shape=(count, 3, 96, 96))
            for name, count in _STL10_COUNTS.items()
        ]

    def __reduce__(self) -> tuple[type["_STL10Pixels"], tuple[Path]]:
        return _STL10Pixels, (self.folder,)

    def __len__(self) -> int:
        return sum(_STL10_COUNTS.values())

    def __getitem__(self, index: int) -> Image.Image:
        for part in self.parts:
            if index < len(part):
                return Image.fromarray(part[index].transpose(2, 1, 0))
            index -= len(part)
        raise IndexError(index)

    def sizes(self, indices: np.ndarray) -> list[tuple[int, int]]:
        """The images' one (height, width)."""
        return [(96, 96)]

    def fingerprint(self) -> str:
        """A digest of the files' state."""
        return fingerprint([self.folder / name for name in _STL10_COUNTS])


def load_stl10(root: Path) -> ImageSplits:
    """Map STL10's binary files, and fetch them by torchvision where they are not whole.

    Raises:
        ValueError: If they are not as published, or cannot be fetched.
    """
    folder = root / STL10.base_folder
    if wrong := wrong_stl10_files(folder):
        with _fetching("stl10", root, f" ({wrong})"):
            STL10(root, "train", download=True)
        if wrong := wrong_stl10_files(folder):
            raise ValueError(f"data_dir: stl10 as fetched is not whole: {wrong}")
    train, test = (_stl10_labels(folder / name) for name in ("train_y.bin", "test_y.bin"))
    unlabelled = np.full(_STL10_COUNTS["unlabeled_X.bin"], -1)
    labels = np.concatenate([train, unlabelled, test])
    images = Images(_STL10Pixels(folder), np.arange(len(labels)), labels)
    first, second = len(train), len(train) + len(unlabelled)
    return ImageSplits(
        images.part(np.arange(second)),
        images.part(np.arange(first)),
        images.part(np.arange(second, len(labels))),
    )


def _stl10_labels(path: Path) -> np.ndarray:
    labels = np.fromfile(path, np.uint8).astype(np.int64)
    if labels.min() < 1 or labels.max() > 10:
        raise ValueError(
            f"data_dir: {path} is not STL10's file of that name: expected labels of 1 to 10, got "
            f"{labels.min()} to {labels.max()}\nDelete it and get {_ADDRESSES['stl10']} anew"
        )
    return labels - 1


def wrong_stl10_files(folder: Path) -> str:
    """What is wrong with STL10's files, empty if nothing is."""
    wrong = []
    for name, expected in _STL10_BYTES.items():
        if not (folder / name).is_file():
            wrong.append(f"{folder / name} is missing")
        elif (size := (folder / name).stat().st_size) != expected:
            wrong.append(f"{folder / name} has {size} bytes, expected {expected}")
    return "; ".join(wrong)
