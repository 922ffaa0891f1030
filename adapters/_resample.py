"""Pillow's antialiased bilinear resizing of crops, as two matrix products."""

import torch
from torch import Tensor

from star_head._devices import to_device


def resize(
    images: Tensor | list[Tensor],
    start: Tensor,
    length: Tensor,
    first: Tensor,
    step: Tensor,
    output_size: int,
) -> Tensor:
    """Resize a crop of each image, rounded to whole numbers after each axis, as Pillow does.

    Geometry is in pixels, for rows and columns: (B, 2), or (1, 2) for all images of a tensor.

    Args:
        images: Uint8 (B, C, H, W), or B of (C, H_i, W_i).
        start: First pixel of the crop.
        length: Pixels of the crop.
        first: Centre of the first output pixel, from the crop's border.
        step: From one centre to the next; negative to mirror.
        output_size: Pixels S of the output.

    Returns:
        Float32 (B, C, S, S).
    """
    boxes = torch.cat([start, length], dim=1).long().tolist()
    if isinstance(images, Tensor):
        height, width = images.shape[-2:]
    else:
        # Each crop is cut out of its image before the products, and so starts at 0.
        start = torch.zeros_like(start)
        height, width = length.long().amax(dim=0).tolist()
    geometry = torch.stack([start, length, first, step])
    vertical, horizontal = to_device(geometry, images[0].device).unbind(2)
    vertical = resize_weights(vertical, output_size, height)
    horizontal = resize_weights(horizontal, output_size, width)
    if isinstance(images, Tensor):
        return _resample(images, vertical, horizontal)
    crops = [
        _resample(
            image[None, :, top : top + h, left : left + w],
            vertical[i : i + 1, :, :h],
            horizontal[i : i + 1, :, :w],
        )
        for i, (image, (top, left, h, w)) in enumerate(zip(images, boxes, strict=True))
    ]
    return torch.cat(crops)


def resize_weights(geometry: Tensor, output_size: int, size: int) -> Tensor:
    """Weights with which output pixels along one axis sum the pixels of a crop.

    The triangle filter's support grows with the step, is cut off at the crop's borders, and its
    weights sum to 1.

    Args:
        geometry: What :func:`resize` calls start, length, first and step, (4, B).
        output_size: Pixels S of the output.
        size: Pixels N of the images.

    Returns:
        Float32 (B, S, N).
    """
    start, length, first, step = geometry[..., None, None]
    centres = first + torch.arange(output_size, device=step.device).unsqueeze(1) * step
    pixels = torch.arange(size, device=start.device) - start
    distance = (pixels + 0.5 - centres).abs_().div_(step.abs().clamp(min=1))
    weights = distance.neg_().add_(1).clamp_(min=0).mul_((pixels >= 0) & (pixels < length))
    return weights.div_(weights.sum(dim=2, keepdim=True))


def _resample(images: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    batch, channels, height, _ = images.shape
    # Channels lie between the two axes, so that each product is one matrix product an image.
    rows = images.transpose(1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    rows = (rows.flatten(1, 2) @ horizontal.mT).add_(0.5).floor_()
    columns = (vertical @ rows.view(batch, height, -1)).add_(0.5).floor_()
    return columns.view(*columns.shape[:2], channels, -1).transpose(1, 2).contiguous()
