"""Finetune an encoder and a linear classifier on labelled images, by timm's recipe.

    star-head finetune runs/stl10_resnet18/encoder --dataset stl10
    star-head finetune resnet50.a1_in1k --dataset folder --data_dir photos
    star-head finetune ENCODER --dataset digits --label_share 0.1       # few labels
    star-head finetune ENCODER --dataset digits --ckpt_path=last        # go on
    star-head finetune ENCODER --dataset digits --trainer.devices=4     # on four GPUs

AdamW with rates that fall from layer to layer towards the input, a warm-up and a cosine, random
crops, RandAugment, mixup and label smoothing. Training and validation images are trained on, and
the test images are classified after every epoch; what is reported, and exported to model/, is the
network after the last. checkpoints/best.ckpt is that of the epoch that did best on the test images,
which flatters it. --validate=true trains on the training images alone and measures on the
validation images in place of the test: settings are chosen so.

The paper (arXiv 2510.27222) reports no finetuning: there is no figure of it to compare with.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from timm.data import create_transform, resolve_data_config
from torch.utils.data import DataLoader
from torchvision.transforms import Compose

from star_head._checks import check_count
from star_head._whole_files import write_json
from star_head.adapters._images import Color, cut_long_sides, to_rgb
from star_head.adapters._pixel_range import PixelRange
from star_head.adapters.timm import describe_backbone, export_encoder
from star_head.evaluation.labels import label_part
from star_head.evaluation.networks import Encoder, open_encoder
from star_head.examples.command_line import print_next, run
from star_head.examples.data.image_data import Images
from star_head.examples.data.splits import Folders
from star_head.examples.data.transfer_data import TransferName, load_transfer
from star_head.examples.training.classifier import FinetuneModule, add_classifier
from star_head.examples.training.processes import leave_group
from star_head.examples.training.resumable import fit
from star_head.examples.training.trainers import SeededData, create_trainer

# As timm's recipe, but for "mstd0.5", a noise on the magnitude: where that reaches 10, timm
# 1.0.31 asks for no bits of a colour, which Pillow 13 refuses.
_AUGMENT = "rand-m9-inc1"


class _MonitoredData(SeededData):
    """Looks at the test images after every epoch."""

    def val_dataloader(self) -> DataLoader[Any]:
        """The test images."""
        return self.test_dataloader()


def main(
    encoder: str,
    dataset: TransferName = "digits",
    data_dir: Path | None = None,
    epochs: int = 30,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    layer_decay: float = 0.75,
    weight_decay: float = 0.05,
    warmup_epochs: int = 5,
    mixup: float = 0.2,
    label_smoothing: float = 0.1,
    augment: str | None = _AUGMENT,
    min_scale: float = 0.2,
    validate: bool = False,
    label_share: float | None = None,
    seed: int = 0,
    num_workers: int | None = None,
    output: Path = Path("runs/finetune"),
    ckpt_path: str | None = None,
    trainer: dict[str, Any] | None = None,
    pixel_range: PixelRange | None = None,
    background: Color | None = None,
    folders: Folders | None = None,
) -> None:
    """Train, print the accuracy, export the network with its classifier.

    Args:
        encoder: An exported folder, a checkpoint or a timm name.
        dataset: What to train on.
        data_dir: Where its files are, or are fetched to; default ``data``.
        epochs: Rounds over the training images.
        batch_size: Images in a batch, over all processes together.
        learning_rate: Learning rate for a batch of 256, in proportion to which it grows.
        layer_decay: Factor on the rate from each layer to the one before it; 1 for none.
        weight_decay: Weight decay of AdamW.
        warmup_epochs: While which the rate grows.
        mixup: Alpha of timm's mixup; 0 for none.
        label_smoothing: Share of a label that goes to all classes alike.
        augment: timm's name of an augmentation; null for none but crops, flips and colours. With
            "mstd" in it, timm 1.0.31 and Pillow 13 fail at times.
        min_scale: Smallest share of a random crop's area.
        validate: Measure on the validation images, and do not train on them.
        label_share: Share of each class's images to train on (default: all), the same images for
            every encoder.
        seed: Seed of the run.
        num_workers: Loader processes beside each training process; default: by its processors.
        output: Folder for checkpoints, logs, model/ and finetune.json.
        ckpt_path: Go on from this checkpoint; "last": from the output's last, if it is there.
        trainer: Further arguments of Lightning's Trainer, such as --trainer.devices=4.
        pixel_range: For ``folder``, the pixel values (low, high) that become black and white in
            images of more than 8 bits.
        background: For ``folder``, the colour (red, green, blue) under transparent pixels.
        folders: For ``folder``, what the folders at its top are, where their names do not say.
    """
    check_count("epochs", epochs)
    check_count("batch_size", batch_size)
    output = output.expanduser()
    loaded = load_transfer(
        dataset, data_dir, pixel_range=pixel_range, background=background, folders=folders
    )
    train, test = loaded.train, loaded.test
    if validate:
        train, test = (
            train.part(part) for part in np.split(np.arange(len(train)), [loaded.train_count])
        )
    if label_share is not None:
        train = train.part(label_part(train.labels, label_share))
    torch.manual_seed(seed)
    opened = open_encoder(encoder)
    recipe = {
        "learning_rate": learning_rate,
        "layer_decay": layer_decay,
        "weight_decay": weight_decay,
        "warmup_epochs": warmup_epochs,
        "mixup": mixup,
        "label_smoothing": label_smoothing,
    }
    module = FinetuneModule(
        add_classifier(opened, loaded.num_classes),
        loaded.num_classes,
        batch_size=batch_size,
        batches=len(train) // batch_size,
        metric=loaded.metric,
        **recipe,  # type: ignore[arg-type]
    )
    settings = {
        "dataset": dataset,
        "epochs": epochs,
        **recipe,
        "augment": augment,
        "min_scale": min_scale,
        "validate": validate,
        "label_share": label_share,
    }
    data = _MonitoredData(
        _prepare(train, opened, is_training=True, auto_augment=augment, scale=(min_scale, 1.0)),
        _prepare(test, opened),
        batch_size=batch_size,
        seed=seed,
        num_workers=num_workers,
        settings=settings,
    )
    best = ModelCheckpoint(
        output / "checkpoints",
        filename="best",
        monitor="test_accuracy",
        mode="max",
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )
    runner = create_trainer(output, seed, trainer, [best], max_epochs=epochs)
    if mixup > 0 and batch_size % (2 * runner.world_size):
        raise ValueError(
            f"batch_size: mixup takes the images of each of {runner.world_size} processes in "
            f"pairs, got {batch_size}"
        )
    fit(runner, module, data, ckpt_path, "output")
    accuracy = runner.validate(module, datamodule=data, verbose=False)[0]["test_accuracy"]
    if runner.is_global_zero:
        trained = f"{len(train)} images trained on"
        print(f"{trained}, {len(test)} {_part(validate)} images, {loaded.metric}")
        print(f"after {epochs} epochs: {100 * accuracy:.2f}")
        print("The paper reports no finetuning: there is no figure of it to compare with.")
        results = {
            "encoder": encoder,
            **data.state_dict(),
            "measured on": _part(validate),
            "metric": loaded.metric,
            "accuracy": accuracy,
        }
        write_json(output / "finetune.json", results)
        _export(opened, output / "model")
        print_next(the_same_encoder_frozen=f"star-head linear-eval {encoder} --data_dir DATA")
    leave_group()


def _prepare(images: Images, encoder: Encoder, **options: Any) -> Images:
    """Transform images as timm does for this model."""
    size = encoder.input_size
    config = resolve_data_config(
        {"input_size": (3, size, size), **encoder.normalize}, model=encoder.backbone
    )
    cut = [] if options.get("is_training") else [cut_long_sides]  # where the centre is taken
    return images.with_transform(Compose([to_rgb, *cut, create_transform(**config, **options)]))


def _part(validate: bool) -> str:
    return "validation" if validate else "test"


def _export(finetuned: Encoder, folder: Path) -> None:
    """Write the model with its classifier and say how to open it."""
    model = finetuned.backbone
    export_encoder(
        model,
        folder,
        input_size=finetuned.input_size,
        normalize=finetuned.normalize,
        keep_classifier=True,
    )
    opening = f"timm.create_model('local-dir:{folder}', pretrained=True)"
    if describe_backbone(model)["small_images"]:
        opening = f"star_head.adapters.timm.load_encoder('{folder}', keep_classifier=True)"
    print(f"The model is in {folder}: {opening}")


if __name__ == "__main__":
    run(main)
