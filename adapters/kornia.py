"""kornia's augmentations of batches, recorded. Needs ``star-head[kornia]``."""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from star_head._checks import describe
from star_head.augmentation import ParameterSpec, STARViews

try:
    from kornia import augmentation as kornias

    from ._kornia.batch import RecordedBatch
    from ._kornia.canvas import Canvas
    from ._kornia.checks import (
        check_container,
        check_copies,
        check_images,
        check_pixels,
        check_range,
        check_size,
        check_views,
    )
    from ._kornia.known import Known, always
    from ._kornia.tree import TAUGHT, Tree, lookup, number_columns
    from .image_sizes import image_sizes
    from .torchvision import RecordedTransform as RecordedImageTransform
except ImportError as error:
    raise ImportError(
        'star_head.adapters.kornia needs kornia: pip install "star-head[kornia]"'
    ) from error

__all__ = ["RecordedBatch", "RecordedTransform", "RecordedView", "register"]

_BATCH = 256  # of images whose records estimate_statistics draws at once


class RecordedTransform:
    """Makes what STAR trains on, in batches, by kornia's augmentations, which stay as they are.

    The views are the wrapped container's: from the same state of torch's generators they are equal
    to it bit for bit, and leave the generators in the same state. What kornia drew is recorded, as
    numbers for the predictor and as the parameters by which kornia makes the view again.

    Takes ``kornia.augmentation.AugmentationSequential`` and ``ImageSequential``, nested too, of
    kornia's augmentations and of modules of ``kornia.color``, ``enhance`` and ``filters``. An
    augmentation that does the same to every image has no number. What was not applied to an image
    holds the value that changes nothing. Crops are in pixels of the images that are given.

    With ``after``, the transform goes on with the views of another, which the loader's workers
    made, such as crops of images of many sizes: it takes their ``STARViews``, and its
    ``parameters`` are the other's and then kornia's.

    Args:
        augmentation: kornia's container.
        copies: How many views are made of each image; default: 2, or as many as ``after`` records.
        after: The transform of ``star_head.adapters.torchvision`` that made what this one is given.
        original: Makes the originals of what is given; without it, the augmentations that are not
            random do, with each crop's size cut from the centre.
        unrecorded: Augmentations or classes of them to leave out of the numbers; kornia keeps their
            draws.

    Attributes:
        parameters: Name, unit and neutral value of each of the P numbers.

    Raises:
        TypeError: If ``augmentation`` is no container of kornia's, an augmentation in it is not
            known, or ``after`` records nothing.
        ValueError: If nothing in it is random, ``copies`` contradicts ``after``, or one of
            ``unrecorded`` is not in it.

    Example:
        >>> from kornia.augmentation import AugmentationSequential, ColorJiggle, RandomRotation
        >>> steps = AugmentationSequential(RandomRotation(30.0), ColorJiggle(hue=0.1, p=0.8))
        >>> transform = RecordedTransform(steps)
        >>> [(p.name, p.unit) for p in transform.parameters]
        [('rotation', 'degrees'), ('hue', 'turns')]
        >>> views = transform(torch.rand(4, 3, 32, 32))
        >>> views.original.shape, len(views.views), views.params[0].shape
        (torch.Size([4, 3, 32, 32]), 2, torch.Size([4, 2]))
    """

    parameters: tuple[ParameterSpec, ...]
    image_sizes = staticmethod(image_sizes)  # how estimate_statistics reads a data set

    def __init__(
        self,
        augmentation: nn.Module,
        copies: int | None = None,
        *,
        after: RecordedImageTransform | None = None,
        original: Callable[[Tensor], Tensor] | None = None,
        unrecorded: Sequence[Any] = (),
    ) -> None:
        check_container(augmentation)
        self.augmentation: Any = augmentation
        self.given_copies = copies
        self.after = after
        self.given_original = original
        self.unrecorded = tuple(unrecorded)
        self.copies = check_copies(copies, after)
        met: set[int] = set()
        self._tree = Tree(augmentation, self.unrecorded, met)
        for i, left_out in enumerate(self.unrecorded):
            if i not in met:
                raise ValueError(f"unrecorded: {left_out!r} is not in the augmentation")
        self._parts = tuple(self._tree.parts())
        before = () if after is None else after.parameters
        self.parameters = number_columns(before, self._tree)
        if len(self.parameters) == len(before):
            raise ValueError(
                "augmentation: expected something random to record, but it does the same to every "
                "image, or what it draws is unrecorded"
            )
        self._neutral = [number.neutral for number in self.parameters[len(before) :]]
        self._offset = len(before)
        if after is not None:
            check_pixels(after, self._tree)
        self._range_checked = False

    @property
    def recorded(self) -> "tuple[RecordedView, ...]":
        """The views that are recorded, each with ``sample`` of its own."""
        return tuple(RecordedView(self, view) for view in range(self.copies))

    def __call__(self, images: Tensor | STARViews) -> STARViews:
        """Make the originals and all views of a batch.

        Args:
            images: Floating-point (B, C, H, W), of pixels in [0, 1], as kornia's colours take them;
                with ``after``, the STARViews that it made.

        Returns:
            The originals, the views, and the (B, P) parameters of those that are recorded.

        Raises:
            TypeError: If it is given anything else.
            ValueError: If shapes are others, or in the first batch pixels lie far outside [0, 1]
                where kornia would cut them off.
        """
        given: Sequence[Tensor]
        if self.after is None:
            original = check_images("images", images)
            given = [original] * self.copies
        else:
            original, given, _ = check_views(images, self.after)
        if not self._range_checked:  # once, for it makes a GPU wait
            check_range(given, self._tree)
            self._range_checked = True
        views, params = [], []
        for view, batch in enumerate(given):
            if view >= self.copies:
                views.append(self.augmentation(batch))  # which follow, as small crops do
                continue
            record = self.sample(images, view)
            views.append(self.apply(batch, record))
            params.append(record.vector().to(batch.device))
        return STARViews(self.original(original), tuple(views), tuple(params))

    def sample(self, images: Tensor | STARViews | tuple[int, int], view: int = 0) -> RecordedBatch:
        """Draw a record, of what has the shape of a batch or of one image.

        Args:
            images: As a call takes them; or one RGB image's (height, width) in pixels, before
                ``after``.
            view: Number of the view, from 0.

        Raises:
            ValueError: If there is no such view.
        """
        self._check_view(view)
        if isinstance(images, tuple | list) and not isinstance(images, STARViews):
            shape, before = self._given([check_size(images)], view)
            record = self._draw(shape, view, before)
            return record._replace(values=record.values[0])
        if self.after is None:
            return self._draw(check_images("images", images).shape, view, None)
        views = check_views(images, self.after)
        return self._draw(views.views[view].shape, view, views.params[view])

    def _given(
        self, sizes: Sequence[tuple[int, int]], view: int
    ) -> tuple[tuple[int, ...], Tensor | None]:
        """What images of some sizes are when they are given: a batch's shape, and its numbers."""
        if self.after is None:
            return (len(sizes), 3, *sizes[0]), None
        before = torch.stack([self.after.sample(size, view).vector() for size in sizes])
        return (len(sizes), 3, *self.after.recorded[view].size), before  # type: ignore[misc]

    def _draw(self, shape: Sequence[int], view: int, before: Tensor | None) -> RecordedBatch:
        params = self.augmentation.forward_parameters(torch.Size(shape))
        batch, _, height, width = shape
        values = torch.empty(batch, len(self.parameters))
        if before is not None:
            values[:, : self._offset] = before.to(values)
        sides = {"image height": float(height), "image width": float(width)}
        for column, neutral in enumerate(self._neutral, start=self._offset):
            values[:, column] = sides.get(neutral, neutral)  # type: ignore[arg-type]
        self._tree.read(params, Canvas.of(batch, height, width), values)
        return RecordedBatch(view, tuple(shape), values, params, self._parts)

    def apply(self, images: Tensor, record: RecordedBatch) -> Tensor:
        """Make the view that a record describes, bit for bit.

        Args:
            images: The batch that the record was drawn for; with ``after``, its view.
            record: From :meth:`sample`.

        Raises:
            TypeError: If it is no record.
            ValueError: If the record is of another container or of a batch of another shape.
        """
        if not isinstance(record, RecordedBatch):
            raise TypeError(f"record: expected one of sample, got {describe(record)}")
        check_images("images", images)
        if record.tree != self._parts:
            raise ValueError(
                f"record: expected one of this augmentation, {self._parts}, but it is of "
                f"{record.tree}"
            )
        if tuple(images.shape) != record.shape:
            raise ValueError(
                f"record: drawn for a batch of shape {record.shape}, got {tuple(images.shape)}"
            )
        return self.augmentation(images, params=record.params)

    def original(self, images: Tensor) -> Tensor:
        """The images without anything random."""
        if self.given_original is not None:
            return self.given_original(images)
        return self._tree.original(images)

    def to(self, *args: Any, **kwargs: Any) -> "RecordedTransform":
        """Move kornia's augmentations, which then draw there; return this transform."""
        self.augmentation.to(*args, **kwargs)
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.augmentation!r})"

    def _check_view(self, view: int) -> None:
        if not 0 <= view < self.copies:
            raise ValueError(f"view: expected one of {self.copies} views, got {view}")

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = (
            self.augmentation,
            self.given_copies,
            self.after,
            self.given_original,
            self.unrecorded,
        )
        return _rebuild, arguments


