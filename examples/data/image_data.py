"""Image data sets for the examples: what is pretrained on, and labelled parts to measure with."""

import contextlib
import gzip
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, get_args

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from torch.utils.data import Dataset
from torchvision.datasets import CIFAR10, CIFAR100, STL10, FashionMNIST

from star_head.examples.data.image_cache import cache_images
from star_head.examples.data.image_folder import (
    ImageFiles,
    find_images,
    fingerprint,
    readable,
    subfolders,
)

DatasetName = Literal[
    "digits", "fashion-mnist", "cifar10", "cifar100", "stl10", "imagenet100", "folder"
]

# Sides of the views, in pixels, that suit each data set's images.
VIEW_SIZES: dict[DatasetName, int] = {
    "digits": 32,
    "fashion-mnist": 32,
    "cifar10": 32,
    "cifar100": 32,
    "stl10": 96,
    "imagenet100": 224,
    "folder": 96,
}


class ImageSource(Protocol):
    """Where :class:`Images` come from."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Image.Image: ...

    def sizes(self, indices: np.ndarray) -> list[tuple[int, int]]:
        """(height, width) of these images; of just one where all have the same."""

    def fingerprint(self) -> str:
        """Differs where the images do."""


class Images(Dataset[tuple[Any, int]]):
    """Images with labels, read by index and transformed as torchvision's data sets are.

    Args:
        source: Where the images come from; parts of a data set share it.
        indices: Which of its images these are, in order.
        labels: A class for each of these images, -1 where it has none.
        transform: Applied to each image; ``None`` leaves it as it is.
    """

    def __init__(
        self,
        source: ImageSource,
        indices: np.ndarray,
        labels: np.ndarray,
        transform: Callable[[Image.Image], Any] | None = None,
    ) -> None:
        self.source = source
        self.indices = indices
        self.labels = labels
        self.transform = transform

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = self.source[int(self.indices[index])]
        return image if self.transform is None else self.transform(image), int(self.labels[index])

    def with_transform(self, transform: Callable[[Image.Image], Any]) -> "Images":
        """The same images, transformed otherwise."""
        return Images(self.source, self.indices, self.labels, transform)

    def part(self, indices: np.ndarray) -> "Images":
        """Some of the images."""
        return Images(self.source, self.indices[indices], self.labels[indices], self.transform)

    def fingerprint(self) -> str:
        """Differs where the images or their order do; labels and transform do not count."""
        digest = hashlib.sha256(self.source.fingerprint().encode())
        digest.update(np.ascontiguousarray(self.indices, np.int64).data)
        return digest.hexdigest()

    def image_sizes(self, max_count: int = 1000) -> list[tuple[int, int]]:
        """(height, width) of the images or of an evenly spread sample; decodes nothing.

        One pair where all images have one size. A file whose header cannot be read is left out:
        reading it says why.

        Raises:
            ValueError: If ``max_count`` is not positive, or no header in the sample can be read.
        """
        if max_count < 1:
            raise ValueError(f"max_count: expected at least 1, got {max_count}")
        sample = np.linspace(0, len(self) - 1, min(max_count, len(self))).astype(int)
        sizes = self.source.sizes(self.indices[sample])
        if not sizes:
            raise ValueError(f"data_dir: none of {len(sample)} images' headers can be read")
        return sizes


class ImageSplits(NamedTuple):
    """A data set's parts.

    Attributes:
        pretrain: What is pretrained on, which does not use its labels.
        train: Labelled images, among which the neighbours of the test images are looked for;
            ``None`` where there are no labels.
        test: Labelled images to measure on; ``None`` where there are no labels.
    """

    pretrain: Images
    train: Images | None
    test: Images | None


def load_images(
    name: DatasetName,
    data_dir: Path | None = None,
    *,
    class_names: Path | None = None,
    skip_unreadable: bool = False,
    cache: Path | None = None,
) -> ImageSplits:
    """Load a data set.

    Args:
        name: ``"digits"``: scikit-learn's 1,797 handwritten digits, which it ships; every fifth
            is a test image. ``"fashion-mnist"``, ``"cifar10"``, ``"cifar100"``, ``"stl10"``: read
            from ``data_dir``, or fetched into it by torchvision. Of STL10, the 100,000 unlabelled
            images are pretrained on beside the training images; of the others, the training
            images are. ``"imagenet100"``: image files in ``train/CLASS/`` and ``val/CLASS/``, as
            ILSVRC2012 is laid out; without ``val/`` there is no train and test.

            ``"folder"``: any folder of images. With folders ``train`` and ``val`` or ``test`` in
            it, as ``"imagenet100"``. Else, if all images lie in at least two folders, these are
            the classes and every fifth image is a test image; all images are pretrained on, those
            of the test too, without their labels. Else there are no classes, train and test.
        data_dir: Where the files are; ``data`` unless given, and not needed for digits.
        class_names: For ``"imagenet100"``, a text file with one class folder's name a line, of
            the classes to take; lines that are empty or begin with # are passed over. All classes
            unless given.
        skip_unreadable: Decode all image files once beforehand, and leave out those that cannot
            be read, with a warning; else reading such a file is an error.
        cache: Folder for the decoded pixels of image files, where later runs find them too: three
            bytes a pixel. Other data sets need none.

    Raises:
        ValueError: If an argument is not as above, or files are missing, cannot be read, or
            cannot be fetched.
        OSError: If the disk has no room for the cache.
    """
    if name not in get_args(DatasetName):
        raise ValueError(f"dataset: expected one of {get_args(DatasetName)}, got {name!r}")
    if class_names is not None and name != "imagenet100":
        raise ValueError(f"class_names: expected None with {name!r}, got {class_names}")
    if name == "imagenet100" or name == "folder":
        if data_dir is None or not data_dir.is_dir():
            raise ValueError(f"data_dir: expected a folder of images, got {data_dir}")
        if name == "imagenet100":
            files = _find_train_and_test(data_dir, ("val",), class_names)
        else:
            files = _find_in_any_folder(data_dir)
        return _open_files(files, skip_unreadable, cache)
    if name == "digits":
        digits = load_digits()
        images = in_memory((digits.images * 255 / 16).astype(np.uint8), digits.target)
        train, test = (images.part(part) for part in _every_fifth(len(images)))
        return ImageSplits(train, train, test)
    root = Path("data") if data_dir is None else data_dir
    if name == "stl10":
        return _stl10(root)
    if name == "fashion-mnist":
        train, test = _fashion_mnist(root, "train"), _fashion_mnist(root, "t10k")
    else:
        dataset = CIFAR10 if name == "cifar10" else CIFAR100
        with _fetching(name, root):
            fetched = [dataset(root, train, download=True) for train in (True, False)]
        train, test = (in_memory(part.data, np.asarray(part.targets)) for part in fetched)
    return ImageSplits(train, train, test)


def load_labelled(
    name: DatasetName,
    data_dir: Path | None,
    batch_size: int,
    max_images: int | None = None,
) -> tuple[Images, Images]:
    """Load the training and test images of a data set with classes.

    Args:
        name: As of :func:`load_images`.
        data_dir: Likewise.
        batch_size: Of training, which needs at least so many images.
        max_images: Take the first so many training images only.

    Raises:
        ValueError: If there are no classes or too few images, or as :func:`load_images`.
    """
    _, train, test = load_images(name, data_dir)
    if train is None or test is None:
        raise ValueError(
            f"data_dir: expected class folders in {data_dir}, whose labels measure what is "
            f"learned, got only images without labels"
        )
    if max_images is not None:
        train = train.part(np.arange(min(max_images, len(train))))
    if len(train) < batch_size:
        raise ValueError(f"batch_size: expected at most the {len(train)} images, got {batch_size}")
    return train, test


class _Array:
    """Pixels in memory, uint8 (n, H, W) or (n, H, W, 3)."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Image.Image:
        return Image.fromarray(self.pixels[index])

    def sizes(self, indices: np.ndarray) -> list[tuple[int, int]]:
        """The images' one (height, width)."""
        return [(self.pixels.shape[1], self.pixels.shape[2])]

    def fingerprint(self) -> str:
        """A digest of shape and pixels."""
        digest = hashlib.sha256(str(self.pixels.shape).encode())
        digest.update(np.ascontiguousarray(self.pixels).data)
        return digest.hexdigest()


