"""A progress bar where there is tqdm, which the solvers do not need."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def steps(items: Iterable[T], description: str) -> Iterable[T]:
    """The items, with a bar if they take more than two seconds."""
    try:
        from tqdm import tqdm
    except ImportError:
        return items
    shown: Iterable[T] = tqdm(items, desc=description, delay=2, mininterval=1)
    return shown


@contextlib.contextmanager
def counting(total: int, description: str, unit: str = "img") -> Iterator[Callable[[int], object]]:
    """Yield what is told how many more are done."""
    try:
        from tqdm import tqdm
    except ImportError:
        yield lambda done: None
        return
    with tqdm(total=total, desc=description, unit=unit, delay=2, mininterval=1) as bar:
        yield bar.update
