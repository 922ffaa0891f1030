"""Buffers that follow from a module's arguments: constants, not state."""

from typing import Any

import torch
from torch import Tensor, nn


class ConstantBuffers(nn.Module):
    """A module with tensors that move with it but are in no state_dict.

    What is not in the state is lost where memory is made anew, as by ``to_empty`` after the meta
    device. These come back with ``load_state_dict`` and with ``reset_parameters``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._constants: dict[str, Tensor] = {}

    def register_constant(
        self, name: str, values: Tensor, device: torch.device | str | None = None
    ) -> None:
        """Add a buffer of these values, given on the CPU, on ``device`` (the CPU by default)."""
        self._constants[name] = values
        self.register_buffer(name, values.to(device, copy=True), persistent=False)

    def reset_parameters(self) -> None:
        """Fill the buffers with their values."""
        for name, values in self._constants.items():
            self.get_buffer(name).copy_(values)

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        for name, values in self._constants.items():
            if self.get_buffer(name).is_meta:  # as load_state_dict(assign=True) finds it
                setattr(self, name, values.to(torch.get_default_device(), copy=True))
            else:
                self.get_buffer(name).copy_(values)
