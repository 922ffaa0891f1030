"""The temperature of a contrastive loss: a number, or a tensor that may be learned."""

import math
from numbers import Real

import torch
from torch import Tensor

_ADVICE = (
    "if it is learned, lower its learning rate, or keep it positive with "
    "torch.nn.utils.parametrize.register_parametrization"
)


def check_temperature(temperature: float | Tensor) -> None:
    """Raise unless ``temperature`` is a positive finite number, or a tensor of one.

    The value of a tensor on the meta device is not known, and so not checked.

    Raises:
        TypeError: If it is no number, or a tensor of booleans or complex numbers.
        ValueError: If it is not positive and finite, or a tensor of another number of elements.
    """
    if isinstance(temperature, Tensor):
        if temperature.dtype == torch.bool or temperature.is_complex():
            raise TypeError(f"temperature: expected a real number, got {temperature.dtype}")
        if temperature.numel() != 1:
            raise ValueError(
                f"temperature: expected one number for all samples, "
                f"got shape {tuple(temperature.shape)}"
            )
        if temperature.is_meta:
            return
        temperature = temperature.item()
    elif isinstance(temperature, bool) or not isinstance(temperature, Real):
        raise TypeError(
            f"temperature: expected a number or a tensor of one, got {type(temperature).__name__}"
        )
    value = float(temperature)
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"temperature: expected a positive number, got {value}")


def usable_temperature(temperature: float | Tensor, like: Tensor) -> float | Tensor:
    """The temperature to divide by: a tensor with the dtype and device of ``like``, shape ().

    A learned one can leave the positive numbers. On the CPU that raises; on another device, where
    looking would wait, and under ``torch.compile`` it becomes nan, and so does the loss.

    Raises:
        ValueError: If it is not positive and finite, and can be looked at.
    """
    if not isinstance(temperature, Tensor):
        return temperature
    scalar = temperature.reshape(()).to(like)
    usable = (scalar > 0) & scalar.isfinite()
    if scalar.device.type == "cpu" and not torch.compiler.is_compiling() and not usable:
        raise ValueError(
            f"temperature: expected a positive number, got {scalar.item():.6g}; {_ADVICE}"
        )
    return torch.where(usable, scalar, torch.nan)


def describe_temperature(temperature: float | Tensor) -> str:
    """The number, and whether it is learned, for printing."""
    if not isinstance(temperature, Tensor):
        return str(temperature)
    value = "on the meta device" if temperature.is_meta else f"{temperature.item():.6g}"
    return f"{value} (learned)" if temperature.requires_grad else value
