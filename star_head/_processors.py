"""How many processors a process may use."""

import os


def available_processors() -> int:
    """Processors that this process may use; 1 where the system does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
