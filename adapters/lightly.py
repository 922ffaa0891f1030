"""Views for lightly pipelines that record how they were made. Needs ``star-head[lightly]``."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from star_head.augmentation import AugmentationRecord, ColorOperation, Parameter, STARViews

from ._blur import GaussianBlur
from ._checks import check_normalize
from ._equivariant_task import equivariant_loss, expert_width
from ._view_arguments import check_view_arguments

try:
    from lightly.transforms.utils import IMAGENET_NORMALIZE
    from PIL import Image, ImageFilter

    from ._images import Color, check_background, check_size, resize_and_center_crop, to_rgb
    from ._pil_color import COLOR_OPERATIONS
    from ._pixel_range import PixelRange, check_pixel_range
    from .image_sizes import image_sizes
except ImportError as error:
    raise ImportError(
        'star_head.adapters.lightly needs lightly: pip install "star-head[lightly]"'
    ) from error

__all__ = [
    "STL10_NORMALIZE",
    "STARMultiViewTransform",
    "STARTransform",
    "STARViewTransform",
    "equivariant_loss",
    "expert_width",
]

STL10_NORMALIZE = {"mean": [0.43, 0.42, 0.39], "std": [0.27, 0.26, 0.27]}
"""Pixel mean and standard deviation of the paper's STL10 runs, in lightly's form."""

_RATIO = (3 / 4, 4 / 3)
_CROP_ATTEMPTS = 10
# Two for each attempt at a crop, two for its place; flip 1, jitter 9, grayscale 1, blur 2.
_DRAWS = 2 * _CROP_ATTEMPTS + 2 + 1 + 9 + 1 + 2


class STARViewTransform:
    """Makes one augmented view and records the 11 parameters that made it.

    Crop, flip, colour jitter, grayscale and blur, arguments named as lightly's
    ``SimCLRViewTransform`` names them, defaults as the paper sets them. A view is always
    ``apply(image, sample(image))``: a record can be kept, looked at and applied again, and gives
    the same view bit for bit. All randomness is one draw a view from torch's global generator.

    Operations follow torchvision's formulas on PIL images, the four colour operations in an order
    drawn for each view. The blur is the paper's: a Gaussian cut off at a tenth of the view's size
    (9 pixels at 96, 23 at 224), applied in floating point.

    Args:
        input_size: Side S of the views in pixels; views are square, so a pair is (S, S).
        cj_prob: Probability of colour jitter.
        cj_strength: What the four colour strengths are multiplied by; 0.5 gives the paper's
            0.4, 0.4, 0.4, 0.1.
        cj_bright: Brightness factors are uniform in 1 +- this strength, not below 0.
        cj_contrast: Likewise contrast.
        cj_sat: Likewise saturation.
        cj_hue: Hue shifts are uniform in +- this strength, in turns.
        min_scale: Smallest area of a crop relative to the image's.
        random_gray_scale: Probability of grayscale.
        gaussian_blur: Probability of blur.
        sigmas: Range of the blur's standard deviation in pixels of the view.
        vf_prob: Vertical flips are not among the 11 parameters: 0.
        hf_prob: Probability of a horizontal flip.
        rr_prob: Rotations are not among the 11 parameters: 0.
        rr_degrees: ``None``, for the same reason.
        normalize: ``{"mean": ..., "std": ...}`` of the pixels in [0, 1], three numbers each;
            ``None`` leaves them in [0, 1].
        blur: ``"kernel"`` for the paper's truncated kernel, or ``"pillow"`` for the approximation
            by three box filters that lightly uses. The kernel is the default since it is what the
            parameter means and what a batched path can reproduce; it takes half Pillow's time at
            96 pixels and as long at 224.
        pixel_range: The pixel values (low, high) that become black and white in images of more
            than 8 bits, as medical and satellite images are: PIL modes ``"I"``, ``"I;16"`` and
            ``"F"``, and tensors of other dtypes than uint8. What lies outside is cut off. Without
            it such an image is an error; 8-bit images stay as they are.
        background: The colour (red, green, blue), 0 to 255, that transparent pixels are put on.
            Without it the colours stored under them are shown, with a warning.

    Attributes:
        parameters: What the 11 numbers are; each has a ``label`` and a ``unit``.

    Raises:
        TypeError: If a number is none, or ``input_size`` neither a number nor a pair.
        ValueError: If an argument is out of range or asks for what the 11 parameters can't hold.

    Example:
        >>> transform = STARViewTransform(input_size=32)
        >>> image = torch.randint(256, (3, 48, 64), dtype=torch.uint8)
        >>> record = transform.sample(image)
        >>> torch.equal(transform.apply(image, record), transform.apply(image, record))
        True
        >>> view, params = transform(image)
        >>> view.shape, params.shape
        (torch.Size([3, 32, 32]), torch.Size([11]))
    """

    parameters = tuple(Parameter)
    image_sizes = staticmethod(image_sizes)  # how estimate_statistics reads a data set

    def __init__(
        self,
        input_size: int | tuple[int, int] = 224,
        cj_prob: float = 0.8,
        cj_strength: float = 0.5,
        cj_bright: float = 0.8,
        cj_contrast: float = 0.8,
        cj_sat: float = 0.8,
        cj_hue: float = 0.2,
        min_scale: float = 0.2,
        random_gray_scale: float = 0.2,
        gaussian_blur: float = 0.5,
        sigmas: tuple[float, float] = (0.1, 2.0),
        vf_prob: float = 0.0,
        hf_prob: float = 0.5,
        rr_prob: float = 0.0,
        rr_degrees: float | tuple[float, float] | None = None,
        normalize: Mapping[str, Sequence[float]] | None = IMAGENET_NORMALIZE,
        blur: Literal["kernel", "pillow"] = "kernel",
        pixel_range: PixelRange | None = None,
        background: Color | None = None,
    ) -> None:
        side, strengths = check_view_arguments(locals())
        self.input_size = side
        self.cj_prob = cj_prob
        self.factor_ranges = [(max(0.0, 1 - s), 1 + s) for s in strengths[:3]]
        self.max_hue = strengths[3]
        self.min_scale = min_scale
        self.random_gray_scale = random_gray_scale
        self.gaussian_blur = gaussian_blur
        self.sigmas = sigmas
        self.hf_prob = hf_prob
        self.blur = blur
        self.pixel_range = check_pixel_range(pixel_range)
        self.background = check_background(background)
        self._blur = GaussianBlur(side, kernel_size=side // 10 | 1)
        self.normalize = check_normalize(normalize or {"mean": [0.0] * 3, "std": [1.0] * 3}, 3)
        # On the CPU even where another default device is set, as images are.
        mean, std = (
            torch.tensor(self.normalize[k], device="cpu").view(3, 1, 1) for k in ("mean", "std")
        )
        # (v / 255 - mean) / std as one product and one difference.
        self._scale = 1 / (255 * std)
        self._shift = mean / std

    def __call__(self, image: Image.Image | Tensor) -> tuple[Tensor, Tensor]:
        """Make a random view: the view (3, S, S) and its raw parameters (11,)."""
        image = self.to_rgb(image)
        record = self.sample(image)
        return self._apply(image, record), record.vector()

    def sample(self, image: Image.Image | Tensor | tuple[int, int]) -> AugmentationRecord:
        """Draw a record for an image, of which only the size is looked at.

        Args:
            image: A PIL image, a (C, H, W) tensor, or its (height, width) in pixels.
        """
        if isinstance(image, tuple | list):
            height, width = image
        elif isinstance(image, Tensor):
            height, width = image.shape[-2:]
        else:
            width, height = image.size
        check_size(height, width)
        draw = iter(torch.rand(_DRAWS).tolist())
        crop = self._sample_crop(height, width, draw)
        flip = next(draw) < self.hf_prob
        brightness = contrast = saturation = 1.0
        hue = 0.0
        order = tuple(ColorOperation)
        if next(draw) < self.cj_prob:
            brightness, contrast, saturation = (
                low + (high - low) * next(draw) for low, high in self.factor_ranges
            )
            hue = self.max_hue * (2 * next(draw) - 1)
            order = tuple(sorted(ColorOperation, key=[next(draw) for _ in order].__getitem__))
        grayscale = next(draw) < self.random_gray_scale
        sigma = 0.0
        if next(draw) < self.gaussian_blur:
            sigma = self.sigmas[0] + (self.sigmas[1] - self.sigmas[0]) * next(draw)
        return AugmentationRecord(
            *crop,
            flip,
            brightness,
            contrast,
            saturation,
            hue,
            grayscale,
            sigma,
            order,
        )

    def _sample_crop(
        self, height: int, width: int, draw: Iterator[float]
    ) -> tuple[int, int, int, int]:
        """Torchvision's random resized crop: (top, left, height, width)."""
        log_ratio = tuple(map(math.log, _RATIO))
        for _ in range(_CROP_ATTEMPTS):
            area = height * width * (self.min_scale + (1 - self.min_scale) * next(draw))
            ratio = math.exp(log_ratio[0] + (log_ratio[1] - log_ratio[0]) * next(draw))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                return int(next(draw) * (height - h + 1)), int(next(draw) * (width - w + 1)), h, w
        ratio = min(max(width / height, _RATIO[0]), _RATIO[1])
        w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
        return (height - h) // 2, (width - w) // 2, h, w

    def apply(self, image: Image.Image | Tensor, record: AugmentationRecord) -> Tensor:
        """Make the view that a record describes.

        Args:
            image: The image that the record was drawn for: PIL of any mode, or (C, H, W).
            record: From :meth:`sample`.

        Returns:
            The view, float32 (3, S, S).

        Raises:
            ValueError: If the record's crop does not lie inside the image.
        """
        image = self.to_rgb(image)
        top, left, height, width = record[:4]
        inside = top + height <= image.height and left + width <= image.width
        if not inside or min(top, left) < 0 or min(height, width) < 1:
            raise ValueError(
                f"record: expected a crop inside the image of height {image.height} and width "
                f"{image.width}, got top {top}, left {left}, height {height}, width {width}"
            )
        return self._apply(image, record)

    def original(self, image: Image.Image | Tensor) -> Tensor:
        """The image resized, centre-cropped and normalised: float32 (3, S, S)."""
        image = self.to_rgb(image)
        return self._to_tensor(
            resize_and_center_crop(image, self.input_size, Image.Resampling.BILINEAR)
        )

    def to_rgb(self, image: Image.Image | Tensor) -> Image.Image:
        """The 8-bit RGB image that views are made from.

        Raises:
            TypeError: If it is neither a PIL image nor a tensor, or a tensor of another dtype than
                uint8 comes without ``pixel_range``.
            ValueError: If it cannot be an image to crop from, or one of more than 8 bits comes
                without ``pixel_range``; the error names the mode and the range.
        """
        return to_rgb(image, self.pixel_range, self.background)

    def _apply(self, image: Image.Image, record: AugmentationRecord) -> Tensor:
        top, left, height, width = record[:4]
        image = image.crop((left, top, left + width, top + height))
        image = image.resize((self.input_size, self.input_size), Image.Resampling.BILINEAR)
        if record.flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        for operation in record.color_order:
            image = COLOR_OPERATIONS[operation](image, record)
        if record.grayscale:
            image = image.convert("L").convert("RGB")
        if not record.blur_sigma:
            return self._to_tensor(image)
        if self.blur == "pillow":
            return self._to_tensor(image.filter(ImageFilter.GaussianBlur(record.blur_sigma)))
        # Blur and normalisation are both affine and the kernel sums to 1: their order is free.
        return self._blur(self._to_tensor(image), torch.tensor(record.blur_sigma))

    def _to_tensor(self, image: Image.Image) -> Tensor:
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        pixels = pixels.to(torch.float32, memory_format=torch.contiguous_format)
        return pixels.mul_(self._scale).sub_(self._shift)


