"""Files that say which images a published data set has: what goes wrong with one names it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat


class NotAsPublished(Exception):
    """A file is not what its name says."""


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Name the file in whatever goes wrong with it but that it is missing."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, NotAsPublished):
        raise
    except Exception as error:  # what a broken file raises depends on its format and on how
        why = str(error) or type(error).__name__
        raise NotAsPublished(f"{path} is not as published: {why}; delete it") from error


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty."""
    with reading(path):
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        lines = [line for line in lines if line]
        if lines and lines[0].startswith("<"):  # the page of an error
            raise ValueError(f"expected a list, got {lines[0][:40]!r}")
    return lines


def read_mat(path: Path, key: str) -> np.ndarray:
    """An array of a MATLAB file."""
    with reading(path):
        with open(path, "rb") as file:
            content: dict[str, Any] = loadmat(file, squeeze_me=True)
        if key not in content:
            raise ValueError(
                f"expected {key!r} in it, got {[k for k in content if not k.startswith('_')]}"
            )
        return np.atleast_1d(content[key])