def in_memory(pixels: np.ndarray, labels: np.ndarray) -> Images:
    """Images of an array, uint8 (n, H, W) or (n, H, W, 3)."""
    return Images(_Array(pixels), np.arange(len(labels)), labels)


def _every_fifth(count: int) -> tuple[np.ndarray, np.ndarray]:
    held_out = np.arange(count) % 5 == 0
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


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


def _fashion_mnist(root: Path, part: Literal["train", "t10k"]) -> Images:
    """Read the original .gz files where they are, and leave it to torchvision where not."""
    files = [root / f"{part}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")]
    if not all(file.is_file() for file in files):
        with _fetching("fashion-mnist", root):
            fetched = FashionMNIST(root, train=part == "train", download=True)
        return in_memory(fetched.data.numpy(), fetched.targets.numpy())
    pixels, labels = (np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8) for file in files)
    # The headers: magic number, count, and for images height and width, four bytes each.
    return in_memory(pixels[16:].reshape(-1, 28, 28), labels[8:].astype(np.int64))


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


def _stl10(root: Path) -> ImageSplits:
    folder = root / STL10.base_folder
    if wrong := wrong_stl10_files(folder):
        with _fetching("stl10", root, f" ({wrong})"):
            STL10(root, "train", download=True)
        if wrong := wrong_stl10_files(folder):
            raise ValueError(f"data_dir: stl10 as fetched is not whole: {wrong}")
    train, test = (
        np.fromfile(folder / name, np.uint8).astype(np.int64) - 1
        for name in ("train_y.bin", "test_y.bin")
    )
    unlabelled = np.full(_STL10_COUNTS["unlabeled_X.bin"], -1)
    labels = np.concatenate([train, unlabelled, test])
    images = Images(_STL10Pixels(folder), np.arange(len(labels)), labels)
    first, second = len(train), len(train) + len(unlabelled)
    return ImageSplits(
        images.part(np.arange(second)),
        images.part(np.arange(first)),
        images.part(np.arange(second, len(labels))),
    )