class STARTransform(STARViewTransform):
    """Makes what STAR trains on: the original, two augmented views and their parameters.

    The original is the image without random augmentation: its shorter side resized to S, the
    centre cut out, normalised. Takes the arguments of :class:`STARViewTransform`. PyTorch's
    default collate batches what it returns.

    Example:
        >>> transform = STARTransform(input_size=32)
        >>> views = transform(torch.randint(256, (3, 48, 64), dtype=torch.uint8))
        >>> views.original.shape, len(views.views), views.params[0].shape
        (torch.Size([3, 32, 32]), 2, torch.Size([11]))
    """

    def __call__(self, image: Image.Image | Tensor) -> STARViews:  # type: ignore[override]
        """Make the original and two random views of it."""
        image = self.to_rgb(image)
        (view1, params1), (view2, params2) = super().__call__(image), super().__call__(image)
        return STARViews(self.original(image), (view1, view2), (params1, params2))


class STARMultiViewTransform:
    """Makes any number of views, recorded ones first, for methods with several or many crops.

    What is recorded takes part in the equivariant task. lightly's ``MultiViewTransform`` is the
    same without records; lightly's transforms of a single view can be among the others.

    Args:
        recorded: Makes a view each, whose parameters are recorded, in this order; the first makes
            the original too, and its ``pixel_range`` and ``background`` are those of all views.
        others: From an RGB image to a tensor; each makes a view that follows the recorded ones.

    Raises:
        TypeError: If a recorded one records nothing, or one of the others records.
        ValueError: If none is recorded, or they differ in ``pixel_range`` or ``background``.

    Example:
        >>> large, small = STARViewTransform(32, min_scale=0.4), STARViewTransform(16)
        >>> crops = [lambda image: small(image)[0]] * 6
        >>> transform = STARMultiViewTransform([large, large], crops)
        >>> views = transform(torch.randint(256, (3, 48, 64), dtype=torch.uint8))
        >>> len(views.views), len(views.params), views.views[-1].shape
        (8, 2, torch.Size([3, 16, 16]))
    """

    def __init__(
        self,
        recorded: Sequence[STARViewTransform],
        others: Sequence[Callable[[Image.Image], Tensor]] = (),
    ) -> None:
        if not recorded:
            raise ValueError("recorded: expected one view or more, got none")
        for transform in recorded:
            if not isinstance(transform, STARViewTransform):
                raise TypeError(f"recorded: expected STARViewTransforms, got {transform!r}")
        for name in ("pixel_range", "background"):
            values = {getattr(transform, name) for transform in recorded}
            if len(values) > 1:
                raise ValueError(
                    f"recorded: expected one {name} for all, since all views are made of one "
                    f"image, got {values}"
                )
        for other in others:
            if isinstance(other, STARViewTransform):
                raise TypeError(
                    "others: expected what makes a tensor, got a STARViewTransform, which makes "
                    "a view and its parameters"
                )
        self.recorded = list(recorded)
        self.others = list(others)

    def __call__(self, image: Image.Image | Tensor) -> STARViews:
        """Make the original and all views of an image."""
        image = self.recorded[0].to_rgb(image)
        # Not called: a STARTransform would make two views at once.
        made = [STARViewTransform.__call__(transform, image) for transform in self.recorded]
        views, params = zip(*made, strict=True)
        others = tuple(transform(image) for transform in self.others)
        return STARViews(self.recorded[0].original(image), (*views, *others), params)
