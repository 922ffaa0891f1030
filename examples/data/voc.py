"""Pascal VOC's images and boxes, for detection."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets import VOCDetection
from torchvision.datasets.voc import DATASET_YEAR_DICT
from torchvision.transforms import v2
from torchvision.tv_tensors import BoundingBoxes

# VOC's own order, alphabetic. A detector's label 0 is the background, 1 the first class.
CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
_LABEL_OF = {name: label for label, name in enumerate(CLASSES, start=1)}

Part = tuple[str, str]
# Year and list of each part.
TRAIN: tuple[Part, ...] = (("2007", "trainval"), ("2012", "trainval"))
TEST: tuple[Part, ...] = (("2007", "test"),)


class VOCBoxes(Dataset[tuple[Tensor, dict[str, Tensor]]]):
    """Images with the boxes of their objects, as torchvision's detectors take them.

    An item is an image, float32 (3, H, W) in [0, 1], and a dictionary:

    - ``boxes``: float32 (n, 4), left, top, right and bottom edge in pixels from the image's own
      corner. VOC counts pixels from 1 and includes the last; a box over a whole image of width W
      is (0, ..., W, ...) here, as in Detectron2.
    - ``labels``: int64 (n,), 1 to 20.
    - ``iscrowd``: int64 (n,), 1 for objects that VOC calls difficult. torchmetrics counts neither
      that one is missed nor what lies within one.

    Args:
        data_dir: Folder with VOCdevkit/VOC2007 and VOCdevkit/VOC2012.
        parts: The parts, :data:`TRAIN` or :data:`TEST`.
        flip: Mirror every other image, by chance, drawn from torch's generator.

    Raises:
        ValueError: If a part is not there, or, at reading, an annotation is not VOC's.
    """

    def __init__(self, data_dir: Path, parts: tuple[Part, ...], flip: bool = False) -> None:
        data_dir = data_dir.expanduser()
        self.parts = [_open(data_dir, year, name) for year, name in parts]
        self.places = [
            (part, index)
            for part, dataset in enumerate(self.parts)
            for index in range(len(dataset))
        ]
        self.transform = v2.Compose(
            [
                v2.ToImage(),
                *([v2.RandomHorizontalFlip()] if flip else []),
                v2.ToDtype(torch.float32, scale=True),
            ]
        )

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        part, place = self.places[index]
        files = self.parts[part].images[place], self.parts[part].annotations[place]
        try:
            image, description = self.parts[part][place]
        except Exception as error:  # what a broken file raises depends on its format and on how
            why = str(error) or type(error).__name__
            raise ValueError(
                f"data_dir: {files[0]} or {files[1]} cannot be read: {why}; restore the two"
            ) from error
        try:
            target = read_boxes(description["annotation"])
        except (KeyError, ValueError) as error:
            raise ValueError(f"data_dir: {files[1]} is no annotation of VOC: {error}") from error
        boxes = BoundingBoxes(target["boxes"], format="XYXY", canvas_size=image.size[::-1])
        pixels, boxes = self.transform(image, boxes)
        target["boxes"] = boxes.as_subclass(Tensor)
        return pixels.as_subclass(Tensor), target


def read_boxes(annotation: dict[str, Any]) -> dict[str, Tensor]:
    """Boxes, labels and ``iscrowd`` of the objects in an annotation that torchvision has parsed.

    Raises:
        KeyError: If something is missing.
        ValueError: If a class is none of VOC's or a box is empty.
    """
    boxes, labels, difficult = [], [], []
    for thing in annotation["object"]:
        if thing["name"] not in _LABEL_OF:
            raise ValueError(f"expected one of VOC's classes, got {thing['name']!r}")
        left, top, right, bottom = (
            float(thing["bndbox"][edge]) for edge in ("xmin", "ymin", "xmax", "ymax")
        )
        if right < left or bottom < top:
            raise ValueError(f"expected a box with something in it, got {thing['bndbox']}")
        boxes.append([left - 1, top - 1, right, bottom])
        labels.append(_LABEL_OF[thing["name"]])
        difficult.append(int(thing.get("difficult", 0)))
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "iscrowd": torch.tensor(difficult, dtype=torch.int64),
    }


def _open(data_dir: Path, year: str, name: str) -> VOCDetection:
    source = DATASET_YEAR_DICT["2007-test" if name == "test" else year]
    folder = data_dir / source["base_dir"]
    needed = [folder / f"ImageSets/Main/{name}.txt", folder / "JPEGImages", folder / "Annotations"]
    if missing := [str(path) for path in needed if not path.exists()]:
        raise ValueError(
            f"data_dir: VOC{year} {name} is not in {data_dir}: {', '.join(missing)} missing\n"
            f"Get {source['url']} and unpack it in {data_dir}"
        )
    dataset = VOCDetection(data_dir, year, name)
    files = zip(dataset.images, dataset.annotations, strict=True)
    if lacking := [path for pair in files for path in pair if not Path(path).is_file()]:
        raise ValueError(
            f"data_dir: VOC{year} {name} in {data_dir} is not whole: {len(lacking)} files of "
            f"{needed[0]} missing, first {lacking[0]}\n"
            f"Get {source['url']} and unpack it in {data_dir}"
        )
    return dataset
