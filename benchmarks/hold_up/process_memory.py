"""Memory and open files of a process and of those that it started, from Linux's /proc."""

from pathlib import Path
from typing import NamedTuple


class Usage(NamedTuple):
    """What a process holds.

    Attributes:
        rss: Its resident memory in MB, pages that it shares with others counted in full.
        pss: The same, a page that n processes share counted as an nth.
        files: Open files, pipes and sockets among them.
    """

    rss: float
    pss: float
    files: int


def usage(process: int) -> Usage | None:
    """What a process holds now; None if there is no such process any more."""
    place = Path("/proc", str(process))
    try:
        sizes = dict(
            line.split(":", 1) for line in (place / "smaps_rollup").read_text().splitlines()[1:]
        )
        files = len(list((place / "fd").iterdir()))
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Usage(_megabytes(sizes["Rss"]), _megabytes(sizes["Pss"]), files)


def children(process: int) -> list[int]:
    """The processes that a process's threads started and that have not ended, sorted."""
    found: list[int] = []
    try:
        for thread in Path("/proc", str(process), "task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):  # it, or a thread of it, has just ended
        pass
    return sorted(found)


def _megabytes(size: str) -> float:
    """Of what /proc writes as "12 kB", which are units of 1,024 bytes."""
    return int(size.split()[0]) * 1024 / 1e6
