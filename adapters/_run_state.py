"""What a run's checkpoint holds beside weights, and whether its weights are this model's."""

import io
import pickle
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parameter import is_lazy

from star_head._gather import world_size

_EXTRA = "_extra_state"  # ends the name of what Module.get_extra_state gives, of any type


def check_same_model(saved: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Compare a checkpoint's weights with a model's, by names and shapes.

    Raises:
        ValueError: If they are another model's.
    """
    differences = [
        f"{name} is {_form(saved, name)} in the checkpoint and {_form(own, name)} here"
        for name in sorted(saved.keys() | own.keys())
        if not _fits(saved, own, name)
    ]
    if differences:
        raise ValueError(
            f"checkpoint: its model is not this one; {len(differences)} tensors differ: "
            f"{'; '.join(differences[:3])}{' ...' * (len(differences) > 3)}"
        )


def _fits(saved: Mapping[str, Any], own: Mapping[str, Any], name: str) -> bool:
    if name not in saved or name not in own:
        return False
    if name.endswith(_EXTRA) or is_lazy(own[name]):  # of any form, and of none yet
        return True
    return _form(saved, name) == _form(own, name)


def _form(state: Mapping[str, Any], name: str) -> tuple[int, ...] | str:
    if name not in state:
        return "absent"
    value = state[name]
    if is_lazy(value):
        return "without a shape yet"
    return tuple(value.shape) if isinstance(value, Tensor) else f"of type {type(value).__name__}"


def check_readable(state: Mapping[str, Any]) -> None:
    """See that what modules add to their state can be read again with ``weights_only=True``.

    Raises:
        TypeError: If it is anything but tensors, numbers, strings and containers of them.
    """
    for name, value in state.items():
        if not name.endswith(_EXTRA) or isinstance(value, Tensor):
            continue
        file = io.BytesIO()
        try:
            torch.save(value, file)
            file.seek(0)
            torch.load(file, weights_only=True)
        except (pickle.PickleError, AttributeError, TypeError, RuntimeError) as error:
            raise TypeError(
                f"{name}: a checkpoint holds tensors, numbers, strings and containers of them, "
                f"and get_extra_state gives a {type(value).__name__} that is not read again with "
                f"weights_only=True; give its contents instead"
            ) from error


def all_random_states() -> list[dict[str, Tensor]]:
    """The random state of every process, in order of rank."""
    own = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        own["cuda"] = torch.cuda.get_rng_state()
    if world_size() == 1:
        return [own]
    states: list[dict[str, Tensor]] = [{} for _ in range(world_size())]
    dist.all_gather_object(states, own)
    return states


def set_random_state(state: Mapping[str, Tensor]) -> None:
    """Go on with the random numbers of this process."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
