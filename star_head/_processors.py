"""How many processors a process may use."""

import os


def available_processors() -> int:
    """Processors that this process may use; those of the machine where the system does not say."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def loading_processes(items: int) -> int:
    """As many as read items faster than one process alone, at most 16; 0 for a few items."""
    return min(16, available_processors(), items // 64)
