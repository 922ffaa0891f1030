"""An image's size on its way through a tree, and where in the source image it lies."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors


class Canvas(NamedTuple):
    """The current image: its shape, and the box of the source image that it shows.

    A pixel (y, x) of it shows the pixel (top + y * down, left + x * right) of the source. Mirrored
    images have a negative step. Rotations and other warps are not followed: a crop after one is
    given as if the image had not been turned.
    """

    channels: int
    height: int
    width: int
    pil: bool
    top: float = 0.0
    left: float = 0.0
    down: float = 1.0
    right: float = 1.0

    @classmethod
    def of(cls, image: Image.Image | Tensor | tuple[int, int]) -> Canvas:
        """The canvas of a source image, or of a PIL image of this (height, width).

        Raises:
            TypeError: If it is none of these.
            ValueError: If a tensor is not (C, H, W), or a size is not two positive integers.
        """
        if isinstance(image, Image.Image):
            return cls(len(image.getbands()), image.height, image.width, pil=True)
        if isinstance(image, tv_tensors.TVTensor) and not isinstance(image, tv_tensors.Image):
            raise TypeError(f"image: expected an image, got {type(image).__name__}")
        if isinstance(image, Tensor):
            if image.ndim != 3 or 0 in image.shape:
                raise ValueError(
                    f"image: expected a tensor of shape (C, H, W), got {tuple(image.shape)}"
                )
            channels, height, width = image.shape
            return cls(channels, height, width, pil=False)
        if not isinstance(image, tuple | list):
            raise TypeError(
                f"image: expected a PIL image, a tensor or its (height, width), "
                f"got {type(image).__name__}"
            )
        if len(image) != 2 or not all(isinstance(side, int) and side > 0 for side in image):
            raise ValueError(f"image: expected (height, width) in pixels, got {image!r}")
        height, width = image
        return cls(3, height, width, pil=True)

    def stand_in(self) -> Tensor:
        """A tensor of this shape that takes no memory, for what looks at shapes alone."""
        return torch.zeros(()).expand(self.channels, self.height, self.width)

    def blank(self) -> Image.Image | Tensor:
        """A black image of this size."""
        if self.pil:
            return Image.new("RGB", (self.width, self.height))
        return torch.zeros(self.channels, self.height, self.width)

    def cropped(self, top: int, left: int, height: int, width: int) -> Canvas:
        """After a crop; outside the image it shows what was padded."""
        return self._replace(
            height=height,
            width=width,
            top=self.top + top * self.down,
            left=self.left + left * self.right,
        )

    def resized(self, height: int, width: int) -> Canvas:
        """After a change of size."""
        return self._replace(
            height=height,
            width=width,
            down=self.down * self.height / height,
            right=self.right * self.width / width,
        )

    def padded(self, left: int, top: int, right: int, bottom: int) -> Canvas:
        """After padding."""
        return self.cropped(-top, -left, self.height + top + bottom, self.width + left + right)

    def centered(self, height: int, width: int) -> Canvas:
        """After a change of size about the centre that leaves the scale as it is."""
        top, left = _margin(self.height - height), _margin(self.width - width)
        return self.cropped(top, left, height, width)

    def mirrored(self, *, vertically: bool = False) -> Canvas:
        """After a flip."""
        if vertically:
            return self._replace(top=self.top + self.height * self.down, down=-self.down)
        return self._replace(left=self.left + self.width * self.right, right=-self.right)

    def box(self) -> tuple[float, float, float, float]:
        """Top, left, height and width of what it shows, in pixels of the source image."""
        height, width = self.height * self.down, self.width * self.right
        return (
            min(self.top, self.top + height),
            min(self.left, self.left + width),
            abs(height),
            abs(width),
        )


def _margin(surplus: int) -> int:
    """As torchvision's center crop rounds it."""
    return round(surplus / 2) if surplus >= 0 else -(-surplus // 2)


def shape_of(image: Any) -> tuple[int, int, int]:
    """Channels, height and width of a PIL image or a tensor."""
    if isinstance(image, Tensor):
        return tuple(image.shape[-3:])  # type: ignore[return-value]
    return len(image.getbands()), image.height, image.width
