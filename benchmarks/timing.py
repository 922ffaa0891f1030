"""Timing side by side: contenders take turns within one run, so that a busy machine hits all."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch


def time_in_turn(
    contenders: Mapping[str, Callable[[], object]], rounds: int = 30, warmup: int = 3
) -> dict[str, float]:
    """Median seconds of each contender over rounds in which each runs once.

    Args:
        contenders: Functions to time, by name.
        rounds: How often each is timed.
        warmup: How often each runs before, untimed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(warmup + rounds):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}