class RecordedView:
    """One of the views: draws records of it, as ``estimate_statistics`` asks for them."""

    def __init__(self, transform: RecordedTransform, view: int) -> None:
        self.transform = transform
        self.view = view

    def sample(self, images: Tensor | STARViews | tuple[int, int]) -> RecordedBatch:
        """Draw a record of this view."""
        return self.transform.sample(images, self.view)

    def sample_vectors(self, sizes: Sequence[tuple[int, int]]) -> Tensor:
        """Draw the numbers (n, P) of this view of n images, given their sizes; many at once."""
        transform = self.transform
        most = 1 if transform._tree.draws_for_batches() else _BATCH
        drawn = []
        # Images that ``after`` brings to one size make one batch.
        pairs = [(int(height), int(width)) for height, width in sizes]
        for _, equal in groupby(pairs, lambda size: size if transform.after is None else None):
            rest = list(equal)
            while rest:
                shape, before = transform._given(rest[:most], self.view)
                drawn.append(transform._draw(shape, self.view, before).vector())
                rest = rest[most:]
        return torch.cat(drawn)


def register(
    augmentation: type,
    parameters: Sequence[ParameterSpec],
    read: Callable[[Any, Mapping[str, Tensor]], Mapping[str, Tensor]],
) -> None:
    """Teach a class of augmentations, so that :class:`RecordedTransform` records them.

    Args:
        augmentation: The class, of kornia's ``AugmentationBase2D``, one that leaves the images'
            size as it is.
        parameters: Name, unit and neutral value of its numbers.
        read: From the augmentation and the parameters that kornia keeps of a batch to a (B,) value
            by the name of each number, for all images, whether it is applied to them or not.

    Raises:
        TypeError: If it is not a class of augmentations, or a parameter not a ``ParameterSpec``.
        ValueError: If the class is known already.

    Example:
        >>> from kornia.augmentation import AugmentationSequential, RandomPlanckianJitter
        >>> register(
        ...     RandomPlanckianJitter,
        ...     [ParameterSpec("light", "row of the table of lights", -1.0)],
        ...     read=lambda augmentation, params: {"light": params["idx"].float()},
        ... )
        >>> transform = RecordedTransform(AugmentationSequential(RandomPlanckianJitter(p=0.5)))
        >>> transform.parameters[0].name, transform(torch.rand(4, 3, 8, 8)).params[0].shape
        ('light', torch.Size([4, 1]))
    """
    if not (
        isinstance(augmentation, type) and issubclass(augmentation, kornias.AugmentationBase2D)
    ):
        raise TypeError(
            f"augmentation: expected a class of kornia.augmentation.AugmentationBase2D, got "
            f"{augmentation!r}"
        )
    for parameter in parameters:
        if not isinstance(parameter, ParameterSpec):
            raise TypeError(f"parameters: expected ParameterSpecs, got {parameter!r}")
    if lookup(augmentation) is not None:
        raise ValueError(f"augmentation: {augmentation.__name__} is known already")
    numbers = tuple(parameters)
    TAUGHT[augmentation] = Known(
        numbers, lambda operation, params, canvas: read(operation, params), always(numbers)
    )


def _rebuild(
    augmentation: nn.Module, copies: int | None, after: Any, original: Any, unrecorded: Any
) -> RecordedTransform:
    return RecordedTransform(
        augmentation, copies, after=after, original=original, unrecorded=unrecorded
    )
