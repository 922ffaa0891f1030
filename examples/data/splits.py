"""What the folders in a folder of images are: splits, classes, or what has to be asked for."""

import re
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Literal, NamedTuple

from PIL import Image

from star_head.examples.data.image_folder import subfolders

Folders = Literal["classes", "splits", "unlabelled"]
"""What the folders at the top of a folder of images are."""
Split = Literal["train", "validation", "test"]

_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training", "trn", "trainval"),
    "validation": ("val", "valid", "validation", "validate", "validating", "dev", "devel",
                   "development", "eval", "evaluation"),
    "test": ("test", "testing", "tst", "heldout", "holdout"),
}  # fmt: skip
# What else such names hold: train2017, training_set, Test Images.
_FILLING = ("dataset", "data", "set", "split", "part", "images", "image", "imgs", "img", "folder")
_COMPANIONS = ("mask", "label", "annotation", "segmentation", "seg", "gt", "groundtruth", "depth",
               "edge", "contour", "trimap", "target")  # fmt: skip

# Two of a kind are looked for among so many folders; more are hardly images and their masks.
_MOST_PAIRED = 10
_SAMPLE = 20


class Splits(NamedTuple):
    """Names of the folders that hold the parts of a data set."""

    train: str
    validation: str | None
    test: str | None


def split_of(name: str) -> Split | None:
    """Which split a folder's name means, in any letter case; ``None`` if none.

    Example:
        >>> [split_of(name) for name in ("Train", "valid", "test_images", "cat")]
        ['train', 'validation', 'test', None]
    """
    word = re.sub(r"[\W_\d]+", "", name.casefold())
    for split, names in _NAMES.items():
        if word in names:
            return split
    for filling in _FILLING:
        if len(word) > len(filling) and (word.startswith(filling) or word.endswith(filling)):
            return split_of(word.removeprefix(filling).removesuffix(filling))
    return None


def find_splits(root: Path, names: Sequence[str] | None = None) -> Splits | None:
    """The splits among the folders in a folder; ``None`` if no name means one.

    Args:
        root: The folder.
        names: Names of its folders (default: all).

    Raises:
        ValueError: If there are splits and not exactly one to train on, or two for another.
    """
    found: dict[Split, list[str]] = {split: [] for split in _NAMES}
    for name in subfolders(root) if names is None else names:
        if split := split_of(name):
            found[split].append(name)
    if not any(found.values()):
        return None
    if len(found["train"]) != 1 or any(len(folders) > 1 for folders in found.values()):
        seen = "; ".join(f"{split}: {', '.join(f) or 'none'}" for split, f in found.items())
        raise _ask(root, f"by their names there are folders for {seen}")
    one = {split: folders[0] if folders else None for split, folders in found.items()}
    return Splits(found["train"][0], one["validation"], one["test"])


def find_all_splits(root: Path) -> Splits | None:
    """The splits in a folder if there is exactly one folder for each of the three."""
    names = {split: name for name in subfolders(root) if (split := split_of(name))}
    if len(names) < len(_NAMES) or len([n for n in subfolders(root) if split_of(n)]) > len(names):
        return None
    return Splits(names["train"], names["validation"], names["test"])


def tell_folders(root: Path, inside: Sequence[tuple[str, ...]]) -> Folders:
    """What the folders at the top of a folder of images are.

    Args:
        root: The folder.
        inside: The path of each of its images, relative to it, by its parts.

    Raises:
        ValueError: If they could be two things; the error says what is seen, and what to do.
    """
    tops: dict[str, list[tuple[str, ...]]] = {}
    for parts in inside:
        if len(parts) > 1:
            tops.setdefault(parts[0], []).append(parts[1:])
    known = [name for name in tops if split_of(name)]
    if known:
        return _tell_splits(root, tops, known)
    if len(tops) == 1:
        (top,) = tops
        within = {parts[0] for parts in tops[top] if len(parts) > 1}
        if len({split_of(name) for name in within} - {None}) > 1:
            raise ValueError(
                f"data_dir: {root / top} holds splits, {', '.join(sorted(within))}; "
                f"give it instead of {root}"
            )
    if len(tops) < 2 or any(len(parts) == 1 for parts in inside):
        return "unlabelled"
    shared = set.intersection(
        *({parts[0].casefold() for parts in paths if len(parts) > 1} for paths in tops.values())
    )
    if len(shared) > 1:
        raise _ask(
            root,
            f"each of its {len(tops)} folders, {_shown(tops)}, has folders of the same names, "
            f"{_shown(shared)}, which could be the classes as well",
        )
    for one, other in combinations(tops, 2) if len(tops) <= _MOST_PAIRED else ():
        if _are_paired(root, one, other, tops):
            raise _ask(
                root,
                f"{one} and {other} hold files of the same names, as images and their masks do",
            )
    return "classes"


