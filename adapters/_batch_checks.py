"""Checks at the door of batches of images and of their records."""

import torch
from torch import Tensor

from star_head.augmentation import ColorOperation, Parameter


def check_images(images: Tensor | list[Tensor], constant: Tensor) -> Tensor:
    """Raise unless images are a uint8 batch, or a list of images, where ``constant`` is.

    Returns:
        Heights and widths on the CPU: (1, 2) of a batch, (B, 2) of a list.
    """
    if constant.dtype != torch.float32:
        raise TypeError(
            f"BatchTransform: expected its constants in torch.float32, got {constant.dtype}: "
            f"keep it out of a module that is cast"
        )
    if not len(images):
        raise ValueError("images: expected at least one, got none")
    if isinstance(images, Tensor):
        ndim, shape, each = 4, "(B, 3, H, W)", [images]
    else:
        ndim, shape, each = 3, "(3, H, W) in a list", images
    for image in each:
        if image.dtype != torch.uint8:
            raise TypeError(f"images: expected torch.uint8, got {image.dtype}")
        if image.ndim != ndim or image.shape[-3] != 3 or min(image.shape[-2:]) < 2:
            raise ValueError(
                f"images: expected shape {shape}, sides of at least 2, got {tuple(image.shape)}"
            )
        if image.device != constant.device:
            raise ValueError(
                f"images: expected on {constant.device}, where the BatchTransform is, "
                f"got {image.device}"
            )
    return torch.tensor([image.shape[-2:] for image in each])


def check_records(params: Tensor, color_order: Tensor, batch: int, sizes: Tensor) -> None:
    """Raise unless records on the CPU are of ``batch`` images of these heights and widths."""
    for name, tensor, dtype, width in (
        ("params", params, torch.float32, len(Parameter)),
        ("color_order", color_order, torch.int64, len(ColorOperation)),
    ):
        if tensor.dtype != dtype:
            raise TypeError(f"{name}: expected {dtype}, got {tensor.dtype}")
        if tensor.shape != (batch, width):
            raise ValueError(
                f"{name}: expected shape {(batch, width)}, a row for each image, "
                f"got {tuple(tensor.shape)}"
            )
    wrong = (color_order.sort(dim=1).values != torch.arange(len(ColorOperation))).any(dim=1)
    if wrong.any():
        raise ValueError(
            f"color_order: expected 0, 1, 2, 3 in some order in each row, "
            f"got {color_order[wrong][0].tolist()}"
        )
    start, length = params[:, :2], params[:, 2:4]
    inside = ((start >= 0) & (length >= 1) & (start + length <= sizes)).all(dim=1)
    if not inside.all():
        row = int(inside.long().argmin())
        (height, width), (top, left, h, w) = sizes.expand(batch, 2)[row], params[row, :4]
        raise ValueError(
            f"params: expected crops inside the images, got in row {row}, of height {height} and "
            f"width {width}, top {top:g}, left {left:g}, height {h:g}, width {w:g}"
        )
