"""What the trees of a transform's views have in common: one vector, and records of each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from star_head.augmentation import ParameterSpec

from ..image_sizes import image_sizes
from .canvas import Canvas
from .tree import Node, Walk


class RecordedAugmentation(NamedTuple):
    """What was done to an image to make one view, by any transform: enough to do it again.

    Attributes:
        view: Number of the view among the transform's recorded ones, from 0.
        height: Height of the source image in pixels.
        width: Width of the source image in pixels.
        values: The numbers, in the order and units of the transform's ``parameters``.
        draws: What every operation drew, in the shape of the tree.
        tree: The transform's parts and their arguments, of which the draws are.
    """

    view: int
    height: int
    width: int
    values: tuple[float, ...]
    draws: Any
    tree: tuple[str, ...]

    def vector(self) -> Tensor:
        """The numbers: float32, shape (P,).

        Raises:
            ValueError: If one is not finite.
        """
        if not all(map(math.isfinite, self.values)):
            raise ValueError(f"record: expected finite parameters, got {self.values}")
        return torch.tensor(self.values, dtype=torch.float32)


def number_columns(trees: Sequence[Node]) -> tuple[ParameterSpec, ...]:
    """Give every number of some views' trees its column in one vector, and return its columns.

    A name that comes again within a tree gets a count; views share the columns of one name.

    Raises:
        ValueError: If one name has two units or neutral values.
    """
    columns: list[ParameterSpec] = []
    named: list[list[list[tuple[str, str]]]] = []  # of each tree's leaves: (own name, column's)
    for tree in trees:
        met: dict[str, int] = {}
        place = 0
        named.append([])
        for leaf in tree.leaves():
            named[-1].append([])
            for number in leaf.parameters:
                met[number.name] = met.get(number.name, 0) + 1
                count = met[number.name]
                name = number.name if count == 1 else f"{number.name} {count}"
                named[-1][-1].append((number.name, name))
                place = _insert(columns, number._replace(name=name), place)
    order = {number.name: column for column, number in enumerate(columns)}
    for tree, leaves in zip(trees, named, strict=True):
        for leaf, names in zip(tree.leaves(), leaves, strict=True):
            leaf.columns = [(own, order[name]) for own, name in names]
    return tuple(columns)


def _insert(columns: list[ParameterSpec], number: ParameterSpec, place: int) -> int:
    """Put a number at a place unless its name is there already; the place after it."""
    for column, other in enumerate(columns):
        if other.name == number.name:
            if other != number:
                raise ValueError(
                    f"transform: {number.name!r} has two meanings, {other} and {number}"
                )
            return column + 1
    columns.insert(place, number)
    return place + 1


class RecordedView:
    """One of a transform's views: draws records of it and applies them.

    A view is always ``apply(image, sample(image))``.

    Attributes:
        parameters: Name, unit and neutral value of each number of its vector.
        size: The (height, width) of the view, if all have one.
        parts: What the view is made by, operation by operation.
    """

    image_sizes = staticmethod(image_sizes)  # how estimate_statistics reads a data set

    def __init__(self, tree: Node, index: int, parameters: Iterable[ParameterSpec]) -> None:
        self.parameters = tuple(parameters)
        self.size = tree.size
        self.parts = tuple(tree.parts())
        self._tree = tree
        self._index = index
        self._neutral = [number.neutral for number in self.parameters]

    def __call__(self, image: Image.Image | Tensor) -> tuple[Tensor, Tensor]:
        """Make a random view: the view and its raw parameters (P,)."""
        view, record = self.make(image)
        return view, record.vector()

    def make(self, image: Image.Image | Tensor) -> tuple[Tensor, RecordedAugmentation]:
        """Make a random view: the view and its record."""
        canvas = Canvas.of(image)
        walk, draws = self._walk(canvas, image)
        return self._checked(walk.image), self._record(walk, draws, canvas.height, canvas.width)

    def sample(self, image: Image.Image | Tensor | tuple[int, int]) -> RecordedAugmentation:
        """Draw a record for an image, of which only the shape is looked at.

        Where the transform has operations that are taught or unrecorded, whose effect on the
        shape is not known, it is applied: to the image, or to a black RGB image of its size.

        Args:
            image: A PIL image, a (C, H, W) tensor, or its (height, width) in pixels.
        """
        canvas = Canvas.of(image)
        given: Any = None
        if self._tree.needs_image:
            given = image if isinstance(image, Image.Image | Tensor) else canvas.blank()
        walk, draws = self._walk(canvas, given)
        return self._record(walk, draws, canvas.height, canvas.width)

    def apply(self, image: Image.Image | Tensor, record: RecordedAugmentation) -> Tensor:
        """Make the view that a record describes.

        Args:
            image: The image that the record was drawn for.
            record: From :meth:`sample`.

        Raises:
            TypeError: If it is no record, or the transform makes no tensor.
            ValueError: If the record is of another transform or of an image of another size.
        """
        if not isinstance(record, RecordedAugmentation):
            raise TypeError(f"record: expected one of sample, got {type(record).__name__}")
        if record.tree != self.parts:
            pairs = zip_longest(self.parts, record.tree, fillvalue="nothing more")
            ours, its = next(pair for pair in pairs if pair[0] != pair[1])
            raise ValueError(
                f"record: expected one of this transform, but it is of one with {its} in place of "
                f"{ours}"
            )
        canvas = Canvas.of(image)
        if (canvas.height, canvas.width) != (record.height, record.width):
            raise ValueError(
                f"record: drawn for an image of height {record.height} and width {record.width}, "
                f"got an image of height {canvas.height} and width {canvas.width}"
            )
        return self._checked(self._tree.replay(image, record.draws))

    def original(self, image: Image.Image | Tensor) -> Tensor:
        """The image as what is not random leaves it, resized and centre-cropped to a view."""
        Canvas.of(image)
        # An operation in place would change the image that the views are made of.
        image = image.clone() if isinstance(image, Tensor) else image
        return self._checked(self._tree.original(image))

    def _walk(self, canvas: Canvas, image: Any) -> tuple[Walk, Any]:
        sides = {"image height": canvas.height, "image width": canvas.width}
        values = [float(sides.get(neutral, neutral)) for neutral in self._neutral]  # type: ignore[arg-type]
        walk = Walk(image, canvas, values)
        return walk, self._tree.run(walk)

    def _record(self, walk: Walk, draws: Any, height: int, width: int) -> RecordedAugmentation:
        return RecordedAugmentation(
            self._index, height, width, tuple(walk.values), draws, self.parts
        )

    def _checked(self, view: Any) -> Tensor:
        if not isinstance(view, Tensor):
            raise TypeError(
                f"transform: expected one that makes a tensor of an image, got one that makes "
                f"{type(view).__name__}; end it with ToTensor(), or with ToImage() and ToDtype()"
            )
        return view


def number_of_copies(copies: int | None) -> int:
    """How many views to make by one view's transform; two unless told.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is less than one.
    """
    if copies is None:
        return 2
    if isinstance(copies, bool) or not isinstance(copies, int):
        raise TypeError(f"copies: expected a number of views, got {copies!r}")
    if copies < 1:
        raise ValueError(f"copies: expected at least one view, got {copies}")
    return copies
