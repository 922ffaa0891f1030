"""Trees of operations: a walk that draws, a walk that replays, and one without anything random."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Any

import numpy as np
import torch

from star_head.augmentation import ParameterSpec

from .canvas import Canvas
from .operation import Fixed, Operation

Size = tuple[int, int]
_PLAIN = (bool, int, float, str, tuple, list, Enum)


class Walk:
    """Where a walk has come to.

    Attributes:
        image: The image so far; ``None`` where only its shape is known.
        canvas: Its shape, and what it shows of the source image.
        values: The numbers, in the columns of the whole transform.
    """

    __slots__ = ("canvas", "image", "values")

    def __init__(self, image: Any, canvas: Canvas, values: list[float]) -> None:
        self.image = image
        self.canvas = canvas
        self.values = values


class Node:
    """A part of a transform.

    Attributes:
        name: What it is, for messages and to tell trees apart.
        children: The parts that it consists of.
        size: The (height, width) that it gives every image, if any.
        needs_image: Whether it cannot be walked without an image.
    """

    needs_image: bool

    def __init__(self, name: str, children: Sequence[Node] = ()) -> None:
        self.name = name
        self.children = tuple(children)
        self.size: Size | None = None
        self.needs_image = any(child.needs_image for child in children)

    def run(self, walk: Walk) -> Any:
        """Draw what the transform draws at this place, go on past it, and return the draws."""
        raise NotImplementedError

    def replay(self, image: Any, drawn: Any) -> Any:
        """Make of an image what was made of it with these draws."""
        raise NotImplementedError

    def original(self, image: Any) -> Any:
        """Make of an image what is the same for every view."""
        return image

    def leaves(self) -> Iterator[Leaf]:
        """The operations in it, in the order of the transform."""
        for child in self.children:
            yield from child.leaves()

    def parts(self) -> Iterator[str]:
        """What tells it from other trees: all its parts, with what they consist of."""
        yield f"{self.name} of {len(self.children)}" if self.children else self.name
        for child in self.children:
            yield from child.parts()


class Leaf(Node):
    """An operation with numbers.

    Attributes:
        operation: The operation itself.
        parameters: Its numbers.
        columns: (name, column) of each in the whole transform's vector, given from outside.
    """

    def __init__(self, operation: Any, parameters: Sequence[ParameterSpec]) -> None:
        super().__init__(type(operation).__name__)
        self.operation = operation
        self.parameters = tuple(parameters)
        self.columns: list[tuple[str, int]] = []

    def leaves(self) -> Iterator[Leaf]:
        """Itself."""
        yield self

    def parts(self) -> Iterator[str]:
        """Its name and arguments."""
        arguments = ", ".join(
            f"{name}={value}"
            for name, value in vars(self.operation).items()
            if isinstance(value, _PLAIN) and not name.startswith("_") and name != "training"
        )
        yield f"{self.name}({arguments})"


class RandomLeaf(Leaf):
    """An operation that draws."""

    def __init__(self, operation: Any, known: Operation, conditional: bool) -> None:
        super().__init__(operation, known.parameters(operation, conditional))
        self.known = known
        self.size = known.size(operation)
        self.needs_image = known.needs_image

    def run(self, walk: Walk) -> Any:
        known, operation, image = self.known, self.operation, walk.image
        drawn = known.draw(operation, walk.canvas.stand_in() if image is None else image)
        if drawn is None:
            return None
        if self.columns:
            values = known.values(operation, drawn, walk.canvas)
            for name, column in self.columns:
                if name in values:
                    walk.values[column] = values[name]
        walk.canvas = known.after(operation, drawn, walk.canvas)
        if image is not None:
            walk.image = known.apply(operation, image, drawn)
        return drawn

    def replay(self, image: Any, drawn: Any) -> Any:
        return image if drawn is None else self.known.apply(self.operation, image, drawn)

    def original(self, image: Any) -> Any:
        return self.known.center(self.operation, image)


class FixedLeaf(Leaf):
    """An operation that does the same to every image that it is given."""

    def __init__(self, operation: Any, known: Fixed, conditional: bool) -> None:
        super().__init__(operation, known.numbers if conditional else ())
        self.known = known
        self.size = known.size(operation)

    def run(self, walk: Walk) -> Any:
        for _, column in self.columns:
            walk.values[column] = 1.0
        walk.canvas = self.known.after(self.operation, walk.canvas)
        if walk.image is not None:
            walk.image = self.known.apply(self.operation, walk.image)
        return ()

    def replay(self, image: Any, drawn: Any) -> Any:
        return self.known.apply(self.operation, image)

    def original(self, image: Any) -> Any:
        return self.known.apply(self.operation, image)


def _states() -> tuple[Any, Any, Any]:
    return torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002


def _set_states(states: tuple[Any, Any, Any]) -> None:
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    random.setstate(states[2])


class Unrecorded(Node):
    """An operation of which nothing is known; replayed from the generators' states before it."""

    def __init__(self, operation: Callable[[Any], Any]) -> None:
        super().__init__(getattr(operation, "__name__", type(operation).__name__))
        self.operation = operation
        self.needs_image = True

    def run(self, walk: Walk) -> Any:
        states = _states()
        walk.image = self.operation(walk.image)
        return states

    def replay(self, image: Any, drawn: Any) -> Any:
        states = _states()
        try:
            _set_states(drawn)
            return self.operation(image)
        finally:
            _set_states(states)


