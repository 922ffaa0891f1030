"""The methods that are compared, as settings of `star-head pretrain`."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from star_head.baseline_models import BaselineTask
from star_head.head import Routing

UNTRAINED = "untrained"


class Method(NamedTuple):
    """One way to train; all else is the same for all.

    Attributes:
        title: As its paper has it.
        routing: Routing of the head.
        num_experts: Number of experts, where the routing leaves it open and the settings do not
            decide.
        task: What stands beside SimCLR.
    """

    title: str
    routing: Routing
    num_experts: int | None = None
    task: BaselineTask | None = None

    def flags(self) -> list[str]:
        """Arguments of `star-head pretrain`."""
        flags = [f"--model.routing={self.routing}", f"--model.task={self.task or 'null'}"]
        if self.routing == "mmoe" and self.num_experts is None:
            return flags
        return [*flags, f"--model.num_experts={self.num_experts or 'null'}"]


METHODS: Mapping[str, Method] = {
    "simclr": Method("SimCLR", "invariant"),
    "equimod": Method("EquiMod (separate heads)", "separate"),
    "augself": Method("AugSelf", "invariant", task="augself"),
    "essl": Method("E-SSL", "invariant", task="essl"),
    "star-ss": Method("STAR-SS", "shared"),
    "star-mmoe": Method("STAR-MMoE", "mmoe"),
}


def find_method(name: str) -> Method:
    """A method by its name; ``"star-mmoe-4"`` has four experts.

    Raises:
        ValueError: If there is none of this name.
    """
    if name in METHODS:
        return METHODS[name]
    if count := re.fullmatch(r"star-mmoe-([1-9]\d*)", name):
        return Method(
            f"STAR-MMoE, {count[1]} expert{'s' * (count[1] != '1')}", "mmoe", int(count[1])
        )
    raise ValueError(
        f"methods: expected some of {', '.join(METHODS)} and star-mmoe-N of N experts, got {name!r}"
    )


def check_methods(names: Sequence[str]) -> None:
    """Raise a ValueError unless there are some, each known and named once."""
    if not names:
        raise ValueError("methods: expected one or more, got none")
    for name in names:
        find_method(name)
    if len(set(names)) < len(names):
        raise ValueError(f"methods: expected each once, got {', '.join(names)}")


def title_of(name: str) -> str:
    """What a table calls a method."""
    return "untrained" if name == UNTRAINED else find_method(name).title
