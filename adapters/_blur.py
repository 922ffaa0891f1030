"""Gaussian blur with a truncated kernel, as two matrix products."""

import torch
from torch import Tensor

from star_head._constants import ConstantBuffers


class GaussianBlur(ConstantBuffers):
    """Blurs square images of one size: y = K x K^T, with K a banded (S, S) matrix.

    K holds the kernel exp(-t^2 / 2 sigma^2), |t| <= kernel_size // 2, normalised to 1, in each
    row, its ends reflected at the border without repeating the edge pixel. On images this small a
    dense product beats a convolution.

    Args:
        size: Side S of the images in pixels.
        kernel_size: Taps of the kernel, odd, less than 2 S.
    """

    source: Tensor
    negative_square: Tensor

    def __init__(self, size: int, kernel_size: int) -> None:
        super().__init__()
        taps = torch.arange(kernel_size, device="cpu") - kernel_size // 2
        source = (torch.arange(size, device="cpu")[:, None] + taps).abs()
        source = torch.where(source >= size, 2 * (size - 1) - source, source)
        self.register_constant("source", source)
        self.register_constant("negative_square", -taps.square().float())

    def forward(self, images: Tensor, sigma: Tensor) -> Tensor:
        """Blur float images by a sigma of their own each.

        Args:
            images: (C, S, S) or (B, C, S, S).
            sigma: Standard deviation in pixels, greater than 0: shape () or (B,).
        """
        kernel = torch.softmax(self.negative_square / (2 * sigma.square().unsqueeze(-1)), dim=-1)
        source = self.source.expand(*sigma.shape, -1, -1)
        size = source.shape[-2]
        matrix = torch.zeros(*sigma.shape, size, size, device=sigma.device).scatter_add_(
            -1, source, kernel.unsqueeze(-2).expand_as(source)
        )
        matrix = matrix.unsqueeze(-3)
        return matrix @ images @ matrix.mT
