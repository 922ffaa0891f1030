"""kornia's augmentations that change colours and pixels where they are."""

from __future__ import annotations

from typing import Any

from star_head.augmentation import ParameterSpec

from .._recorded import kinds
from .canvas import Canvas
from .known import Known, Params, Values, always, fixed, flag, uniform

_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = kinds.JITTER["numbers"]
_COLORS = (
    (_BRIGHTNESS, "brightness"),
    (_CONTRAST, "contrast"),
    (_SATURATION, "saturation"),
    (_HUE, "hue"),
)


def _jitter() -> Known:
    known = uniform(*((number, f"{key}_factor", key) for number, key in _COLORS))

    def recorded(operation: Any, varies: bool) -> list[str]:
        order = operation._fixed_order  # which may leave out some
        applied = [_COLORS[i][0].name for i in (range(4) if order is None else order)]
        return [name for name in known.recorded(operation, varies) if name in applied]

    return Known(known.numbers, known.read, recorded)


def _erased(operation: Any, params: Params, canvas: Canvas) -> Values:
    keys = ("ys", "xs", "heights", "widths")
    numbers = kinds.ERASING["numbers"]
    return {number.name: params[key] for number, key in zip(numbers, keys, strict=True)}


INTENSITY: dict[str, Known] = {
    "ColorJiggle": _jitter(),
    "ColorJitter": _jitter(),
    "Denormalize": fixed("denormalize"),
    "Normalize": fixed("normalize"),
    "RandomAutoContrast": flag(kinds.flag("autocontrast")),
    "RandomBoxBlur": flag(kinds.flag("box blur")),
    "RandomBrightness": uniform((_BRIGHTNESS, "brightness_factor", None)),
    "RandomContrast": uniform((_CONTRAST, "contrast_factor", None)),
    "RandomEqualize": flag(kinds.flag("equalize")),
    "RandomErasing": Known(kinds.ERASING["numbers"], _erased, always(kinds.ERASING["numbers"])),
    "RandomGamma": uniform(
        (ParameterSpec("gamma", "exponent", 1.0), "gamma_factor", None),
        (ParameterSpec("gain", "factor", 1.0), "gain_factor", None),
    ),
    "RandomGaussianBlur": uniform((kinds.BLUR["numbers"][0], "sigma", None)),
    "RandomGrayscale": flag(kinds.GRAYSCALE),
    "RandomHue": uniform((_HUE, "hue_factor", None)),
    "RandomInvert": flag(kinds.flag("invert")),
    "RandomJPEG": uniform((kinds.JPEG["numbers"][0], "jpeg_quality", None)),
    "RandomMedianBlur": flag(kinds.flag("median blur")),
    "RandomPosterize": uniform((ParameterSpec("posterize", "bits", 8.0), "bits_factor", "bit")),
    "RandomRGBShift": uniform(
        *(
            (ParameterSpec(f"{color} shift", "brightness", 0.0), f"{color[0]}_shift", None)
            for color in ("red", "green", "blue")
        )
    ),
    "RandomSaturation": uniform((_SATURATION, "saturation_factor", None)),
    "RandomSharpness": uniform((ParameterSpec("sharpness", "factor", 1.0), "sharpness", None)),
    "RandomSolarize": uniform(
        (ParameterSpec("solarize threshold", "brightness", 1.0), "thresholds", None),
        (ParameterSpec("solarize addition", "brightness", 0.0), "additions", None),
    ),
}
