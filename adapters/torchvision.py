"""Any torchvision or lightly transform, recorded. Needs ``star-head[torchvision]``."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from torch import Tensor

from star_head.augmentation import ParameterSpec, STARViews

try:
    from PIL import Image

    from ._recorded.build import TAUGHT, Builder, gives_grids, lookup, makes_pieces, views_of
    from ._recorded.operation import taught
    from ._recorded.own import grid_of
    from ._recorded.tree import Node
    from ._recorded.views import (
        RecordedAugmentation,
        RecordedView,
        number_columns,
        number_of_copies,
    )
    from .image_sizes import image_sizes
except ImportError as error:
    raise ImportError(
        'star_head.adapters.torchvision needs torchvision: pip install "star-head[torchvision]"'
    ) from error

__all__ = ["RecordedAugmentation", "RecordedTransform", "RecordedView", "register"]


class RecordedTransform:
    """Makes what STAR trains on by any torchvision or lightly transform, which stays as it is.

    The views are the wrapped transform's: from the same state of all generators they are equal to
    it bit for bit, and leave the generators in the same state. What was drawn is recorded, as
    numbers for the predictor and as draws that give the view again.

    Takes operations of ``torchvision.transforms`` and ``torchvision.transforms.v2``, ``Compose``,
    ``RandomApply``, ``RandomChoice``, ``RandomOrder``, ``nn.Sequential`` and lists of them, applied
    one after another, and lightly's transforms, of one view or several. Of several views those
    before the first of another size are recorded, the others follow, such as DINO's small crops;
    after all views come the grids of lightly's ``VICRegLTransform``.

    The numbers follow from the operations: one that does the same to every image has none. What
    was not applied to a view holds the value that changes nothing. Crops are in pixels of the
    source image. Views of different operations share one vector, in which each has the other's
    numbers at their neutral values.

    Args:
        transform: From an image to a tensor, or to a list of them.
        copies: How many views a transform of one view makes (default: 2).
        original: Makes the original; without it, the first view's operations that are not random
            do, with each crop's size cut from the centre.
        unrecorded: Operations or classes of operations to leave out of the numbers. Their draws
            are kept as the states of torch's, NumPy's and Python's generators on the CPU.

    Attributes:
        parameters: Name, unit and neutral value of each of the P numbers.
        recorded: The views that are recorded, each with ``sample`` and ``apply`` of its own.
        view_count: How many views are made, recorded or not.

    Raises:
        TypeError: If an operation is not known, or the transform records already.
        ValueError: If nothing in the transform is random, ``copies`` contradicts it, or one of
            ``unrecorded`` is not in it.

    Example:
        >>> import torch
        >>> from torchvision.transforms import v2
        >>> jitter = v2.RandomApply([v2.ColorJitter(hue=0.1)], p=0.8)
        >>> steps = [v2.RandomResizedCrop(32), v2.RandomRotation(30), jitter, v2.ToImage()]
        >>> transform = RecordedTransform(v2.Compose(steps))
        >>> [(p.name, p.unit) for p in transform.parameters][3:]
        [('crop width', 'pixels'), ('rotation', 'degrees'), ('hue', 'turns')]
        >>> views = transform(torch.randint(256, (3, 48, 64), dtype=torch.uint8))
        >>> views.original.shape, len(views.views), views.params[0].shape
        (torch.Size([3, 32, 32]), 2, torch.Size([6]))
    """

    parameters: tuple[ParameterSpec, ...]
    recorded: tuple[RecordedView, ...]
    image_sizes = staticmethod(image_sizes)  # how estimate_statistics reads a data set

    def __init__(
        self,
        # Lists first: jsonargparse writes a list back by the first type that takes one.
        transform: Sequence[Callable[[Any], Any]] | Callable[[Any], Any],
        copies: int | None = None,
        *,
        original: Callable[[Any], Tensor] | None = None,
        unrecorded: Sequence[type | Callable[..., Any]] = (),
    ) -> None:
        if isinstance(transform, RecordedTransform) or hasattr(transform, "sample"):
            raise TypeError(
                f"transform: expected one without records, got {type(transform).__name__}, "
                f"which records already"
            )
        self.transform = transform
        self.copies = copies
        self.given_original = original
        self.unrecorded = tuple(unrecorded)
        transforms = views_of(transform)
        if transforms is None or len(transforms) == 1:
            transforms = (transforms or [transform]) * number_of_copies(copies)
        elif copies is not None:
            raise ValueError(
                f"copies: {type(transform).__name__} makes {len(transforms)} views itself; "
                f"expected None, got {copies}"
            )
        builder = Builder(self.unrecorded)
        trees: list[Node] = []
        for one in transforms:
            if makes_pieces(one):
                break
            tree = builder.build(one)
            if trees and tree.size != trees[0].size:
                break
            trees.append(tree)
        for one in transforms[len(trees) :]:
            with suppress(TypeError):  # what follows need not be known, but may be left out too
                builder.build(one)
        for left_out, met in zip(self.unrecorded, builder.met, strict=True):
            if not met:
                raise ValueError(f"unrecorded: {left_out!r} is not in the transform")
        self.parameters = number_columns(trees)
        if not self.parameters:
            raise ValueError(
                f"transform: expected something random to record, but {type(transform).__name__} "
                f"does the same to every image, or what it draws is unrecorded"
            )
        self.recorded = tuple(
            RecordedView(tree, index, self.parameters) for index, tree in enumerate(trees)
        )
        self.view_count = len(transforms)
        self._others = transforms[len(trees) :]
        self._pairs = transforms[: len(trees)]

    def __call__(self, image: Image.Image | Tensor) -> STARViews:
        """Make the original and all views of an image.

        Args:
            image: Whatever the transform takes: PIL of any mode, or a (C, H, W) tensor.

        Raises:
            TypeError: If the transform makes no tensor.
        """
        original = self.original(image)
        views, records = zip(*(view.make(image) for view in self.recorded), strict=True)
        params = tuple(record.vector() for record in records)
        if not gives_grids(self.transform):
            return STARViews(original, (*views, *(other(image) for other in self._others)), params)
        grids = [
            grid_of(crop, record.draws[0], record.height, record.width)
            for (crop, _), record in zip(self._pairs, records, strict=False)
        ]
        others = []
        for crop, rest in self._others:
            cropped, grid = crop(image)
            others.append(rest(cropped))
            grids.append(grid)
        return STARViews(original, (*views, *others, *grids), params)

    def sample(
        self, image: Image.Image | Tensor | tuple[int, int], view: int = 0
    ) -> RecordedAugmentation:
        """Draw a record for an image, of which only the shape is looked at.

        Args:
            image: A PIL image, a (C, H, W) tensor, or its (height, width) in pixels.
            view: Number of the recorded view, from 0.

        Raises:
            ValueError: If there is no such view.
        """
        return self._view(view).sample(image)

    def apply(self, image: Image.Image | Tensor, record: RecordedAugmentation) -> Tensor:
        """Make the view that a record describes, bit for bit.

        Args:
            image: The image that the record was drawn for.
            record: From :meth:`sample`.

        Raises:
            ValueError: If the record is of another transform or of an image of another size.
        """
        return self._view(getattr(record, "view", 0)).apply(image, record)

    def original(self, image: Image.Image | Tensor) -> Tensor:
        """The image without anything random."""
        if self.given_original is not None:
            return self.given_original(image)
        return self.recorded[0].original(image)

    def _view(self, index: int) -> RecordedView:
        if not 0 <= index < len(self.recorded):
            raise ValueError(f"view: expected one of {len(self.recorded)} views, got {index}")
        return self.recorded[index]

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = (self.transform, self.copies, self.given_original, self.unrecorded)
        return _rebuild, arguments

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.transform!r})"


def register(
    operation: type,
    parameters: Sequence[ParameterSpec],
    draw: Callable[[Any, Any], Mapping[str, Any] | None],
    apply: Callable[[Any, Any, Mapping[str, Any]], Any],
) -> None:
    """Teach a class of operations, so that :class:`RecordedTransform` records them.

    Args:
        operation: The class.
        parameters: Name, unit and neutral value of its numbers.
        draw: From the operation and the image that it is given to what it draws: a value by the
            name of each parameter, and whatever else ``apply`` needs; ``None`` where it leaves the
            image as it is. It makes the calls of a generator that the operation makes, in order.
        apply: From operation, image and what was drawn to the operation's result; it draws nothing.

    Raises:
        TypeError: If ``operation`` is not a class, or a parameter not a ``ParameterSpec``.
        ValueError: If the class is known already.

    Example:
        >>> import torch
        >>> class Salt:
        ...     def __call__(self, image):
        ...         return image + torch.rand(1).item()
        >>> register(
        ...     Salt,
        ...     [ParameterSpec("salt", "brightness", 0.0)],
        ...     draw=lambda operation, image: {"salt": torch.rand(1).item()},
        ...     apply=lambda operation, image, drawn: image + drawn["salt"],
        ... )
        >>> transform = RecordedTransform(Salt())
        >>> transform.parameters[0].name, transform.sample(torch.rand(3, 8, 8)).vector().shape
        ('salt', torch.Size([1]))
    """
    if not isinstance(operation, type):
        raise TypeError(f"operation: expected a class, got {operation!r}")
    for parameter in parameters:
        if not isinstance(parameter, ParameterSpec):
            raise TypeError(f"parameters: expected ParameterSpecs, got {parameter!r}")
    if lookup(operation) is not None:
        raise ValueError(f"operation: {operation.__name__} is known already")
    TAUGHT[operation] = taught(parameters, draw, apply)


def _rebuild(
    transform: Any, copies: int | None, original: Any, unrecorded: tuple[Any, ...]
) -> RecordedTransform:
    return RecordedTransform(transform, copies, original=original, unrecorded=unrecorded)