class Steps(Node):
    """Parts one after another."""

    def __init__(self, name: str, children: Sequence[Node]) -> None:
        super().__init__(name, children)
        sizes = [child.size for child in children if child.size is not None]
        self.size = sizes[-1] if sizes else None

    def run(self, walk: Walk) -> Any:
        return [child.run(walk) for child in self.children]

    def replay(self, image: Any, drawn: Any) -> Any:
        for child, its in zip(self.children, drawn, strict=True):
            image = child.replay(image, its)
        return image

    def original(self, image: Any) -> Any:
        for child in self.children:
            image = child.original(image)
        return image


class Sometimes(Node):
    """Parts that are applied together or not at all."""

    def __init__(self, name: str, steps: Steps, applied: Callable[[], bool], always: bool) -> None:
        super().__init__(name, [steps])
        self.applied = applied
        self.always = always
        self.size = steps.size if always else None

    def run(self, walk: Walk) -> Any:
        return self.children[0].run(walk) if self.applied() else None

    def replay(self, image: Any, drawn: Any) -> Any:
        return image if drawn is None else self.children[0].replay(image, drawn)

    def original(self, image: Any) -> Any:
        return self.children[0].original(image) if self.always else image


class Choice(Node):
    """One part of several."""

    def __init__(self, name: str, children: Sequence[Node], choose: Callable[[], int]) -> None:
        super().__init__(name, children)
        self.choose = choose
        sizes = {child.size for child in children}
        self.size = sizes.pop() if len(sizes) == 1 else None

    def run(self, walk: Walk) -> Any:
        index = self.choose()
        return index, self.children[index].run(walk)

    def replay(self, image: Any, drawn: Any) -> Any:
        index, its = drawn
        return self.children[index].replay(image, its)

    def original(self, image: Any) -> Any:
        # Different crops to one size have one original.
        return image if self.size is None else self.children[0].original(image)


class Shuffled(Node):
    """All parts in a random order."""

    def __init__(
        self, name: str, children: Sequence[Node], order: Callable[[], Sequence[int]]
    ) -> None:
        super().__init__(name, children)
        self.order = order
        sizes = {child.size for child in children if child.size is not None}
        self.size = sizes.pop() if len(sizes) == 1 else None

    def run(self, walk: Walk) -> Any:
        return [(index, self.children[index].run(walk)) for index in self.order()]

    def replay(self, image: Any, drawn: Any) -> Any:
        for index, its in drawn:
            image = self.children[index].replay(image, its)
        return image

    def original(self, image: Any) -> Any:
        for child in self.children:
            image = child.original(image)
        return image
