r"""See what pretrained heads learned: one page, report.html, and its numbers as report.json.

    star-head analyze runs/stl10_resnet18/checkpoints/last.ckpt --dataset stl10
    star-head analyze runs/mmoe/checkpoints/last.ckpt authors.pth \
        --dataset folder --data_dir photos --output runs/report

Takes checkpoints of examples/pretrain.py and of the authors. On held-out images it measures how
redundant the two embeddings are, which expert serves which task, class and augmentation, how well
predicted embeddings find their views, what can be read off the features, and shows what each
expert holds to be alike. Of these the paper reports the mean canonical correlation, which stands
beside ours in the report; the others are comparable between checkpoints on the same images only.
docs/analysis.md says more.
"""

import itertools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from star_head._whole_files import replacing, write_json
from star_head.adapters._images import Color
from star_head.adapters._pixel_range import PixelRange
from star_head.evaluation.embeddings import embed, embed_views
from star_head.evaluation.head import (
    equivariance,
    neighbours,
    parameters_read_off,
    redundancy,
    routing,
)
from star_head.evaluation.report.page import summary, write_report
from star_head.evaluation.trained import Trained, open_trained
from star_head.examples.command_line import run
from star_head.examples.data.class_names import class_names
from star_head.examples.data.image_data import DatasetName, Images, load_images
from star_head.examples.data.splits import Folders

QUERIES, NEIGHBOURS = 4, 5


def main(
    checkpoints: list[str],
    dataset: DatasetName = "digits",
    data_dir: Path | None = None,
    max_images: int = 10_000,
    view_images: int = 500,
    views: int = 50,
    seed: int = 0,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
    num_workers: int = 2,
    output: Path = Path("runs/report"),
    pixel_range: PixelRange | None = None,
    background: Color | None = None,
    folders: Folders | None = None,
) -> None:
    """Write report.html and report.json.

    Args:
        checkpoints: Of examples/pretrain.py or of the authors, to be compared.
        dataset: Whose test images are embedded, or all images where it has no test images.
        data_dir: Where its files are, or are fetched to.
        max_images: A random part of so many images is taken where there are more.
        view_images: Of how many of them views are made.
        views: Views of each.
        seed: Of the images taken, the views and the queries.
        device: Where images are embedded.
        num_workers: Processes that read images and make views.
        output: Folder for both files.
        pixel_range: For ``folder``, the pixel values (low, high) that become black and white in
            images of more than 8 bits.
        background: For ``folder``, the colour (red, green, blue) under transparent pixels.
        folders: For ``folder``, what the folders at its top are, where their names do not say.
    """
    if views < 2 or view_images < 5 or max_images <= NEIGHBOURS:
        raise ValueError(
            f"views, view_images, max_images: expected at least 2, 5 and {NEIGHBOURS + 1}, "
            f"got {views}, {view_images} and {max_images}"
        )
    sample = choose_images(
        dataset,
        data_dir,
        max_images,
        seed,
        pixel_range=pixel_range,
        background=background,
        folders=folders,
    )
    of_checkpoints = {}
    for name, checkpoint in zip(name_checkpoints(checkpoints), checkpoints, strict=True):
        trained = open_trained(checkpoint)
        print(f"{name}: {trained.settings['head']}")
        trained.backbone.to(device)
        trained.head.to(device)
        of_checkpoints[name] = {
            "settings": trained.settings,
            "routing": trained.head.routing,
            **measure(trained, sample, view_images, views, seed, num_workers),
        }
    results: dict[str, Any] = {
        "dataset": dataset,
        "data_dir": None if data_dir is None else str(data_dir),
        "held out": sample.held_out,
        "images": len(sample.images),
        "images with views": min(view_images, len(sample.images)),
        "views of each": views,
        "seed": seed,
        "checkpoints": of_checkpoints,
    }
    write_json(output / "report.json", results, allow_nan=False)
    with replacing(output / "report.html") as scratch:
        scratch.write_text(
            write_report(results, sample.images, sample.class_of_each()), encoding="utf-8"
        )
    print_table(results)
    print(f"\nThe report is {output / 'report.html'}, its numbers are in {output / 'report.json'}")


