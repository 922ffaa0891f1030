"""What is compared: the paper's method and its baselines, all else the same."""

from typing import NamedTuple

from star_head.head import Routing


class Method(NamedTuple):
    """A routing of the head.

    Attributes:
        title: As the paper has it.
        routing: Routing of ``STARProjectionHead``.
        num_experts: In its bank.
    """

    title: str
    routing: Routing
    num_experts: int


METHODS: dict[str, Method] = {
    "simclr": Method("SimCLR", "invariant", 1),
    "separate": Method("separate heads", "separate", 2),
    "shared": Method("STAR-SS", "shared", 3),
    "mmoe2": Method("STAR-MMoE, 2 experts", "mmoe", 2),
    "mmoe4": Method("STAR-MMoE, 4 experts", "mmoe", 4),
    "mmoe8": Method("STAR-MMoE, 8 experts", "mmoe", 8),
    "mmoe16": Method("STAR-MMoE, 16 experts", "mmoe", 16),
}
