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

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from star_head.adapters._images import Color
from star_head.adapters._pixel_range import PixelRange
from star_head.evaluation import measure_head, open_trained, write_report
from star_head.evaluation.head import LEAST_VIEWED, LEAST_VIEWS, NEIGHBOURS
from star_head.evaluation.report.summary import summary
from star_head.examples.command_line import print_next, run
from star_head.examples.data.class_names import class_names
from star_head.examples.data.image_data import DatasetName, Images, load_images
from star_head.examples.data.splits import Folders


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
        checkpoints: Files of examples/pretrain.py or of the authors, to be compared.
        dataset: Whose test images are embedded, or all images where it has no test images.
        data_dir: Where its files are, or are fetched to.
        max_images: A random part of so many images is taken where there are more.
        view_images: Number of them of which views are made.
        views: Views of each.
        seed: Seed of the images taken, the views and the queries.
        device: Where images are embedded.
        num_workers: Processes that read images and make views.
        output: Folder for both files.
        pixel_range: For ``folder``, the pixel values (low, high) that become black and white in
            images of more than 8 bits.
        background: For ``folder``, the colour (red, green, blue) under transparent pixels.
        folders: For ``folder``, what the folders at its top are, where their names do not say.
    """
    if views < LEAST_VIEWS or view_images < LEAST_VIEWED or max_images <= NEIGHBOURS:
        raise ValueError(
            f"views, view_images, max_images: expected at least {LEAST_VIEWS}, {LEAST_VIEWED} and "
            f"{NEIGHBOURS + 1}, got {views}, {view_images} and {max_images}"
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
    measures = {}
    for name, checkpoint in zip(name_checkpoints(checkpoints), checkpoints, strict=True):
        trained = open_trained(checkpoint)
        print(f"{name}: {trained.settings['head']}")
        trained.backbone.to(device)
        trained.head.to(device)
        measures[name] = measure_head(
            trained,
            sample.images,
            view_images=view_images,
            views=views,
            seed=seed,
            class_names=sample.class_names,
            num_workers=num_workers,
        )
    results = write_report(
        measures, output, dataset=dataset, data_dir=data_dir, held_out=sample.held_out
    )
    print_table(results)
    print(f"\nThe report is {output / 'report.html'}, its numbers are in {output / 'report.json'}")
    print_next(the_encoder_alone=f"star-head export-encoder {checkpoints[0]} encoder")


class Sample(NamedTuple):
    """The images that all checkpoints are measured on.

    Attributes:
        images: The images.
        held_out: Whether none of them is among those that are pretrained on.
        class_names: Names of their classes; ``None`` where they have none.
    """

    images: Images
    held_out: bool
    class_names: list[str] | None


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
    names = None
    if images.labels.min() >= 0:
        names = class_names(dataset, data_dir, int(images.labels.max()) + 1, folders)
    return Sample(images, not seen, names)


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
                beside = "" if chance is None else f"   chance level {chance:.3f}"
                print(f"  {label:27} {value:7.3f}{beside}")


if __name__ == "__main__":
    run(main, several="checkpoints")
