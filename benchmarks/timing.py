"""Timing side by side: contenders take turns within one run, so that a busy machine hits all."""

import math
import statistics
import time
from collections.abc import Callable, Mapping

import torch

# Rounds that are timed whatever time they take.
FEWEST = 3


def time_in_turn(
    contenders: Mapping[str, Callable[[], object]],
    rounds: int = 30,
    warmup: int = 3,
    most_seconds: float = math.inf,
) -> dict[str, float]:
    """Median seconds of each contender over rounds in which each runs once.

    Args:
        contenders: Functions to time, by name.
        rounds: How often each is timed.
        warmup: How often each runs before, untimed.
        most_seconds: No further round begins after so many, warm-up left out, once three were
            timed.
    """
    begun = math.inf
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(warmup + rounds):
        if turn == warmup:
            begun = time.perf_counter()
        if turn >= warmup + FEWEST and time.perf_counter() - begun > most_seconds:
            break
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}
