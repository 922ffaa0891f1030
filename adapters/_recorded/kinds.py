"""The kinds of operations: which numbers tell each, what they are, where the image lies after it.

torchvision's two generations and lightly differ in how they draw; what was drawn is brought to one
form, that of ``torchvision.transforms.v2``'s ``make_params``, which is read here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from star_head.augmentation import Parameter, ParameterSpec

from .._images import middle_of_side
from .canvas import Canvas, shape_of
from .operation import Values

Kind = dict[str, Any]
"""Keywords of :class:`Operation`."""


def _of_paper(parameter: Parameter, neutral: float | str) -> ParameterSpec:
    return ParameterSpec(parameter.label, parameter.unit, neutral)  # type: ignore[arg-type]


def _numbers(unit: str, neutral: float, *names: str) -> tuple[ParameterSpec, ...]:
    return tuple(ParameterSpec(name, unit, neutral) for name in names)


def varying(bounds: Sequence[float], neutral: float, varies: bool) -> bool:
    """Whether a number drawn between two bounds, or else neutral, differs between images."""
    low, high = bounds
    return low != high or (varies and low != neutral)


# Flags.


def flag(name: str) -> Kind:
    """Applied or not, with nothing else to tell."""
    return {
        "numbers": _numbers("0 or 1", 0.0, name),
        "values": lambda operation, drawn, canvas: {name: 1.0},
    }


def setting(name: str, unit: str, neutral: float, attribute: str) -> Kind:
    """Applied or not, with one fixed setting, which is the number."""
    return {
        "numbers": _numbers(unit, neutral, name),
        "values": lambda operation, drawn, canvas: {name: float(getattr(operation, attribute))},
    }


FLIP: Kind = {**flag("flip"), "after": lambda operation, drawn, canvas: canvas.mirrored()}
VERTICAL_FLIP: Kind = {
    **flag("vertical flip"),
    "after": lambda operation, drawn, canvas: canvas.mirrored(vertically=True),
}

# Crops and sizes.

_CROP = (
    _of_paper(Parameter.CROP_TOP, 0.0),
    _of_paper(Parameter.CROP_LEFT, 0.0),
    _of_paper(Parameter.CROP_HEIGHT, "image height"),
    _of_paper(Parameter.CROP_WIDTH, "image width"),
)


def _resize_and_center(operation: Any, image: Any) -> Any:
    """The shorter side resized to the crop's size, the centre cut out."""
    size = tuple(operation.size)
    interpolation = getattr(operation, "interpolation", InterpolationMode.BILINEAR)
    _, height, width = shape_of(image)
    # Of a very long image the middle alone, as STARTransform has it: the rest is never resized.
    top, bottom = middle_of_side(height, math.ceil(width * size[0] / size[1]))
    left, right = middle_of_side(width, math.ceil(height * size[1] / size[0]))
    if (bottom - top, right - left) != (height, width):
        height, width = bottom - top, right - left
        image = F.crop(image, top, left, height, width)
    scale = max(size[0] / height, size[1] / width)
    # As torchvision's resize of the shorter side to one number, also where the crop is not square.
    covering = [max(new, int(scale * old)) for new, old in zip(size, (height, width), strict=True)]
    if size[0] == size[1]:
        covering = [size[0]]
    return F.center_crop(F.resize(image, covering, interpolation), list(size))


def _crop(operation: Any, drawn: Any, canvas: Canvas) -> Canvas:
    canvas = canvas.padded(*drawn.get("padding", (0, 0, 0, 0)))
    return canvas.cropped(*(drawn[key] for key in ("top", "left", "height", "width")))


def _crop_values(operation: Any, drawn: Any, canvas: Canvas) -> Values:
    box = _crop(operation, drawn, canvas).box()
    return {number.name: value for number, value in zip(_CROP, box, strict=True)}


CROP: Kind = {
    "numbers": _CROP,
    "recorded": lambda operation, varies: True,
    "values": _crop_values,
    "after": _crop,
    "size": lambda operation: tuple(operation.size),
    "center": _resize_and_center,
}
RESIZED_CROP: Kind = {
    **CROP,
    "after": lambda operation, drawn, canvas: _crop(operation, drawn, canvas).resized(
        *operation.size
    ),
}


def resized_size(canvas: Canvas, size: Sequence[int] | None, max_size: int | None) -> list[int]:
    """The (height, width) that torchvision's ``resize`` gives an image."""
    if size is not None and len(size) == 2:
        return list(size)
    short, long = sorted((canvas.height, canvas.width))
    new = None if size is None else [size[0], int(size[0] * long / short)]
    if max_size is not None and (new is None or new[1] > max_size):
        ratio = (short, long) if new is None else new
        new = [int(max_size * ratio[0] / ratio[1]), max_size]
    if new is None:
        raise ValueError("Resize: expected a size or a max_size, got neither")
    return new if canvas.height <= canvas.width else new[::-1]


def _random_resize(operation: Any, drawn: Any, canvas: Canvas) -> Canvas:
    return canvas.resized(*resized_size(canvas, drawn["size"], None))


RESIZE: Kind = {
    "numbers": _numbers("factor", 1.0, "resize"),
    "recorded": lambda operation, varies: True,
    "values": lambda operation, drawn, canvas: {
        "resize": _random_resize(operation, drawn, canvas).height / canvas.height
    },
    "after": _random_resize,
}

_PADDING = _numbers("pixels", 0.0, *(f"padding {s}" for s in ("left", "top", "right", "bottom")))
ZOOM_OUT: Kind = {
    "numbers": _PADDING,
    "recorded": lambda operation, varies: operation.side_range[1] > 1,
    "values": lambda operation, drawn, canvas: {
        number.name: float(pixels)
        for number, pixels in zip(_PADDING, drawn["padding"], strict=True)
    },
    "after": lambda operation, drawn, canvas: canvas.padded(*drawn["padding"]),
}