def _tell_splits(
    root: Path, tops: dict[str, list[tuple[str, ...]]], known: list[str]
) -> Literal["splits", "unlabelled"]:
    splits = find_splits(root, known)
    assert splits is not None
    if splits.validation is not None or splits.test is not None:
        return "splits"
    if len(tops) > 1:
        others = _shown(name for name in tops if name != splits.train)
        raise _ask(
            root, f"{splits.train} is the name of a split and those beside it are not, {others}"
        )
    has_classes = all(len(parts) > 1 for parts in tops[splits.train])
    return "splits" if has_classes else "unlabelled"


def _are_paired(root: Path, one: str, other: str, tops: dict[str, list[tuple[str, ...]]]) -> bool:
    """Whether two folders hold pairs, as images and their masks are, and not two classes.

    Equal names alone are no sign where they are numbers, as those of many classes' images are:
    then a folder's name has to tell, or that each two have one size and those of one folder alone
    are grey or of a palette.
    """
    first, second = ({_stem(parts): parts for parts in tops[top]} for top in (one, other))
    same = sorted(first.keys() & second.keys())
    if len(same) < 2 or len(same) < min(len(first), len(second)):
        return False
    if any(is_companion(name) for name in (one, other)):
        return True
    if len({re.sub(r"\d+", "", stem) for stem in same}) > 1:
        return True
    pairs = [
        (_header(root.joinpath(one, *first[stem])), _header(root.joinpath(other, *second[stem])))
        for stem in same[:: max(1, len(same) // _SAMPLE)]
    ]
    return (
        all(a[0] == b[0] for a, b in pairs)
        and len({a[1] for a, _ in pairs}) == 1
        and all(a[1] != b[1] for a, b in pairs)
    )


def _header(path: Path) -> tuple[tuple[int, int] | None, bool | None]:
    """An image's size and whether it has colours of its own; None of a file without a header."""
    try:
        with Image.open(path) as image:
            return image.size, image.mode not in ("1", "L", "P", "I", "I;16")
    except Exception:  # on broken files, Pillow's readers raise almost anything
        return None, None


def _stem(parts: tuple[str, ...]) -> str:
    """A path without its suffix and without a word that says that it is a mask."""
    name = Path(*parts).with_suffix("").as_posix().casefold()
    return re.sub(rf"[\W_](?:{'|'.join(_COMPANIONS)})s?$", "", name)


def is_companion(name: str) -> bool:
    """Whether a folder's name says that it holds what belongs to images, such as masks."""
    words = re.split(r"[\W_\d]+", name.casefold())
    return any(word.removesuffix("s") in _COMPANIONS for word in [*words, "".join(words)])


def _shown(names: object) -> str:
    listed = sorted(names)  # type: ignore[call-overload]
    return ", ".join(listed[:5]) + (", ..." if len(listed) > 5 else "")


def _ask(root: Path, seen: str) -> ValueError:
    return ValueError(
        f"data_dir: {root} could mean two things: {seen}; say what its folders are by "
        f"folders='classes' (each is a class), folders='splits' (one named train, with class "
        f"folders in it, and at most one for validation and one for the test, such as val and "
        f"test) or folders='unlabelled' (images without classes), or give one of the folders"
    )
