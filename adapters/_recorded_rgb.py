"""RecordedTransform for runs that know nothing of their images but that they can be made RGB."""

from typing import Any

from PIL import Image
from torch import Tensor

from star_head._seeds import all_seeded
from star_head.augmentation import STARViews

from ._images import Color, check_background, to_rgb
from ._pixel_range import PixelRange, check_pixel_range
from ._preparation import read_pixels
from .torchvision import RecordedAugmentation, RecordedTransform


class RecordedRGBTransform(RecordedTransform):
    """A :class:`RecordedTransform` whose images are made RGB first, as ``STARTransform``'s are.

    It says of its views what ``STARTransform`` says: their size, channels and normalisation.

    Args:
        recorded: What is wrapped anew.
        pixel_range: The pixel values that become black and white, in images of more than 8 bits.
        background: The colour under transparent pixels.

    Attributes:
        input_size: Side of original and views in pixels.
        in_chans: Their channels.
        normalize: Mean and standard deviation that pixels in [0, 1] are normalised by.
        interpolation: How images are resized.

    Raises:
        TypeError: If the transform makes no tensors of floating point.
        ValueError: If originals and views are no squares of one size for images of any size.
    """

    def __init__(
        self,
        recorded: RecordedTransform,
        pixel_range: PixelRange | None = None,
        background: Color | None = None,
    ) -> None:
        super().__init__(
            recorded.transform,
            recorded.copies,
            original=recorded.given_original,
            unrecorded=recorded.unrecorded,
        )
        self.pixel_range = check_pixel_range(pixel_range)
        self.background = check_background(background)
        self.in_chans, self.input_size = self._measure()
        statistics, self.interpolation = read_pixels(self.transform)
        mean, std = statistics or ([0.0], [1.0])
        each = self.in_chans if len(mean) == len(std) == 1 else 1
        self.normalize = {"mean": mean * each, "std": std * each}

    def __call__(self, image: Image.Image | Tensor) -> STARViews:
        """Make the original and all views of an image."""
        return super().__call__(self.to_rgb(image))

    def sample(
        self, image: Image.Image | Tensor | tuple[int, int], view: int = 0
    ) -> RecordedAugmentation:
        """Draw a record for an image, of which only the size is looked at."""
        given = image if isinstance(image, tuple | list) else self.to_rgb(image)
        return super().sample(given, view)

    def apply(self, image: Image.Image | Tensor, record: RecordedAugmentation) -> Tensor:
        """Make the view that a record describes, bit for bit."""
        return super().apply(self.to_rgb(image), record)

    def original(self, image: Image.Image | Tensor) -> Tensor:
        """The image without anything random."""
        return super().original(self.to_rgb(image))

    def to_rgb(self, image: Image.Image | Tensor) -> Image.Image:
        """The 8-bit RGB image that is transformed."""
        return to_rgb(image, self.pixel_range, self.background)

    def _measure(self) -> tuple[int, int]:
        """Channels and side of what is made of images, tried on blank ones of two sizes."""
        sides = [max(view.size) for view in self.recorded if view.size is not None]
        side = max(sides, default=64)
        shapes = set()
        with all_seeded(0):
            for size in ((3 * side, 2 * side + 1), (2 * side, 3 * side)):
                blank = Image.new("RGB", size)
                views = [view.make(blank)[0] for view in self.recorded]
                for made in (self.original(blank), *views):
                    if not made.is_floating_point():
                        raise TypeError(
                            f"transform: expected one that makes tensors of floating point, as a "
                            f"network takes them, got {made.dtype}; end it with "
                            f"ToDtype(torch.float32, scale=True)"
                        )
                    shapes.add(tuple(made.shape))
        channels, height, width = shape = min(shapes)
        if len(shapes) > 1 or height != width:
            got = " and ".join(map(str, sorted(shapes))) if len(shapes) > 1 else str(shape)
            raise ValueError(
                f"transform: expected an original and views that are squares of one size, whatever "
                f"the image's, got {got}; crop or resize them in every view, such as by "
                f"RandomResizedCrop(96)"
            )
        return channels, height

    def __reduce__(self) -> tuple[Any, ...]:
        plain = RecordedTransform(
            self.transform,
            self.copies,
            original=self.given_original,
            unrecorded=self.unrecorded,
        )
        return type(self), (plain, self.pixel_range, self.background)