class Sample(NamedTuple):
    """The images that all checkpoints are measured on.

    Attributes:
        images: The images.
        held_out: Whether none of them is among those that are pretrained on.
        labels: Their classes, (n,); ``None`` where they have none.
        names: Of the classes.
        queries: Indices of the images to show the neighbours of.
    """

    images: Images
    held_out: bool
    labels: Tensor | None
    names: list[str]
    queries: Tensor

    def class_of_each(self) -> list[str] | None:
        """The name of each image's class."""
        return None if self.labels is None else [self.names[label] for label in self.labels]


def choose_images(
    dataset: DatasetName,
    data_dir: Path | None,
    max_images: int,
    seed: int,
    *,
    pixel_range: PixelRange | None = None,
    background: Color | None = None,
    folders: Folders | None = None,
) -> Sample:
    """A random part of the test images, or of all where there are none.

    Raises:
        ValueError: If there are too few.
    """
    splits = load_images(
        dataset, data_dir, pixel_range=pixel_range, background=background, folders=folders
    )
    images = splits.pretrain if splits.test is None else splits.test
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    images = images.part(order[:max_images].sort().values.numpy())
    if len(images) <= NEIGHBOURS:
        raise ValueError(f"data_dir: expected more than {NEIGHBOURS} images, got {len(images)}")
    pretrain = splits.pretrain
    seen = pretrain.source is images.source and np.isin(images.indices, pretrain.indices).any()
    labels, names = None, list[str]()
    if images.labels.min() >= 0:
        labels = torch.from_numpy(images.labels).long()
        names = class_names(dataset, data_dir, int(labels.max()) + 1, folders)
    return Sample(images, not seen, labels, names, draw_queries(labels, len(images), seed))


def draw_queries(labels: Tensor | None, count: int, seed: int) -> Tensor:
    """Indices of a few images, of different classes as far as there are."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    first: dict[int, int] = {}
    if labels is not None:
        for index in order:
            first.setdefault(int(labels[index]), index)
    chosen = list(first.values())[:QUERIES]
    others = (index for index in order if index not in chosen)
    return torch.tensor([*chosen, *itertools.islice(others, QUERIES - len(chosen))])


def name_checkpoints(checkpoints: list[str]) -> list[str]:
    """A short name for each: its run's folder, or its own where that tells more."""
    names = []
    for path in map(Path, checkpoints):
        of_run = path.parent.name == "checkpoints"
        short = path.parent.parent.name if of_run else path.stem
        names.append(f"{short}, {path.stem}" if of_run and path.stem != "last" else short)
    if len(set(checkpoints)) < len(checkpoints):
        raise ValueError(f"checkpoints: expected each once, got {checkpoints}")
    return names if len(set(names)) == len(names) else checkpoints


def measure(
    trained: Trained, sample: Sample, view_images: int, views: int, seed: int, num_workers: int
) -> dict[str, Any]:
    """All numbers of one checkpoint; ``None`` for those that its head does not have."""
    head, images = trained.head, sample.images
    embedded = embed(trained, images, num_workers)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    chosen = order[:view_images].sort().values
    viewed = embed_views(
        trained, images.part(chosen.numpy()), embedded.part(chosen), views, seed, num_workers
    )
    return {
        "redundancy": redundancy(embedded.tasks, seed),
        "routing weights": (
            routing(embedded, viewed, sample.labels, sample.names)
            if head.routing == "mmoe"
            else None
        ),
        "equivariance": (
            None if head.predictor is None else equivariance(viewed, head.predictor.std)
        ),
        "parameters": parameters_read_off(viewed, seed),
        "neighbours": neighbours(embedded, head.routing, sample.labels, sample.queries, NEIGHBOURS),
    }


def print_table(results: dict[str, Any]) -> None:
    """Print the summary."""
    print(
        f"\n{results['images']} images; {results['views of each']} views of each of "
        f"{results['images with views']}"
    )
    for name, row in summary(results).items():
        print(name)
        for label, (value, chance) in row.items():
            if value is not None:
                beside = "" if chance is None else f"   by chance {chance:.3f}"
                print(f"  {label:27} {value:7.3f}{beside}")


if __name__ == "__main__":
    run(main, several="checkpoints")
