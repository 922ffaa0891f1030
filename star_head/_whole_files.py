"""Files that are replaced whole or not at all."""

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: Path, *, several: bool = False) -> Iterator[Path]:
    """Yield a place beside ``path`` to write to, and move it there once all is on the disk.

    Where writing fails, ``path`` stays as it was and the place is cleared; what a killed process
    left there is written over.

    Args:
        path: What is replaced; ``~`` is the user's own folder.
        several: Several processes may do so at a time: each has a place of its own, and what a
            killed one left stays there.

    Raises:
        OSError: If it cannot be written; the error names ``path`` and says why.
    """
    path = path.expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    own = f".{uuid.uuid4().hex}" if several else ""
    scratch = path.with_name(f".{path.name}{own}.partial")
    try:
        with writing(path):
            yield scratch
            with open(scratch, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(scratch, path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write, of which the system does not name the file, into one that does."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{path} could not be written: {error.strerror or error}") from error


def write_json(path: Path, results: dict[str, Any], *, allow_nan: bool = True) -> None:
    """Write results as indented JSON; without ``allow_nan``, nan and inf are a ValueError."""
    with replacing(path) as scratch:
        scratch.write_text(json.dumps(results, indent=2, allow_nan=allow_nan) + "\n")
