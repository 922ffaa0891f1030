"""The size of a batch on its way through kornia, and where in the given images it lies."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Canvas(NamedTuple):
    """The current images: their size, and the box of the given images that each shows.

    A pixel (y, x) shows the pixel (top + y * down, left + x * right) of the image that the
    transform was given. Mirrored images have a negative step. Rotations and other warps are not
    followed: a crop after one is given as if the image had not been turned.

    Attributes:
        height: Height of all images in pixels.
        width: Their width in pixels.
        top: (B,), as the following ones.
        left: See above.
        down: See above.
        right: See above.
    """

    height: int
    width: int
    top: Tensor
    left: Tensor
    down: Tensor
    right: Tensor

    @classmethod
    def of(cls, batch: int, height: int, width: int) -> Canvas:
        """The canvas of images as they are given."""
        zeros, ones = torch.zeros(batch), torch.ones(batch)
        return cls(height, width, zeros, zeros, ones, ones)

    def cropped(self, top: Tensor, left: Tensor, height: Tensor, width: Tensor) -> CroppedCanvas:
        """A box of each image, which is to be resized to one size."""
        return CroppedCanvas(
            self.top + top * self.down,
            self.left + left * self.right,
            height * self.down,
            width * self.right,
        )

    def mirrored(self, applied: Tensor, *, vertically: bool = False) -> Canvas:
        """After a flip of the images that ``applied`` (B,) tells."""
        if vertically:
            top = torch.where(applied, self.top + self.height * self.down, self.top)
            return self._replace(top=top, down=torch.where(applied, -self.down, self.down))
        left = torch.where(applied, self.left + self.width * self.right, self.left)
        return self._replace(left=left, right=torch.where(applied, -self.right, self.right))


class CroppedCanvas(NamedTuple):
    """A box in each of the given images; a length is negative where it is mirrored. (B,) each."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor

    def box(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Top, left, height and width, the lengths positive."""
        return (
            torch.minimum(self.top, self.top + self.height),
            torch.minimum(self.left, self.left + self.width),
            self.height.abs(),
            self.width.abs(),
        )

    def resized(self, height: int, width: int) -> Canvas:
        """The canvas after all boxes are resized to one size."""
        return Canvas(height, width, self.top, self.left, self.height / height, self.width / width)