def wrong_stl10_files(folder: Path) -> str:
    """What is wrong with STL10's files, empty if nothing is."""
    wrong = []
    for name, expected in _STL10_BYTES.items():
        if not (folder / name).is_file():
            wrong.append(f"{folder / name} is missing")
        elif (size := (folder / name).stat().st_size) != expected:
            wrong.append(f"{folder / name} has {size} bytes, expected {expected}")
    return "; ".join(wrong)


class _Files(NamedTuple):
    """Image files, a label for each, and the indices of those in each part."""

    paths: list[Path]
    labels: np.ndarray
    pretrain: np.ndarray
    train: np.ndarray | None = None
    test: np.ndarray | None = None


def _find_train_and_test(
    data_dir: Path, test_names: tuple[str, ...], class_names: Path | None
) -> _Files:
    """Class folders in train/ and in the first of ``test_names`` that is there."""
    train = data_dir / "train"
    if not train.is_dir():
        raise ValueError(f"data_dir: expected {train} with class folders in it, found none")
    classes = subfolders(train) if class_names is None else _read_names(class_names)
    label_of = {name: label for label, name in enumerate(classes)}
    paths, labels = _find_classes(train, label_of)
    pretrain = np.arange(len(paths))
    test = next((data_dir / name for name in test_names if (data_dir / name).is_dir()), None)
    if test is None:
        return _Files(paths, labels, pretrain)
    if class_names is None:
        names = subfolders(test)
        if unknown := [name for name in names if name not in label_of]:
            raise ValueError(f"data_dir: {test} has class folders that {train} lacks: {unknown}")
        label_of = {name: label_of[name] for name in names}
    test_paths, test_labels = _find_classes(test, label_of)
    held_out = np.arange(len(paths), len(paths) + len(test_paths))
    return _Files(
        paths + test_paths, np.concatenate([labels, test_labels]), pretrain, pretrain, held_out
    )


def _find_classes(folder: Path, label_of: dict[str, int]) -> tuple[list[Path], np.ndarray]:
    paths: list[Path] = []
    labels: list[int] = []
    for name, label in label_of.items():
        if not (folder / name).is_dir():
            raise ValueError(f"data_dir: {folder} has no folder for the class {name!r}")
        found = find_images(folder / name)
        paths += found
        labels += [label] * len(found)
    if not paths:
        raise ValueError(
            f"data_dir: expected class folders with images in {folder}, found no images in any; "
            f"images without classes are pretrained on as 'folder' with the folder they lie in"
        )
    return paths, np.array(labels)


def _read_names(file: Path) -> list[str]:
    if not file.is_file():
        raise ValueError(f"class_names: expected a text file, got {file}")
    lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    names = [line for line in lines if line and not line.startswith("#")]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"class_names: expected folder names, each once, in {file}, got {names}")
    return names


# Of the folder of held-out images beside train/.
_TEST_NAMES = ("val", "test")


def has_parts(data_dir: Path) -> bool:
    """Whether a folder has class folders in train/ and in val/ or test/, not in itself."""
    return (data_dir / "train").is_dir() and any((data_dir / n).is_dir() for n in _TEST_NAMES)


def _find_in_any_folder(data_dir: Path) -> _Files:
    if has_parts(data_dir):
        return _find_train_and_test(data_dir, _TEST_NAMES, None)
    paths = find_images(data_dir)
    if not paths:
        raise ValueError(f"data_dir: expected a folder of images, found none in {data_dir}")
    everything = np.arange(len(paths))
    inside = [path.relative_to(data_dir).parts for path in paths]
    classes, labels = np.unique([parts[0] for parts in inside], return_inverse=True)
    if len(classes) < 2 or any(len(parts) == 1 for parts in inside):
        return _Files(paths, np.full(len(paths), -1), everything)
    return _Files(paths, labels, everything, *_every_fifth(len(paths)))


def _open_files(files: _Files, skip_unreadable: bool, cache: Path | None) -> ImageSplits:
    source: ImageSource = ImageFiles(files.paths)
    kept = np.arange(len(files.paths))
    if cache is not None:
        source, kept = cache_images(files.paths, cache, skip_unreadable=skip_unreadable)
    elif skip_unreadable:
        kept = readable(files.paths)

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
