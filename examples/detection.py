"""Detection on Pascal VOC: Faster R-CNN on the C4 of a ResNet, frozen or finetuned.

    star-head detection runs/imagenet100_resnet50/encoder --data_dir data
    star-head detection ENCODER --data_dir data --trainer.devices=8     # on eight GPUs
    star-head detection ENCODER --data_dir data --ckpt_path=last        # go on
    star-head detection ENCODER --data_dir data --ckpt_path=last --evaluate_only=true

VOC07+12 trainval is trained on, VOC07 test measured. The paper (arXiv 2510.27222) says no more than
that and "frozen"; schedule, sizes and rates are MoCo's for VOC (arXiv 1911.05722, appendix): 24,000
iterations at a batch of 16, rate 0.02 with drops after 18,000 and 22,000, shorter side 480 to 800
in training and 800 at test.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from star_head._checks import check_count
from star_head._whole_files import write_json
from star_head.evaluation.networks import open_encoder
from star_head.examples.command_line import print_next, run
from star_head.examples.data.voc import CLASSES, TEST, TRAIN, VOCBoxes
from star_head.examples.training.detector import DetectionModule, build_detector
from star_head.examples.training.processes import leave_group
from star_head.examples.training.resumable import fit
from star_head.examples.training.trainers import SeededData, create_trainer

# Iterations between checkpoints at most.
_EPOCH = 1000
_METRICS = ("AP", "AP50", "AP75")
# AP, AP50, AP75 as the paper reports them: pretrained on ImageNet100, ResNet-50.
_PAPER = {
    "SimCLR": (47.96, 76.35, 51.62),
    "EquiMod": (48.52, 76.55, 52.82),
    "STAR-MMoE": (48.85, 76.81, 53.01),
}


def main(
    encoder: str,
    data_dir: Path = Path("data"),
    finetune: bool = False,
    iterations: int = 24000,
    batch_size: int = 16,
    learning_rate: float = 0.02,
    short_side: int = 800,
    seed: int = 0,
    num_workers: int | None = None,
    output: Path = Path("runs/detection"),
    ckpt_path: str | None = None,
    evaluate_only: bool = False,
    trainer: dict[str, Any] | None = None,
) -> None:
    """Train a detector, then print AP, AP50 and AP75.

    Args:
        encoder: An exported folder, a checkpoint or a timm name, of a ResNet.
        data_dir: Folder with VOCdevkit/VOC2007 and VOCdevkit/VOC2012.
        finetune: Train conv1 to layer3 too, which are frozen else.
        iterations: Training steps.
        batch_size: Images in a batch, over all processes together.
        learning_rate: Learning rate for a batch of 16, in proportion to which it grows.
        short_side: Shorter side at test, in pixels; in training it is drawn from 0.6 of it on.
        seed: Seed of the run.
        num_workers: Loader processes beside each training process; default: by its CPU cores.
        output: Folder for checkpoints, logs and detection.json.
        ckpt_path: Go on from this checkpoint; "last": from the output's last, if it is there.
        evaluate_only: Measure the detector in ckpt_path, and train nothing.
        trainer: Further arguments of Lightning's Trainer, such as --trainer.devices=4.
    """
    check_count("iterations", iterations)
    check_count("batch_size", batch_size)
    output = output.expanduser()
    if evaluate_only:
        ckpt_path = _existing(ckpt_path, output)
    torch.manual_seed(seed)
    opened = open_encoder(encoder)
    module = DetectionModule(
        build_detector(opened, len(CLASSES) + 1, short_side),
        batch_size=batch_size,
        iterations=iterations,
        finetune=finetune,
        learning_rate=learning_rate,
    )
    data = SeededData(
        VOCBoxes(data_dir, TRAIN, flip=True),
        VOCBoxes(data_dir, TEST),
        batch_size=batch_size,
        seed=seed,
        num_workers=num_workers,
        collate_fn=_collate,
        settings={
            "finetune": finetune,
            "iterations": iterations,
            "learning_rate": learning_rate,
            "short_side": short_side,
        },
    )
    accumulated = int((trainer or {}).get("accumulate_grad_batches", 1))
    steps = steps_per_epoch(iterations, len(data.train) // (batch_size * accumulated))
    runner = create_trainer(
        output,
        seed,
        trainer,
        [],
        # Not max_steps, with which Lightning would go on in the midst of an epoch.
        max_epochs=iterations // steps,
        limit_train_batches=steps * accumulated,
        limit_val_batches=0,  # it is measured once, at the end
    )
    if not evaluate_only:
        # A frozen backbone is, on purpose.
        warnings.filterwarnings("ignore", r"Found \d+ module\(s\) in eval mode")
        fit(runner, module, data, ckpt_path, "output")
    found = runner.test(
        module,
        datamodule=data,
        ckpt_path=ckpt_path if evaluate_only else None,
        weights_only=True,
        verbose=False,
    )[0]
    if runner.is_global_zero:
        _print(found)
        results = {
            "encoder": encoder,
            "finetune": finetune,
            "iterations": iterations,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "short_side": short_side,
            "seed": seed,
            "train images": len(data.train),
            "test images": len(data.test),
            **found,
        }
        write_json(output / "detection.json", results)
        print_next(
            the_encoder_on_labelled_images=f"star-head linear-eval {encoder} --data_dir DATA"
        )
    leave_group()


def steps_per_epoch(iterations: int, available: int) -> int:
    """How many steps at most divide the iterations, up to 1,000 and to those available.

    Each epoch draws its images anew: of VOC07+12, 16,000 of 16,551 in 24 epochs.

    Raises:
        ValueError: If only far smaller numbers divide them: each epoch saves a checkpoint.
    """
    most = max(1, min(_EPOCH, available))
    steps = next(steps for steps in range(most, 0, -1) if iterations % steps == 0)
    if iterations > most > 10 * steps:
        raise ValueError(
            f"iterations: expected a number with a divisor up to {most} and near it, such as "
            f"{iterations - iterations % most}, got {iterations}"
        )
    return steps


def _collate(items: list[Any]) -> tuple[Any, ...]:
    """Batches of lists, since images differ in size."""
    return tuple(zip(*items, strict=True))


def _existing(ckpt_path: str | None, output: Path) -> str:
    path = output / "checkpoints/last.ckpt" if ckpt_path == "last" else ckpt_path
    path = None if path is None else Path(path).expanduser()
    if path is None or not path.is_file():
        raise ValueError(f"ckpt_path: expected a checkpoint to evaluate, got {path}")
    return str(path)


def _print(found: Mapping[str, float]) -> None:
    print(f"{'VOC07 test':32}" + "".join(f"{name:>8}" for name in _METRICS))
    rows = {
        "this, at VOC07's 11 recalls": [found[f"VOC07 {name}"] for name in _METRICS],
        "this, at COCO's 101 recalls": [found[name] for name in _METRICS],
    } | {f"the paper's {method}": list(figures) for method, figures in _PAPER.items()}
    for name, figures in rows.items():
        print(f"{name:32}" + "".join(f"{figure:8.2f}" for figure in figures))
    print(
        "The paper's are of a ResNet-50 pretrained on ImageNet100, frozen, trained on all of "
        "VOC07+12: comparable\nonly with such an encoder and the whole schedule, the defaults "
        "here. It does not say at how many recalls;\nDetectron2, with which MoCo is measured, "
        "takes 11 for VOC07."
    )


if __name__ == "__main__":
    run(main)
