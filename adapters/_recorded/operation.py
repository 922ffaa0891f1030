"""What is known of a class of operations: how it draws, what it does, which numbers tell it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from star_head.augmentation import ParameterSpec

from .canvas import Canvas

Values = Mapping[str, float]


def _no_values(operation: Any, drawn: Any, canvas: Canvas) -> Values:
    return {}


def _same_canvas(operation: Any, drawn: Any, canvas: Canvas) -> Canvas:
    return canvas


def _all_if_varying(operation: Any, varies: bool) -> bool:
    return varies


@dataclass(frozen=True)
class Operation:
    """How operations of one class are recorded.

    Attributes:
        draw: From the operation and the image that it is given, of which it may look at the shape
            alone, to what the operation draws: by the same calls in the same order. ``None``
            where it leaves the image as it is.
        apply: From operation, image and what was drawn to the image that the operation makes.
        numbers: All numbers that operations of the class can have.
        recorded: From the operation and whether it is applied to some images and not to others
            to the names of the numbers that vary, or whether all or none do.
        values: From operation, what was drawn and the canvas before it to values by name; those
            left out are neutral.
        probability: How often it is applied.
        after: From operation, what was drawn and the canvas before it to the canvas after it.
        size: The (height, width) that it gives every image, if any.
        center: What it does to an image that is to be changed by nothing random.
        needs_image: Whether ``after`` is unknown, so that no record is drawn without an image.
    """

    draw: Callable[[Any, Any], Any]
    apply: Callable[[Any, Any, Any], Any]
    numbers: tuple[ParameterSpec, ...] = ()
    recorded: Callable[[Any, bool], bool | Collection[str]] = _all_if_varying
    values: Callable[[Any, Any, Canvas], Values] = _no_values
    probability: Callable[[Any], float] = lambda operation: 1.0
    after: Callable[[Any, Any, Canvas], Canvas] = _same_canvas
    size: Callable[[Any], tuple[int, int] | None] = lambda operation: None
    center: Callable[[Any, Any], Any] = lambda operation, image: image
    needs_image: bool = False

    def parameters(self, operation: Any, conditional: bool) -> list[ParameterSpec]:
        """The numbers of an operation that are not the same for every image.

        Args:
            operation: An operation of the class.
            conditional: Whether something above it decides if it is reached.
        """
        probability = self.probability(operation)
        if not probability:
            return []
        names = self.recorded(operation, conditional or probability < 1)
        if isinstance(names, bool):
            return list(self.numbers) if names else []
        return [number for number in self.numbers if number.name in names]


@dataclass(frozen=True)
class Fixed:
    """How operations of one class without anything random are followed.

    Attributes:
        label: The number that says whether it was applied, where something above it decides;
            ``None`` for what changes an image's type alone.
        after: From the operation and the canvas before it to the canvas after it.
        size: The (height, width) that it gives every image, if any.
        apply: From operation and image to what the operation makes of it.
    """

    label: str | None
    after: Callable[[Any, Canvas], Canvas] = lambda operation, canvas: canvas
    size: Callable[[Any], tuple[int, int] | None] = lambda operation: None
    apply: Callable[[Any, Any], Any] = lambda operation, image: operation(image)

    @property
    def numbers(self) -> tuple[ParameterSpec, ...]:
        """The one number that it can have."""
        return () if self.label is None else (ParameterSpec(self.label, "0 or 1", 0.0),)


Known = Operation | Fixed


def taught(
    parameters: Sequence[ParameterSpec],
    draw: Callable[[Any, Any], Mapping[str, Any] | None],
    apply: Callable[[Any, Any, Mapping[str, Any]], Any],
) -> Operation:
    """The entry of a class that a user has taught."""
    names = [parameter.name for parameter in parameters]

    def values(operation: Any, drawn: Mapping[str, Any], canvas: Canvas) -> Values:
        missing = [name for name in names if name not in drawn]
        if missing:
            raise ValueError(
                f"draw: expected values of {names} for {type(operation).__name__}, "
                f"without {missing}: got {dict(drawn)}"
            )
        return {name: float(drawn[name]) for name in names}

    return Operation(
        draw,
        apply,
        numbers=tuple(parameters),
        recorded=lambda operation, varies: True,
        values=values,
        needs_image=True,
    )
