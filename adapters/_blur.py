"""Gaussian blur with a truncated kernel, as two matrix products."""

import torch
from torch import Tensor


class GaussianBlur:
    """Blurs square images of one size: y = K x K^T, with K a banded (S, S) matrix.

    K holds the kernel exp(-t^2 / 2 sigma^2), |t| <= kernel_size // 2, normalised to 1, in each
    row, its ends reflected at the border without repeating the edge pixel. On images this small a
    dense product beats a convolution.

    Args:
        size: Side S of the images in pixels.
        kernel_size: Taps of the kernel, odd, less than 2 S.
    """

    def __init__(self, size: int, kernel_size: int) -> None:
        taps = torch.arange(kernel_size) - kernel_size // 2
        source = (torch.arange(size)[:, None] + taps).abs()
        self._source = torch.where(source >= size, 2 * (size - 1) - source, source)
        self._negative_square = -taps.square().float()

    def __call__(self, images: Tensor, sigma: float) -> Tensor:
        """Blur (..., S, S) float images by ``sigma`` pixels, greater than 0."""
        size = len(self._source)
        kernel = torch.softmax(self._negative_square / (2 * sigma**2), dim=0)
        matrix = torch.zeros(size, size).scatter_add_(
            1, self._source, kernel.expand_as(self._source)
        )
        return matrix @ images @ matrix.T
