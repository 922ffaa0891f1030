"""The labelled data sets on which frozen features are judged, in one form."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple, cast, get_args

import numpy as np

from star_head.adapters._images import Color, check_background
from star_head.adapters._pixel_range import PixelRange, check_pixel_range
from star_head.examples.data.class_names import class_names
from star_head.examples.data.image_data import DatasetName, load_images
from star_head.examples.data.image_files import PLAIN, Conversion, ImageFiles
from star_head.examples.data.image_folder import folder_that_is_there
from star_head.examples.data.images import Images, ImageSplits
from star_head.examples.data.listings import Listing, read_parts
from star_head.examples.data.splits import Folders, find_all_splits
from star_head.examples.data.stratified import hold_out
from star_head.examples.data.transfer_files import ListedName, read_listing

TransferName = Literal[
    "cifar10",
    "cifar100",
    ListedName,
    "stl10",
    "imagenet100",
    "fashion-mnist",
    "digits",
    "folder",
]
Metric = Literal["top-1", "mean per class"]

_MEAN_PER_CLASS = ("aircraft", "caltech101", "flowers102", "pets")

# Images to choose by, of how many for training. A fifth of them where nothing is said.
_VALIDATION: dict[TransferName, tuple[int, int]] = {
    "cifar10": (5_000, 50_000),
    "cifar100": (5_000, 50_000),
    "food101": (7_575, 75_750),
    "pets": (740, 3_680),
    "cars": (1_650, 8_144),
    "mit67": (670, 5_360),
    "stl10": (500, 5_000),
    "imagenet100": (12_669, 126_689),
    "fashion-mnist": (5_000, 60_000),
}


class TransferData(NamedTuple):
    """A labelled data set as linear evaluation uses it.

    Attributes:
        train: What is fitted on at last: images to train on, then those to choose by.
        train_count: How many of ``train`` are fitted on while the strength is chosen, from the
            first on; the rest is the validation part.
        test: What is measured on.
        num_classes: Labels are below it; each is in ``train[:train_count]``.
        metric: The data set's own: share of right predictions, or the mean of the classes' shares.
    """

    train: Images
    train_count: int
    test: Images
    num_classes: int
    metric: Metric


def load_transfer(
    name: TransferName,
    data_dir: Path | None = None,
    *,
    pixel_range: PixelRange | None = None,
    background: Color | None = None,
    folders: Folders | None = None,
) -> TransferData:
    """Load a data set with its validation part, which is the same on every call.

    Aircraft, DTD (partition 1) and Flowers102 have a validation part of their own, Caltech101 is
    drawn as :func:`read_listing` says. Of the others it is drawn from the training images with a
    fixed seed, each class with its share, so many as the paper's protocol has: CIFAR 5,000, Food
    7,575, Pets 740, Cars 1,650, MIT67 670, STL10 500, ImageNet100 12,669, of fewer images
    proportionally. Fashion-MNIST 5,000 and a fifth of SUN397 (partition 1), digits and folders
    are this program's choice.

    Args:
        name: CIFAR, Fashion-MNIST and STL10 are read or fetched as :func:`load_images` does it,
            and digits need no files. ``"folder"``: ``train``, ``val`` and ``test``, or other usual
            names of these, with class folders in them; or what :func:`load_images` takes that has
            classes.
        data_dir: Where each data set has its folder, laid out as torchvision does it; default:
            ``data``. The folders are food-101, mit67, oxford-iiit-pet, flowers-102, caltech101,
            stanford_cars, fgvc-aircraft-2013b, dtd, SUN397, cifar-10-batches-py,
            cifar-100-python, stl10_binary, imagenet100 (with train and val in it), FashionMNIST
            (or its four .gz files). For ``"folder"``, the folder.
        pixel_range: For ``"folder"``, as in :func:`load_images`.
        background: For ``"folder"``, as in :func:`load_images`.
        folders: For ``"folder"``, as in :func:`load_images`.

    Raises:
        ValueError: If the data set is not there, with how to get it; if it is not as expected;
            or if a class has no images to train on.
    """
    if name not in get_args(TransferName):
        raise ValueError(f"dataset: expected one of {get_args(TransferName)}, got {name!r}")
    given = {"pixel_range": pixel_range, "background": background, "folders": folders}
    if name != "folder":
        if any(value is not None for value in given.values()):
            raise ValueError(f"{', '.join(given)}: expected None with {name!r}, got {given}")
        return _load_published(name, data_dir)
    data_dir = folder_that_is_there(data_dir, "a folder of images")
    if folders in (None, "splits") and (splits := find_all_splits(data_dir)):
        conversion = Conversion(check_pixel_range(pixel_range), check_background(background))
        return _of_listing(name, read_parts(data_dir, splits), conversion)
    images = load_images(
        name, data_dir, pixel_range=pixel_range, background=background, folders=folders
    )
    return _of_images(name, data_dir, images, folders)


def _load_published(name: TransferName, data_dir: Path | None) -> TransferData:
    root = Path("data") if data_dir is None else folder_that_is_there(data_dir)
    if name in get_args(ListedName):
        return _of_listing(name, read_listing(cast(ListedName, name), root))
    place = root / name if name == "imagenet100" else data_dir
    if name == "imagenet100" and not (root / name).is_dir():
        raise ValueError(
            f"data_dir: imagenet100 is not in {place}\nGet ILSVRC2012 from https://image-net.org "
            f"and put the folders of 100 of its classes, or links to them, into "
            f"{root / name / 'train'} and {root / name / 'val'}"
        )
    return _of_images(name, place, load_images(cast(DatasetName, name), place))


def _of_images(
    name: TransferName, place: Path | None, splits: ImageSplits, folders: Folders | None = None
) -> TransferData:
    if splits.train is None or splits.test is None:
        raise ValueError(
            f"data_dir: expected class folders in {place}, or train/ and val/ or test/ with these, "
            f"found images without"
        )
    count = int(splits.train.labels.max()) + 1

    def names() -> list[str]:
        return class_names(cast(DatasetName, name), place, count, folders)

    return _with_drawn_validation(name, splits.train, splits.test, count, names)


def _of_listing(
    name: TransferName, listing: Listing, conversion: Conversion = PLAIN
) -> TransferData:
    own_validation = listing.validation or []
    samples = [*listing.train, *own_validation, *listing.test]
    label_of = {c: label for label, c in enumerate(listing.classes)}
    images = Images(
        ImageFiles([path for path, _ in samples], conversion),
        np.arange(len(samples)),
        np.array([label_of[c] for _, c in samples]),
    )
    count = len(listing.train)
    fitted = count + len(own_validation)
    train, test = images.part(np.arange(fitted)), images.part(np.arange(fitted, len(images)))
    if not own_validation:
        return _with_drawn_validation(
            name, train, test, len(listing.classes), lambda: listing.classes
        )
    return TransferData(train, count, test, len(listing.classes), _metric(name))


def _with_drawn_validation(
    name: TransferName,
    train: Images,
    test: Images,
    num_classes: int,
    classes: Callable[[], list[str]],
) -> TransferData:
    if num_classes < 2:
        raise ValueError(f"data_dir: expected two classes or more in {name}, got {num_classes}")
    present = np.bincount(train.labels, minlength=num_classes)
    if not present.all():
        raise ValueError(
            f"data_dir: {name} has no training images of class {classes()[present.argmin()]!r}"
        )
    images, of = _VALIDATION.get(name, (1, 5))
    fitted, chosen_by = hold_out(train.labels, max(1, round(len(train) * images / of)))
    if not len(chosen_by):
        raise ValueError(
            f"data_dir: expected a class of two training images or more in {name}, one of them to "
            f"choose by; each has one"
        )
    if test.labels.max() >= num_classes:
        raise ValueError(
            f"data_dir: {name} has test images of class {test.labels.max()} and training images "
            f"of {num_classes} classes"
        )
    both = train.part(np.concatenate([fitted, chosen_by]))
    return TransferData(both, len(fitted), test, num_classes, _metric(name))


def _metric(name: TransferName) -> Metric:
    return "mean per class" if name in _MEAN_PER_CLASS else "top-1"
