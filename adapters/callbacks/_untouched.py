"""Looking at a module in training without a trace."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from star_head._modes import evaluation_mode
from star_head._seeds import all_seeded


@contextlib.contextmanager
def untouched(trainer: Any, module: nn.Module) -> Iterator[None]:
    """Compute in evaluation mode, in the run's precision, without gradients, and leave no trace.

    Random numbers of torch, NumPy and Python, the parts' modes and the buffers are as they were.

    Raises:
        ValueError: If parameters are lazy, whose first values would be drawn here.
    """
    if any(is_lazy(parameter) for parameter in module.parameters()):
        raise ValueError(
            "lazy parameters have no values before the first training step; run a batch through "
            "the module before training to measure it"
        )
    buffers = [
        (part, name, buffer, buffer.clone(), buffer._version)
        for part in module.modules()
        for name, buffer in part._buffers.items()
        if buffer is not None and not is_lazy(buffer) and not buffer.is_inference()
    ]
    try:
        with (
            all_seeded(0),
            _random_state_of(_device(module)),
            evaluation_mode(module),
            torch.no_grad(),
            trainer.precision_plugin.val_step_context(),
        ):
            yield
    finally:
        with torch.no_grad():
            for part, name, buffer, before, version in buffers:
                part._buffers[name] = buffer
                if buffer._version != version:
                    buffer.copy_(before)


def to_module(trainer: Any, module: nn.Module, images: Tensor) -> Tensor:
    """Images where the module is, in the precision of its inputs."""
    converted: Tensor = trainer.precision_plugin.convert_input(images.to(_device(module)))
    return converted


def _device(module: Any) -> torch.device:
    device: torch.device = module.device
    return device


@contextlib.contextmanager
def _random_state_of(device: torch.device) -> Iterator[None]:
    """Leave a device's own generator as it was."""
    generators: Any = {"cuda": torch.cuda, "mps": torch.mps}.get(device.type)
    if generators is None:
        yield
        return
    arguments = (device,) if device.type == "cuda" else ()
    state = generators.get_rng_state(*arguments)
    try:
        yield
    finally:
        generators.set_rng_state(state, *arguments)
