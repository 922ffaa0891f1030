"""Images with labels, wherever they come from, and the parts of a data set."""

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image
from torch.utils.data import Dataset


class ImageSource(Protocol):
    """Where :class:`Images` come from."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Image.Image: ...

    def sizes(self, indices: np.ndarray) -> list[tuple[int, int]]:
        """(height, width) of these images; of just one where all have the same."""

    def fingerprint(self) -> str:
        """Differs where the images do."""


class Images(Dataset[tuple[Any, int]]):
    """Images with labels, read by index and transformed as torchvision's data sets are.

    Args:
        source: Where the images come from; parts of a data set share it.
        indices: Indices of these images in the source, in order.
        labels: A class for each of these images, -1 where it has none.
        transform: Applied to each image; ``None`` leaves it as it is.
    """

    def __init__(
        self,
        source: ImageSource,
        indices: np.ndarray,
        labels: np.ndarray,
        transform: Callable[[Image.Image], Any] | None = None,
    ) -> None:
        self.source = source
        self.indices = indices
        self.labels = labels
        self.transform = transform

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = self.source[int(self.indices[index])]
        return image if self.transform is None else self.transform(image), int(self.labels[index])

    def with_transform(self, transform: Callable[[Image.Image], Any]) -> "Images":
        """The same images, transformed otherwise."""
        return Images(self.source, self.indices, self.labels, transform)

    def part(self, indices: np.ndarray) -> "Images":
        """Some of the images."""
        return Images(self.source, self.indices[indices], self.labels[indices], self.transform)

    def fingerprint(self) -> str:
        """Differs where the images or their order do; labels and transform do not count."""
        digest = hashlib.sha256(self.source.fingerprint().encode())
        digest.update(np.ascontiguousarray(self.indices, np.int64).data)
        return digest.hexdigest()

    def image_sizes(self, max_count: int = 1000) -> list[tuple[int, int]]:
        """(height, width) of the images or of an evenly spread sample; decodes nothing.

        One pair where all images have one size. A file whose header cannot be read is left out:
        reading it says why.

        Raises:
            ValueError: If ``max_count`` is not positive, or no header in the sample can be read.
        """
        if max_count < 1:
            raise ValueError(f"max_count: expected at least 1, got {max_count}")
        sample = np.linspace(0, len(self) - 1, min(max_count, len(self))).astype(int)
        sizes = self.source.sizes(self.indices[sample])
        if not sizes:
            raise ValueError(f"data_dir: none of {len(sample)} images' headers can be read")
        return sizes


class ImageSplits(NamedTuple):
    """A data set's parts.

    Attributes:
        pretrain: What is pretrained on, which does not use its labels.
        train: Labelled images, among which the neighbours of the test images are looked for;
            ``None`` where there are no labels.
        test: Labelled images to measure on; ``None`` where there are no labels.
    """

    pretrain: Images
    train: Images | None
    test: Images | None


class _Array:
    """Pixels in memory, uint8 (n, H, W) or (n, H, W, 3)."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Image.Image:
        return Image.fromarray(self.pixels[index])

    def sizes(self, indices: np.ndarray) -> list[tuple[int, int]]:
        """The images' one (height, width)."""
        return [(self.pixels.shape[1], self.pixels.shape[2])]

    def fingerprint(self) -> str:
        """A digest of shape and pixels."""
        digest = hashlib.sha256(str(self.pixels.shape).encode())
        digest.update(np.ascontiguousarray(self.pixels).data)
        return digest.hexdigest()


def in_memory(pixels: np.ndarray, labels: np.ndarray) -> Images:
    """Images of an array, uint8 (n, H, W) or (n, H, W, 3)."""
    return Images(_Array(pixels), np.arange(len(labels)), labels)
