"""Arguments of timm's models as plain values, which a file can hold and which can run nothing."""

import inspect
from collections.abc import Mapping
from enum import Enum
from functools import partial
from typing import Any

import numpy as np
import timm
from timm.layers.create_act import _ACT_LAYER_DEFAULT, get_act_layer
from timm.layers.create_norm import _NORM_MAP
from timm.layers.create_norm_act import _NORM_ACT_MAP
from timm.models import build_model_with_cfg
from torch import nn

# timm's factory takes these for itself: where weights come from, where files go, how it builds.
FACTORY = frozenset(
    name
    for function in (timm.create_model, build_model_with_cfg)
    for name, parameter in inspect.signature(function).parameters.items()
    if parameter.kind is not parameter.VAR_KEYWORD
)
# Where a model is put, which says nothing of what it is.
_PLACEMENT = frozenset(("device", "dtype"))
_LAYERS: dict[str, Any] = {**_NORM_ACT_MAP, **_NORM_MAP, **_ACT_LAYER_DEFAULT}


def plain_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A model's arguments as numbers, strings, lists, tuples and dictionaries of these.

    A layer is replaced by the name that timm knows it by. What timm's factory takes for itself
    stays as it is.

    Raises:
        TypeError: If a value is neither plain nor a layer that timm knows by name.
        ValueError: If timm knows no activation of the name given.
    """
    own = FACTORY | _PLACEMENT
    if isinstance(arguments.get("act_layer"), str):
        _check_activation(arguments["act_layer"])
    return {
        name: value if name in own else _plain(name, value) for name, value in arguments.items()
    }


def check_described(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a model as a file gives them, if they can do no more than describe it.

    Raises:
        ValueError: If one is not the model's own, but says where weights come from, say, or is
            not plain.
    """
    own = FACTORY | _PLACEMENT | {"init"}
    for name, value in arguments.items():
        if not isinstance(name, str) or name in own or name.startswith("pretrained"):
            raise ValueError(f"{name!r} is no argument that describes a model")
        if isinstance(value, type | partial) or callable(value):
            raise ValueError(f"{name}: expected a plain value, got {value!r}")
    try:
        return {name: _plain(name, value) for name, value in arguments.items()}
    except TypeError as error:
        raise ValueError(str(error)) from error


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Mapping):
        return {_plain(name, key): _plain(name, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return (list if isinstance(value, list) else tuple)(_plain(name, item) for item in value)
    known = _layer_name(value)
    if known is None:
        raise TypeError(
            f"{name}: expected numbers, strings, lists of them, or a layer that timm knows by "
            f"name, such as {_suggest(value)}, got {value!r}, which no checkpoint and no export "
            f"can describe"
        )
    return known


def _check_activation(name: str) -> None:
    try:
        get_act_layer(name)
    except KeyError:
        known = ", ".join(sorted(_ACT_LAYER_DEFAULT))
        raise ValueError(f"act_layer: expected one of {known}, got {name!r}") from None


def _layer_name(layer: Any) -> str | None:
    if not isinstance(layer, type):
        return None
    # timm's GELU is PyTorch's with an argument that it ignores.
    layer = _LAYERS["gelu"] if layer is nn.GELU else layer
    names = [name for name, known in _LAYERS.items() if known is layer]
    own = layer.__name__.lower()
    return own if own in names else next(iter(names), None)


def _suggest(value: Any) -> str:
    layer = value.func if isinstance(value, partial) else value
    name = getattr(layer, "__name__", type(value).__name__).lower()
    return repr(name) if name in _LAYERS else "'relu', 'silu', 'gelu', 'layernorm'"
