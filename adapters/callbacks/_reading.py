"""How callbacks get features and embeddings out of any module."""

from collections.abc import Callable
from typing import Any, TypeAlias

from torch import nn

from star_head._checks import describe

Reading: TypeAlias = str | Callable[..., Any]
"""The name of one of the module's attributes, dots allowed, or a function of module and images."""


def check_reading(argument: str, given: Any) -> None:
    """Raise unless it can be the name of an attribute, or a function of the module and images."""
    if isinstance(given, str) and given:
        return
    remedy = ""
    if isinstance(given, nn.Module):
        remedy = "; give its name in the LightningModule"
    elif callable(given) and not isinstance(given, type):
        return
    raise TypeError(
        f"{argument}: expected the name of one of the module's attributes, such as 'backbone', or "
        f"a function of the module and images, got {describe(given)}{remedy}"
    )


def find(argument: str, module: nn.Module, name: str) -> Callable[..., Any]:
    """The attribute of a module that has this name.

    Raises:
        ValueError: If there is none.
        TypeError: If it cannot be called.
    """
    place: Any = module
    for part in name.split("."):
        if not hasattr(place, part):
            children: Any = getattr(place, "named_children", tuple)()
            parts = ", ".join(child for child, _ in children)
            raise ValueError(
                f"{argument}: {type(place).__name__} has no attribute {part!r}"
                f"{f'; its parts are {parts}' * bool(parts)}"
            )
        place = getattr(place, part)
    if not callable(place):
        raise TypeError(
            f"{argument}: expected a part of the module that is called on images, got "
            f"{describe(place)} as {name!r}"
        )
    called: Callable[..., Any] = place
    return called


def check_there(argument: str, given: Reading | None, module: nn.Module) -> None:
    """Raise where an attribute is named that the module does not have."""
    if isinstance(given, str):
        find(argument, module, given)


def read(argument: str, given: Reading, module: nn.Module, *inputs: Any) -> Any:
    """What the module makes of inputs."""
    if isinstance(given, str):
        return find(argument, module, given)(*inputs)
    return given(module, *inputs)
