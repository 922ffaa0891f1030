"""Semantic segmentation by frozen features, of one encoder or of several side by side.

    star-head segmentation runs/imagenet100_resnet50/encoder --dataset voc2012 --data_dir data
    star-head segmentation ENCODER resnet18 --dataset folder --data_dir photos
    star-head segmentation ENCODER --dataset drawings --data_dir clipart --head conv

A linear layer, or a small convolutional head, on the last map of features, resized bilinearly to
the masks' size; mean intersection over union and pixel accuracy. The paper (arXiv 2510.27222)
reports no segmentation: there is no figure of it to compare with.
"""

import hashlib
from pathlib import Path

import torch

from star_head._whole_files import write_json
from star_head.evaluation import open_encoder
from star_head.evaluation.segmentation import DenseHead, segmentation_probe
from star_head.examples.command_line import print_next, run
from star_head.examples.data.mask_data import IGNORE, MaskName, load_masks


def main(
    encoders: list[str],
    data_dir: Path,
    dataset: MaskName = "folder",
    head: DenseHead = "linear",
    input_size: int | None = None,
    epochs: int = 20,
    batch_size: int = 16,
    learning_rate: float = 1e-3,
    max_images: int | None = None,
    seed: int = 0,
    num_workers: int | None = None,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
    output: Path = Path("runs/segmentation"),
) -> None:
    """Train a head on each encoder's features, and print both figures of each.

    An interrupted command goes on from its last epoch when it is given again.

    Args:
        encoders: Exported folders, checkpoints or timm names.
        data_dir: For ``voc2012``, where VOCdevkit lies; for ``ade20k``, ADEChallengeData2016; for
            ``folder``, the folder with images and masks; for ``drawings``, images with
            transparency.
        dataset: What to segment.
        head: One linear layer, or a 3x3 convolution before it.
        input_size: Side in pixels to which images are resized; default: the encoder's own.
        epochs: Passes over the training images.
        batch_size: Images a step.
        learning_rate: Learning rate of AdamW.
        max_images: Train on so many images only, evenly spread.
        seed: Seed of the head's weights and of the order.
        num_workers: Processes that read images; default: by the number of processors.
        device: Where torch computes.
        output: Folder for segmentation.json and for what an interrupted command goes on from.
    """
    output = output.expanduser()
    output.mkdir(parents=True, exist_ok=True)
    data = load_masks(dataset, data_dir, max_images)
    print(f"{len(data.train)} images to train on, {len(data.test)} to measure on")
    results: dict[str, dict[str, object]] = {}
    width = max(map(len, encoders))
    print(f"{'':{width}}  mean IoU  pixel accuracy")
    for source in encoders:
        encoder = open_encoder(source)
        encoder.backbone.to(device)
        run_of = f"{source} {dataset} {data_dir.expanduser().resolve()} {head}"
        name = hashlib.sha256(run_of.encode()).hexdigest()[:12]
        found = segmentation_probe(
            encoder,
            data.train,
            data.test,
            num_classes=data.num_classes,
            head=head,
            input_size=input_size,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            ignore=IGNORE,
            seed=seed,
            num_workers=num_workers,
            checkpoint=output / f"{name}.ckpt",
        )
        print(f"{source:{width}}{100 * found.mean_iou:10.2f}{100 * found.pixel_accuracy:16.2f}")
        results[source] = {
            "mean IoU": found.mean_iou,
            "pixel accuracy": found.pixel_accuracy,
            "IoU of each class": found.iou,
            "last loss": found.loss,
        }
        settings = {"dataset": dataset, "data_dir": str(data_dir), "head": head, "seed": seed}
        settings |= {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
        counts = {"train": len(data.train), "test": len(data.test), "classes": data.num_classes}
        write_json(output / "segmentation.json", {**settings, **counts, "encoders": results})
    print_next(frozen_features=f"star-head linear-eval {encoders[0]} --data_dir DATA")


if __name__ == "__main__":
    run(main, several="encoders")
