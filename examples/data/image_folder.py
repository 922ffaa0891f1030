"""Finding image files in folders, and saying what was passed over."""

import functools
import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from PIL import Image

# Formats whose pixels Pillow does not decode itself: it calls another program or leaves them out.
_NOT_DECODED = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}


class PassedOver:
    """Counts the files in folders that are not images by their suffix."""

    def __init__(self) -> None:
        self.suffixes: Counter[str] = Counter()

    def warn(self, place: Path, empty: Sequence[str] = ()) -> None:
        """Say what was passed over in a folder, and which class folders hold no image.

        Nothing is said where nothing was passed over and no class is empty.
        """
        told = []
        if self.suffixes:
            counts = [f"{n} {suffix}" for suffix, n in self.suffixes.most_common()]
            told.append(f"files that Pillow does not read are passed over: {_some(counts)}")
        if empty:
            told.append(f"class folders without an image: {_some(map(repr, empty))}")
        if told:
            warnings.warn(f"{place}: {'; '.join(told)}", stacklevel=3)


def _some(names: Iterable[str]) -> str:
    every = list(names)
    return ", ".join(every[:10]) + (", ..." if len(every) > 10 else "")


@functools.cache
def image_suffixes() -> frozenset[str]:
    """Suffixes, in lower case, of the formats that Pillow decodes."""
    return frozenset(
        suffix
        for suffix, kind in Image.registered_extensions().items()
        if kind in Image.OPEN and kind not in _NOT_DECODED
    )


def find_images(root: Path, passed_over: PassedOver | None = None) -> list[Path]:
    """List the image files in a folder and all folders in it.

    A folder's own files come before those of its subfolders, each sorted by name. Which files are
    images is told by the suffixes of what Pillow decodes, in upper or lower case. Names that begin
    with a dot are left out. Links are followed, but for those to a folder that they lie in; a
    link to nothing is listed and cannot be read.

    Args:
        root: The folder.
        passed_over: Counts the files with other suffixes.
    """
    passed_over = PassedOver() if passed_over is None else passed_over
    return list(_walk(os.fspath(root), frozenset(), passed_over))


def fingerprint(paths: Sequence[Path]) -> str:
    """A digest of files by path, size and time of change."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            status = os.stat(path)
            state = f"{status.st_size} {status.st_mtime_ns}"
        except OSError:  # a link to nothing, say
            state = "missing"
        digest.update(os.fsencode(os.path.abspath(path)) + f"\0{state}\0".encode())
    return digest.hexdigest()


def subfolders(root: Path) -> list[str]:
    """Sorted names of the folders in a folder, without those that begin with a dot."""
    return sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def find_of_classes(
    root: Path, names: Iterable[str], passed_over: PassedOver | None = None
) -> list[tuple[Path, str]]:
    """The images in class folders, each with its folder's name."""
    return [(path, name) for name in names for path in find_images(root / name, passed_over)]


def _walk(
    folder: str, above: frozenset[tuple[int, int]], passed_over: PassedOver
) -> Iterator[Path]:
    status = os.stat(folder)
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        return
    with os.scandir(folder) as listing:
        entries = sorted(listing, key=lambda entry: entry.name)
    inner = []
    for entry in entries:
        if entry.name.startswith("."):
            continue
        # DirEntry.is_dir() fails on a link to itself, where os.path.isdir() says no.
        if entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry)):
            inner.append(entry.path)
            continue
        suffix = os.path.splitext(entry.name)[1].lower()
        if suffix in image_suffixes():
            yield Path(entry.path)
        else:
            passed_over.suffixes[suffix or "without a suffix"] += 1
    for path in inner:
        yield from _walk(path, above | {identity}, passed_over)


def folder_that_is_there(data_dir: Path | None, expected: str = "a folder that is there") -> Path:
    """A folder that was named, with ``~`` as the user's own.

    Raises:
        ValueError: If it is not there.
    """
    folder = None if data_dir is None else Path(data_dir).expanduser()
    if folder is None or not folder.is_dir():
        raise ValueError(f"data_dir: expected {expected}, got {data_dir}")
    return folder
