"""Files that are replaced whole or not at all."""

import contextlib
import errno
import json
import math
import os
import uuid
from collections.abc import Iterator, Mapping
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
    """Turn a failure to write, of which the system does not name the file, into one that does.

    What fails at another file, which is read meanwhile say, stays as it is.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None and not _is_at(error.filename, path):
            raise
        if error.filename is None and error.errno in _NOT_OF_WRITING:
            raise
        raise OSError(f"{path} could not be written: {error.strerror or error}") from error


# What opening and connecting run into, and writing to an open file does not.
_NOT_OF_WRITING = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOENT, errno.ECONNREFUSED))


def _is_at(name: Any, path: Path) -> bool:
    """Whether a name is that of ``path``, of its place beside it, or of its folder."""
    found = Path(os.fsdecode(name)) if isinstance(name, str | bytes | os.PathLike) else path
    beside = found.parent == path.parent and path.name in found.name
    return beside or found == path.parent


def write_json(path: Path, results: Mapping[str, Any], *, allow_nan: bool = True) -> None:
    """Write results as indented JSON.

    JSON has no nan and no inf: they are written as ``null``, such as the interval of one episode;
    without ``allow_nan`` they are a ValueError.
    """
    found = _without_nan(results) if allow_nan else results
    with replacing(path) as scratch:
        scratch.write_text(json.dumps(found, indent=2, allow_nan=False) + "\n")


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
