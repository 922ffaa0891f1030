"""Random numbers from a seed, drawn without a trace."""

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch


def mix_seeds(*numbers: int) -> int:
    """One seed of 64 bits out of several numbers, unlike for unlike ones."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from torch's generator of the host as after this seed, and leave it as it was."""
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would also note the seed down for every GPU, each time.
        torch.default_generator.manual_seed(seed)
        yield


@contextlib.contextmanager
def all_seeded(seed: int) -> Iterator[None]:
    """The same for NumPy's and Python's global generators too."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        with seeded(seed):
            np.random.seed(seed % 2**32)  # noqa: NPY002
            random.seed(seed)
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
