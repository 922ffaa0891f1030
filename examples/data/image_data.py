"""Image data sets for the examples: what is pretrained on, and labelled parts to measure with."""

from pathlib import Path
from typing import Literal, get_args

import numpy as np
from sklearn.datasets import load_digits

from star_head.adapters._images import Color, check_background
from star_head.adapters._pixel_range import PixelRange, check_pixel_range
from star_head.examples.data.folder_data import find_imagenet, find_in_any_folder, open_files
from star_head.examples.data.image_files import Conversion
from star_head.examples.data.image_folder import folder_that_is_there
from star_head.examples.data.images import Images, ImageSplits, in_memory
from star_head.examples.data.published import load_cifar, load_fashion_mnist, load_stl10
from star_head.examples.data.splits import Folders
from star_head.examples.data.stratified import even_part

__all__ = ["VIEW_SIZES", "DatasetName", "ImageSplits", "Images", "load_images", "load_labelled"]

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


def load_images(
    name: DatasetName,
    data_dir: Path | None = None,
    *,
    class_names: Path | None = None,
    skip_unreadable: bool = False,
    cache: Path | None = None,
    pixel_range: PixelRange | None = None,
    background: Color | None = None,
    folders: Folders | None = None,
) -> ImageSplits:
    """Load a data set.

    Args:
        name: ``"digits"``: scikit-learn's 1,797 handwritten digits, which it ships; every fifth
            is a test image. ``"fashion-mnist"``, ``"cifar10"``, ``"cifar100"``, ``"stl10"``: read
            from ``data_dir``, or fetched into it by torchvision. Of STL10, the 100,000 unlabelled
            images are pretrained on beside the training images; of the others, the training
            images are. ``"imagenet100"``: image files in ``train/CLASS/`` and ``val/CLASS/``, as
            ILSVRC2012 is laid out; without ``val/`` there is no train and test.

            ``"folder"``: any folder of images. With folders for splits in it, as
            ``"imagenet100"``: ``train`` and ``val`` or ``test``, or other usual names of these,
            such as ``Training``, ``valid`` and ``dev``. Of validation and test, the validation
            images are measured on, and neither is pretrained on. Else, if all images lie in at
            least two folders, these are the classes and every fifth image is a test image, but
            the only one of a class; all images are pretrained on, those of the test too, without
            their labels. Else there are no classes, train and test.
        data_dir: Where the files are; default: ``data``. Not needed for digits.
        class_names: For ``"imagenet100"``, a text file with one class folder's name a line, of
            the classes to take; lines that are empty or begin with # are passed over. Default: all
            classes.
        skip_unreadable: Decode all image files once beforehand, and leave out those that cannot
            be read, with a warning; else reading such a file is an error.
        cache: Folder for the decoded pixels of image files, where later runs find them too: three
            bytes a pixel. Other data sets need none.
        pixel_range: The pixel values (low, high) that become black and white, in image files of
            more than 8 bits. Without it, reading such a file is an error.
        background: The colour (red, green, blue) under transparent pixels of image files; default:
            those that are stored there.
        folders: For ``"folder"``, what the folders at its top are, where their names do not say:
            ``"splits"``, ``"classes"``, or ``"unlabelled"``, of images without classes.

    Raises:
        ValueError: If an argument is not as above, or files are missing, are not as published,
            cannot be read, or cannot be fetched; or if ``folders`` is not given and the folders
            could mean two things.
        OSError: If the disk has no room for the cache.
    """
    if name not in get_args(DatasetName):
        raise ValueError(f"dataset: expected one of {get_args(DatasetName)}, got {name!r}")
    if class_names is not None and name != "imagenet100":
        raise ValueError(f"class_names: expected None with {name!r}, got {class_names}")
    if folders is not None and (name != "folder" or folders not in get_args(Folders)):
        raise ValueError(
            f"folders: expected None or, with 'folder', one of {get_args(Folders)}, "
            f"got {folders!r} with {name!r}"
        )
    conversion = Conversion(check_pixel_range(pixel_range), check_background(background))
    data_dir, class_names, cache = (
        None if path is None else Path(path).expanduser() for path in (data_dir, class_names, cache)
    )
    if name == "imagenet100" or name == "folder":
        data_dir = folder_that_is_there(data_dir, "a folder of images")
        if name == "imagenet100":
            files = find_imagenet(data_dir, class_names)
        else:
            files = find_in_any_folder(data_dir, folders)
        return open_files(files, skip_unreadable, cache, conversion)
    if conversion != Conversion():
        raise ValueError(
            f"pixel_range, background: expected None with {name!r}, whose images are 8-bit RGB or "
            f"grey, got {pixel_range} and {background}"
        )
    if data_dir is not None:
        folder_that_is_there(data_dir, "a folder that is there, if only to be fetched into")
    if name == "digits":
        digits = load_digits()
        images = in_memory((digits.images * 255 / 16).astype(np.uint8), digits.target)
        fifth = np.arange(len(images)) % 5 == 0
        train, test = (images.part(np.flatnonzero(part)) for part in (~fifth, fifth))
        return ImageSplits(train, train, test)
    root = Path("data") if data_dir is None else data_dir
    if name == "stl10":
        return load_stl10(root)
    return load_fashion_mnist(root) if name == "fashion-mnist" else load_cifar(name, root)


def load_labelled(
    name: DatasetName,
    data_dir: Path | None,
    batch_size: int,
    max_images: int | None = None,
    *,
    pixel_range: PixelRange | None = None,
    background: Color | None = None,
    folders: Folders | None = None,
) -> tuple[Images, Images]:
    """Load the training and test images of a data set with classes.

    Args:
        name: As in :func:`load_images`.
        data_dir: As in :func:`load_images`.
        batch_size: Batch size of training, which needs at least so many images.
        max_images: Take so many training images only: of image files an even part of each class,
            of other data sets the first.
        pixel_range: As in :func:`load_images`.
        background: As in :func:`load_images`.
        folders: As in :func:`load_images`.

    Raises:
        ValueError: If there are no classes or too few images, or as :func:`load_images`.
    """
    _, train, test = load_images(
        name, data_dir, pixel_range=pixel_range, background=background, folders=folders
    )
    if train is None or test is None:
        raise ValueError(
            f"data_dir: expected class folders in {data_dir}, whose labels measure what is "
            f"learned, got only images without labels"
        )
    if max_images is not None:
        if max_images < 1:
            raise ValueError(f"max_images: expected at least 1, got {max_images}")
        if name in ("folder", "imagenet100"):  # whose images are in the order of their classes
            train = train.part(even_part(train.labels, max_images))
        train = train.part(np.arange(min(max_images, len(train))))
    if len(train) < batch_size:
        raise ValueError(f"batch_size: expected at most the {len(train)} images, got {batch_size}")
    return train, test
