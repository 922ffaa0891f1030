"""Features of training batches, caught while the module computes them."""

from typing import Any

import torch
from torch import Tensor, nn

from star_head._checks import check_pooled

from ._reading import Reading, check_reading, find


class Tap:
    """Catches what a part of the module first gives in each training step.

    Costs nothing beside the step. Where the part is compiled, or is a function and no module, it
    catches nothing.

    Args:
        features: The part's name in the module, or a function.
    """

    def __init__(self, features: Reading) -> None:
        check_reading("features", features)
        self.features = features
        self.catches = False
        self._handle: Any = None
        self._open = False
        self._caught: Any = None

    def attach(self, module: nn.Module) -> None:
        """Find the part.

        Raises:
            ValueError: If the module has none of that name.
        """
        self.detach()
        if not isinstance(self.features, str):
            return
        part = find("features", module, self.features)
        if isinstance(part, nn.Module):
            self._handle = part.register_forward_hook(self._note)
            self.catches = True

    def detach(self) -> None:
        """Leave the module as it was."""
        if self._handle is not None:
            self._handle.remove()
        self._handle, self.catches = None, False
        self.open(False)

    def open(self, opened: bool = True) -> None:
        """Begin a step, or end it."""
        self._open, self._caught = opened, None

    def take(self) -> Tensor | None:
        """The step's features, (B, D) in float32; ``None`` if nothing was caught.

        Raises:
            TypeError: If the part gives anything but a tensor.
            ValueError: If it does not pool.
        """
        caught = self._caught
        self.open(False)
        return None if caught is None else check_pooled("features", caught).float()

    def _note(self, part: nn.Module, inputs: Any, output: Any) -> None:
        if torch.compiler.is_compiling():
            return
        if self._open and self._caught is None:
            # A copy: what follows may work in place, or a CUDA graph use the memory again.
            self._caught = output.detach().clone() if isinstance(output, Tensor) else output
