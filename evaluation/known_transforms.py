"""Transforms made anew from a run's settings: of classes that are known, and of no others."""

import functools
import inspect
from collections.abc import Iterator, Mapping
from enum import Enum
from types import ModuleType
from typing import Any

import torch

try:
    import lightly.transforms
    from torchvision import transforms as first
    from torchvision.transforms import v2 as second

    from star_head.adapters.torchvision import RecordedTransform
except ImportError as error:
    raise ImportError(
        'star_head.evaluation needs torchvision and lightly: pip install "star-head[evaluation]"'
    ) from error

_RECORDED = "star_head.adapters.torchvision.RecordedTransform"
# Takes a function, which nothing but its import would bring back.
_NOT_REBUILT = ("Lambda",)
# Values in settings; one list can stand in a file many times over.
_MOST_VALUES = 10_000


@functools.cache
def known_transforms() -> Mapping[str, type]:
    """Torchvision's and lightly's public classes of transforms, by the names that import them."""
    known: dict[str, type] = {}
    parts = [part for part in vars(lightly.transforms).values() if isinstance(part, ModuleType)]
    for module in (first, second, lightly.transforms, *parts):
        package = module.__name__.partition(".")[0]
        for name, cls in _transforms_in(module):
            if cls.__module__.partition(".")[0] == package:
                known[f"{module.__name__}.{name}"] = cls
                known[f"{cls.__module__}.{cls.__qualname__}"] = cls
    return known


def build_transform(settings: Any) -> RecordedTransform:
    """Make a transform of ``class_path`` and ``init_args``, as a run's config.yaml gives it.

    Nothing is imported: a name is looked up among :func:`known_transforms`.

    Args:
        settings: Arguments of ``RecordedTransform``, or of the transform that it is to wrap.

    Raises:
        ValueError: If they name another class, or a class takes no such arguments.
        TypeError: If a class takes no arguments of such types.
    """
    builder = _Builder()
    if isinstance(settings, Mapping) and settings.get("class_path") == _RECORDED:
        arguments = builder.arguments(settings, RecordedTransform, "transform")
        left_out = arguments.get("unrecorded") or ()
        arguments["unrecorded"] = [
            _look_up(name, "transform.unrecorded") if isinstance(name, str) else name
            for name in left_out
        ]
        return RecordedTransform(**arguments)
    return RecordedTransform(builder.build(settings, "transform"))


def why_not_rebuilt(transform: RecordedTransform, settings: Any) -> str | None:
    """Why a transform is not what its settings give, or ``None`` where it is.

    Args:
        transform: A transform that was built by other means.
        settings: What :func:`build_transform` is to be given.
    """
    try:
        rebuilt = build_transform(settings)
    except Exception as error:  # whatever a user's classes and settings lead to
        return str(error)
    for ours, its in zip(transform.recorded, rebuilt.recorded, strict=False):
        for part, other in zip(ours.parts, its.parts, strict=False):
            if _plain(part) != _plain(other):
                return f"transform: its settings give {other} in place of {part}"
    if rebuilt.parameters != transform.parameters:
        return "transform: its settings give other parameters"
    return None


class _Builder:
    """Makes values of settings, up to a number of them."""

    def __init__(self) -> None:
        self.left = _MOST_VALUES

    def build(self, given: Any, place: str) -> Any:
        """A transform, or a list of them, or a plain value."""
        self.left -= 1
        if self.left < 0:
            raise ValueError(f"{place}: expected at most {_MOST_VALUES:,} values, got more")
        if isinstance(given, list | tuple):
            return [self.build(part, f"{place}[{i}]") for i, part in enumerate(given)]
        if not isinstance(given, Mapping):
            return given
        if "class_path" not in given:
            return {key: self.build(part, f"{place}.{key}") for key, part in given.items()}
        cls = _look_up(given["class_path"], place)
        return cls(**self.arguments(given, cls, place))

    def arguments(self, given: Mapping[str, Any], cls: type, place: str) -> dict[str, Any]:
        """What a class is called with."""
        others = given.keys() - {"class_path", "init_args"}
        arguments = given.get("init_args") or {}
        if others or not isinstance(arguments, Mapping):
            raise ValueError(
                f"{place}: expected class_path and init_args, got {', '.join(map(str, given))}"
            )
        parameters = inspect.signature(cls).parameters
        if unknown := arguments.keys() - parameters.keys():
            raise ValueError(
                f"{place}: {cls.__name__} has no argument {', '.join(map(str, unknown))}"
            )
        return {
            name: _as_typed(self.build(value, f"{place}.{name}"), parameters[name].default)
            for name, value in arguments.items()
        }


def _transforms_in(module: ModuleType) -> Iterator[tuple[str, type]]:
    for name, cls in vars(module).items():
        if not inspect.isclass(cls) or name.startswith("_") or name in _NOT_REBUILT:
            continue
        if any("__call__" in vars(base) for base in cls.__mro__):
            yield name, cls


def _look_up(name: Any, place: str) -> type:
    cls = known_transforms().get(name) if isinstance(name, str) else None
    if cls is None:
        raise ValueError(
            f"{place}: {name} is none of torchvision's, lightly's and star_head's transforms, and "
            f"no other is made because a file names it"
        )
    return cls


def _as_typed(value: Any, default: Any) -> Any:
    """A value of YAML as Python's: a member of an enumeration, a dtype, a tuple."""
    if isinstance(value, str) and isinstance(default, Enum):
        members = type(default).__members__
        return members[value] if value in members else type(default)(value)
    if isinstance(value, str) and value.startswith("torch."):
        dtype = getattr(torch, value.removeprefix("torch."), None)
        return dtype if isinstance(dtype, torch.dtype) else value
    return tuple(value) if isinstance(value, list) and isinstance(default, tuple) else value


def _plain(part: str) -> str:
    """Without the difference between tuples and lists, which YAML does not know."""
    return part.translate(str.maketrans("[]", "()")).replace(",)", ")")
