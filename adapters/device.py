"""The views of ``STARTransform`` made in batches, on any device. Needs ``star-head[lightly]``.

A few workers that make views with PIL starve a fast GPU. Here a worker only decodes an image and
draws its records (:class:`RecordingTransform`); the views are made from both where the model is
(:class:`BatchTransform`). docs/views.md shows the loop.

Written in plain batched PyTorch: torchvision's operations take one factor and one crop for a whole
batch, and kornia's differ from PIL's in brightness and contrast, have one order a batch and do not
antialias the crop.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from star_head._checks import describe, meant
from star_head._constants import ConstantBuffers
from star_head._devices import to_device
from star_head._parts import not_a_tensor
from star_head.augmentation import AugmentationRecord, ColorOperation, Parameter, STARViews

from ._batch_checks import check_images, check_records
from ._color import COLOR_OPERATIONS, hue_steps, luma, schedule
from ._resample import resize

try:
    from PIL import Image

    from ._images import middle_of_side
    from .image_sizes import image_sizes
    from .lightly import STARTransform, STARViewTransform
except ImportError as error:
    raise ImportError(
        'star_head.adapters.device needs lightly: pip install "star-head[lightly]"'
    ) from error


@not_a_tensor("BatchTransform(transform)(recorded) makes views of them; the images are .images")
class RecordedImages(NamedTuple):
    """Decoded images and the records of their views: what :class:`BatchTransform` takes.

    Without its leading dimension it is a sample of a data set. Images go to the device; the
    records, which say which images an operation concerns, stay on the CPU, where reading them
    makes no GPU wait. :class:`BatchTransform` copies to the device what it needs there.

    Attributes:
        images: Uint8 (B, 3, H, W), or a list of B (3, H_i, W_i) where sizes differ.
        params: The raw parameters of each view, float32 (B, 11).
        color_orders: The order of each view's colour operations, int64 (B, 4) of
            :class:`~star_head.augmentation.ColorOperation`.
    """

    images: Tensor | list[Tensor]
    params: Sequence[Tensor]
    color_orders: Sequence[Tensor]

    def to(self, device: torch.device | str | int, non_blocking: bool = False) -> "RecordedImages":
        """Move the images; they stay uint8, and the records stay where they are.

        Example:
            >>> images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
            >>> RecordedImages(images, (), ()).to("cpu", non_blocking=True).images.dtype
            torch.uint8
        """
        if isinstance(self.images, Tensor):
            return self._replace(images=self.images.to(device, non_blocking=non_blocking))
        images = [image.to(device, non_blocking=non_blocking) for image in self.images]
        return self._replace(images=images)


class RecordingTransform:
    """Decodes an image and draws the records of its two views, but does not make them.

    The transform of a data set whose views :class:`BatchTransform` makes. From one seed it draws
    the records that ``transform`` itself draws.

    Args:
        transform: What draws the records.

    Raises:
        TypeError: If ``transform`` is no STARTransform.

    Example:
        >>> image = torch.randint(256, (3, 48, 64), dtype=torch.uint8)
        >>> recorded = RecordingTransform(STARTransform(input_size=32))(image)
        >>> recorded.images.shape, len(recorded.params), recorded.color_orders[0].shape
        (torch.Size([3, 48, 64]), 2, torch.Size([4]))
    """

    image_sizes = staticmethod(image_sizes)  # how estimate_statistics reads a data set

    def __init__(self, transform: STARTransform) -> None:
        if not isinstance(transform, STARViewTransform):
            raise TypeError(
                f"transform: expected a STARTransform, whose records BatchTransform makes views "
                f"of, got {describe(transform)}"
            )
        self.transform = transform

    def sample(self, image: Image.Image | Tensor | tuple[int, int]) -> AugmentationRecord:
        """Draw a record, as ``transform`` does."""
        return self.transform.sample(image)

    def __call__(self, image: Image.Image | Tensor) -> RecordedImages:
        """Decode a PIL image of any mode or a (C, H, W) tensor; draw two records."""
        image = self.transform.to_rgb(image)
        records = self.transform.sample(image), self.transform.sample(image)
        return RecordedImages(
            torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous(),
            tuple(record.vector() for record in records),
            tuple(torch.tensor(record.color_order) for record in records),
        )


def collate(samples: Sequence[Any]) -> Any:
    """Batch what a data set with a :class:`RecordingTransform` yields: a loader's ``collate_fn``.

    Args:
        samples: Each a sample alone, or in a tuple, list or dictionary with anything else: its
            label, index or file's name.

    Returns:
        A batch of the same form, with a tuple in place of a list. It holds the
        :class:`RecordedImages`, their images in a list if sizes differ, and what PyTorch's default
        collate makes of the rest; ``None`` of a part that every sample lacks.

    Raises:
        TypeError: If there are no recorded images, or several, in a sample.

    Example:
        >>> transform = RecordingTransform(STARTransform(input_size=32))
        >>> sizes = [(3, 48, 64), (3, 50, 40)]
        >>> samples = [(transform(torch.zeros(size, dtype=torch.uint8)), 7) for size in sizes]
        >>> recorded, labels = collate(samples)
        >>> [tuple(image.shape) for image in recorded.images], recorded.params[0].shape, labels
        ([(3, 48, 64), (3, 50, 40)], torch.Size([2, 11]), tensor([7, 7]))
    """
    first = samples[0]
    if isinstance(first, RecordedImages):
        return _batch(samples)
    mapping = isinstance(first, Mapping)
    parts = list(first.values()) if mapping else first
    found = isinstance(parts, tuple | list) and sum(isinstance(p, RecordedImages) for p in parts)
    if found != 1:
        raise TypeError(
            f"samples: expected recorded images, alone or with others in a tuple or dictionary, as "
            f"a data set with RecordingTransform gives them, got {describe(first)}{meant(first)}"
        )
    if mapping:
        return {key: _batch_part([sample[key] for sample in samples]) for key in first}
    return tuple(_batch_part(part) for part in zip(*samples, strict=True))


def _batch_part(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], RecordedImages):
        return _batch(parts)
    return None if all(part is None for part in parts) else default_collate(list(parts))


def _batch(samples: Sequence[RecordedImages]) -> RecordedImages:
    images: list[Any] = [sample.images for sample in samples]
    batch: Any
    if len({image.shape for image in images}) == 1:
        batch = default_collate(images)
    else:
        # Parts of one tensor: between processes each tensor of its own costs a file descriptor.
        flat = torch.cat([image.flatten() for image in images])
        parts = torch.split(flat, [image.numel() for image in images])
        batch = [part.view(image.shape) for part, image in zip(parts, images, strict=True)]
    params, color_orders = default_collate([(r.params, r.color_orders) for r in samples])
    return RecordedImages(batch, params, color_orders)


class BatchTransform(ConstantBuffers):
    """Makes the views that ``transform`` makes with PIL, in batches and where the images are.

    One record means one view, whichever makes it. As in PIL, pixels are whole numbers after each
    operation, for agreement: a pixel differs from PIL's by 0.01 of a level, of 255, on average at
    96 pixels and by 0.04 at 224; without that rounding it would by 1.1, for at most a fifth less
    time. Single pixels are off by more (of 224 pixels, 2 in 100 at all, at most 22 levels): Pillow
    resizes some crops along the other axis first, and the next step of a hue can be another colour.

    Computed in float32, under autocast too, and without gradients; nothing waits for a GPU. Its
    matrix products are for a GPU: on a CPU it is as fast as PIL at 96 pixels, and slower at 224.

    Args:
        transform: Gives the size, the blur and the normalisation of the views.

    Raises:
        ValueError: If ``transform.blur`` is ``"pillow"``, which works on one image at a time.

    Example:
        >>> transform = STARTransform(input_size=32)
        >>> images = torch.randint(256, (4, 3, 48, 64), dtype=torch.uint8)
        >>> recording = RecordingTransform(transform)
        >>> recorded, labels = collate([(recording(image), 0) for image in images])
        >>> BatchTransform(transform)(recorded).views[0].shape
        torch.Size([4, 3, 32, 32])
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, transform: STARTransform) -> None:
        super().__init__()
        if transform.blur != "kernel":
            raise ValueError(
                f"transform: expected blur='kernel', which can be batched, got {transform.blur!r}"
            )
        self.input_size = transform.input_size
        self.blur = copy.deepcopy(transform._blur)
        self.register_constant("scale", transform._scale)
        self.register_constant("shift", transform._shift)

    def reset_parameters(self) -> None:
        """Fill its constants anew."""
        super().reset_parameters()
        self.blur.reset_parameters()

    def extra_repr(self) -> str:
        """The side of the views."""
        return f"input_size={self.input_size}"

    def forward(self, recorded: RecordedImages) -> STARViews:
        """Make the originals and the recorded views of a batch.

        Raises:
            TypeError: If ``recorded`` is anything but recorded images.
        """
        if not isinstance(recorded, RecordedImages):
            raise TypeError(
                f"recorded: expected RecordedImages, as collate makes them of a data set with "
                f"RecordingTransform, got {describe(recorded)}{meant(recorded)}"
            )
        images, params, color_orders = recorded
        if len(params) != len(color_orders):
            raise ValueError(
                f"recorded: expected as many color_orders as params, one for each view, "
                f"got {len(color_orders)} and {len(params)}"
            )
        return STARViews(
            self.original(images),
            tuple(self.augment(images, p, o) for p, o in zip(params, color_orders, strict=True)),
            tuple(to_device(p, self.scale.device) for p in params),
        )

    @torch.no_grad()
    def augment(self, images: Tensor | list[Tensor], params: Tensor, color_order: Tensor) -> Tensor:
        """Make one view of each image; ``apply`` would have another meaning in a module.

        Args:
            images: Uint8 (B, 3, H, W), or B of (3, H_i, W_i).
            params: The raw parameters, float32 (B, 11); on the CPU, or a GPU has to be waited for.
            color_order: Int64 (B, 4); likewise.

        Returns:
            Float32 (B, 3, S, S).

        Raises:
            TypeError: If a tensor is of the wrong dtype.
            ValueError: If shapes do not fit each other or a crop is not inside its image.
        """
        sizes = check_images(images, self.scale)
        params, color_order = params.cpu(), color_order.cpu()
        check_records(params, color_order, len(images), sizes)
        start, length = params[:, :2], params[:, 2:4]
        step = length / self.input_size
        first = step / 2
        flip = params[:, Parameter.FLIP] > 0
        first[flip, 1] = length[flip, 1] - first[flip, 1]
        step[flip, 1] *= -1
        values = params[:, Parameter.BRIGHTNESS :].clone()
        values[:, ColorOperation.HUE] = hue_steps(values[:, ColorOperation.HUE])
        *colors, gray, blurred = schedule(values, color_order, self.scale.device)
        values = to_device(values, self.scale.device)

        with torch.autocast(self.scale.device.type, enabled=False):
            pixels = resize(images, start, length, first, step, self.input_size)
            for operation, rows in zip(4 * list(ColorOperation), colors, strict=True):
                if len(rows):
                    value = values[rows, operation].view(-1, 1, 1, 1)
                    changed = COLOR_OPERATIONS[operation](pixels.index_select(0, rows), value)
                    pixels[rows] = changed.clamp_(0, 255).floor_()
            if len(gray):
                pixels[gray] = luma(pixels.index_select(0, gray))
            views = self._normalize_(pixels)
            if len(blurred):
                views[blurred] = self.blur(views.index_select(0, blurred), values[blurred, -1])
        return views

    @torch.no_grad()
    def original(self, images: Tensor | list[Tensor]) -> Tensor:
        """Resize each image's shorter side to S, cut out the centre and normalise it.

        Args:
            images: Uint8 (B, 3, H, W), or B of (3, H_i, W_i).

        Returns:
            Float32 (B, 3, S, S).
        """
        check_images(images, self.scale)
        if isinstance(images, Tensor):
            images = _cut_long_sides(images)
        else:
            images = [_cut_long_sides(image) for image in images]
        sizes = check_images(images, self.scale)
        resized = self.input_size * sizes // sizes.amin(dim=1, keepdim=True)
        step = sizes / resized
        first = (((resized - self.input_size) / 2).round() + 0.5) * step
        with torch.autocast(self.scale.device.type, enabled=False):
            pixels = resize(images, torch.zeros_like(step), sizes, first, step, self.input_size)
        return self._normalize_(pixels)

    def _normalize_(self, pixels: Tensor) -> Tensor:
        return pixels.mul_(self.scale).sub_(self.shift)


def _cut_long_sides(images: Tensor) -> Tensor:
    """What ``STARTransform`` does too before it resizes."""
    height, width = images.shape[-2:]
    (top, bottom), (left, right) = (
        middle_of_side(side, min(height, width)) for side in (height, width)
    )
    return images[..., top:bottom, left:right]
