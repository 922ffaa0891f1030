"""How many processors a process may use."""

import os


def available_processors() -> int:
    """Processors that this process may use; those of the machine where the system does not say."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