# Warps.

_ROTATION = (
    *_numbers("degrees", 0.0, "rotation"),
    ParameterSpec("rotation sine", "sine", 0.0),
    ParameterSpec("rotation cosine", "cosine", 1.0),
)


def _rotation_names(degrees: Sequence[float], varies: bool) -> list[str]:
    low, high = degrees
    if high - low > 180:  # its ends are nearer to each other the other way round
        return ["rotation sine", "rotation cosine"]
    return ["rotation"] if varying(degrees, 0.0, varies) else []


def rotation_values(operation: Any, drawn: Any, canvas: Canvas) -> Values:
    """The angle, which may be recorded by its sine and cosine."""
    angle = drawn["angle"]
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    return {"rotation": float(angle), "rotation sine": sine, "rotation cosine": cosine}


def _rotated(operation: Any, drawn: Any, canvas: Canvas) -> Canvas:
    if not operation.expand:
        return canvas
    # Pillow and torch round the size each in its own way.
    blank: Any = torch.zeros(1, canvas.height, canvas.width)
    if canvas.pil:
        blank = Image.new("L", (canvas.width, canvas.height))
    rotated = F.rotate(blank, drawn["angle"], expand=True, center=operation.center)
    return canvas.centered(*shape_of(rotated)[1:])


ROTATION: Kind = {
    "numbers": _ROTATION,
    "recorded": lambda operation, varies: _rotation_names(operation.degrees, varies),
    "values": rotation_values,
    "after": _rotated,
}


def _affine_names(operation: Any, varies: bool) -> list[str]:
    names = _rotation_names(operation.degrees, varies)
    shift_x, shift_y = operation.translate or (0, 0)
    names += [name for name, s in (("shift x", shift_x), ("shift y", shift_y)) if s]
    if operation.scale is not None and varying(operation.scale, 1.0, varies):
        names.append("scale")
    shear = list(operation.shear or ()) + [0.0] * 4
    names += [
        name
        for name, bounds in (("shear x", shear[:2]), ("shear y", shear[2:4]))
        if varying(bounds, 0.0, varies)
    ]
    return names


AFFINE: Kind = {
    "numbers": (
        *_ROTATION,
        *_numbers("pixels", 0.0, "shift x", "shift y"),
        *_numbers("factor", 1.0, "scale"),
        *_numbers("degrees", 0.0, "shear x", "shear y"),
    ),
    "recorded": _affine_names,
    "values": lambda operation, drawn, canvas: {
        **rotation_values(operation, drawn, canvas),
        "shift x": float(drawn["translate"][0]),
        "shift y": float(drawn["translate"][1]),
        "scale": float(drawn["scale"]),
        "shear x": float(drawn["shear"][0]),
        "shear y": float(drawn["shear"][1]),
    },
}

_CORNERS = _numbers(
    "pixels",
    0.0,
    *(
        f"{corner} corner {axis}"
        for corner in ("top-left", "top-right", "bottom-right", "bottom-left")
        for axis in "xy"
    ),
)


def _corner_values(operation: Any, drawn: Any, canvas: Canvas) -> Values:
    moved = np.subtract(drawn["endpoints"], drawn["startpoints"]).ravel().tolist()
    return {number.name: float(pixels) for number, pixels in zip(_CORNERS, moved, strict=True)}


PERSPECTIVE: Kind = {
    "numbers": _CORNERS,
    "recorded": lambda operation, varies: operation.distortion_scale > 0,
    "values": _corner_values,
}

# Colours and pixels.

_COLORS = {
    "brightness_factor": _of_paper(Parameter.BRIGHTNESS, 1.0),
    "contrast_factor": _of_paper(Parameter.CONTRAST, 1.0),
    "saturation_factor": _of_paper(Parameter.SATURATION, 1.0),
    "hue_factor": _of_paper(Parameter.HUE, 0.0),
}


def _jitter_names(operation: Any, varies: bool) -> list[str]:
    ranges = [getattr(operation, number.name) for number in _COLORS.values()]
    return [
        number.name
        for number, bounds in zip(_COLORS.values(), ranges, strict=True)
        if bounds is not None and varying(bounds, float(number.neutral), varies)
    ]


JITTER: Kind = {
    "numbers": tuple(_COLORS.values()),
    "recorded": _jitter_names,
    "values": lambda operation, drawn, canvas: {
        number.name: drawn[key] for key, number in _COLORS.items() if drawn[key] is not None
    },
}
GRAYSCALE = flag(Parameter.GRAYSCALE.label)
BLUR: Kind = {
    "numbers": (_of_paper(Parameter.BLUR_SIGMA, 0.0),),
    "recorded": lambda operation, varies: varying(operation.sigma, 0.0, varies),
    "values": lambda operation, drawn, canvas: {Parameter.BLUR_SIGMA.label: drawn["sigma"][0]},
}
JPEG: Kind = {
    "numbers": _numbers("1 to 100", 100.0, "JPEG quality"),
    "recorded": lambda operation, varies: varying(operation.quality, 0, varies),
    "values": lambda operation, drawn, canvas: {"JPEG quality": float(drawn["quality"])},
}
_ERASED = _numbers("pixels", 0.0, *(f"erased {s}" for s in ("top", "left", "height", "width")))
ERASING: Kind = {
    "numbers": _ERASED,
    "recorded": lambda operation, varies: True,
    "values": lambda operation, drawn, canvas: {
        number.name: float(drawn[key])
        for number, key in zip(_ERASED, "ijhw", strict=True)
        if drawn["v"] is not None
    },
}
