"""Checks at the door of the view transforms' arguments."""

from collections.abc import Mapping
from numbers import Integral
from typing import Any

from star_head._checks import check_number, describe

_STRENGTHS = ("cj_bright", "cj_contrast", "cj_sat", "cj_hue")
_PROBABILITIES = ("cj_prob", "random_gray_scale", "gaussian_blur", "hf_prob")
_NUMBERS = (*_STRENGTHS, *_PROBABILITIES, "cj_strength", "min_scale", "vf_prob", "rr_prob")


def check_view_arguments(given: Mapping[str, Any]) -> tuple[int, list[float]]:
    """Check what ``STARViewTransform`` was given, by its arguments' names.

    Returns:
        The side of the views, and the strengths of brightness, contrast, saturation and hue.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If it is out of range, or asks for what the 11 parameters can't hold.
    """
    side = _check_side(given["input_size"])
    for name in _NUMBERS:
        check_number(name, given[name])
    _check_sigmas(given["sigmas"])
    if given["vf_prob"]:
        raise ValueError(
            f"vf_prob: vertical flips can't be recorded; expected 0, got {given['vf_prob']}"
        )
    rotation = given["rr_prob"], given["rr_degrees"]
    if rotation[0] or rotation[1] is not None:
        raise ValueError(
            f"rr_prob, rr_degrees: rotations can't be recorded; expected 0 and None, "
            f"got {rotation[0]} and {rotation[1]}"
        )
    for name in _PROBABILITIES:
        if not 0 <= given[name] <= 1:
            raise ValueError(f"{name}: expected a probability, got {given[name]}")
    if not 0 < given["min_scale"] <= 1:
        raise ValueError(f"min_scale: expected a share in (0, 1], got {given['min_scale']}")
    if given["blur"] not in ("kernel", "pillow"):
        raise ValueError(f"blur: expected 'kernel' or 'pillow', got {given['blur']!r}")
    of = tuple(given[name] for name in _STRENGTHS)
    strengths = [given["cj_strength"] * strength for strength in of]
    if not (min(strengths) >= 0 and strengths[3] <= 0.5):
        raise ValueError(
            f"cj_strength: expected strengths of at least 0 and a hue within 0.5 turns, got "
            f"{given['cj_strength']} times {of}"
        )
    return side, strengths


def _check_side(input_size: Any) -> int:
    """The side of square views from a number, or from the same one twice, as lightly takes them."""
    if isinstance(input_size, tuple | list) and len(input_size) == 2:
        if input_size[0] != input_size[1]:
            raise ValueError(
                f"input_size: expected a side in pixels, since views are square, got {input_size}"
            )
        input_size = input_size[0]
    if not isinstance(input_size, Integral) or isinstance(input_size, bool):
        raise TypeError(f"input_size: expected a side in pixels, got {describe(input_size)}")
    if input_size < 2:
        raise ValueError(f"input_size: expected at least 2 pixels, got {input_size}")
    return int(input_size)


def _check_sigmas(sigmas: Any) -> None:
    if not isinstance(sigmas, tuple | list) or len(sigmas) != 2:
        raise TypeError(f"sigmas: expected (smallest, largest), got {describe(sigmas)}")
    for sigma in sigmas:
        check_number("sigmas", sigma)
    if not 0 < sigmas[0] <= sigmas[1]:
        raise ValueError(f"sigmas: expected 0 < smallest <= largest, got {sigmas}")
