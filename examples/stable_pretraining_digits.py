"""STAR as a method of stable-pretraining, on scikit-learn's digits, which need no download.

    pip install "star-head[examples,stable-pretraining]"
    python examples/stable_pretraining_digits.py

Data sets, module, probe and k-NN queue are stable-pretraining's, put together as in its own SimCLR
example; the views, the head, the loss and ``forward`` are STAR's.
"""

from pathlib import Path

import lightning as pl
import stable_pretraining as spt
import torch
import torchmetrics
from stable_pretraining.data import transforms
from torch.utils.data import DataLoader

from star_head import STARLoss, STARProjectionHead, estimate_statistics
from star_head.adapters.callbacks import NearestNeighbours
from star_head.adapters.lightly import STL10_NORMALIZE, STARTransform
from star_head.adapters.stable_pretraining import RecordedMultiViewTransform, star
from star_head.examples.command_line import run
from star_head.examples.data.image_data import load_labelled

SIZE, CLASSES, WIDTH = 32, 10, 512


def main(epochs: int = 8, batch_size: int = 128, seed: int = 0, num_workers: int = 2) -> None:
    """Train, and print what stable-pretraining's callbacks and one of STAR's find.

    Args:
        epochs: Passes over the training images.
        batch_size: Images a step.
        seed: Seed of weights, views and order.
        num_workers: Processes that make views.
    """
    spt.set(verbose="ERROR", cache_dir=str(Path("runs/stable_pretraining").resolve()))
    pl.seed_everything(seed, verbose=False)
    digits, held_out = load_labelled("digits", None, batch_size)

    # Views and what made them, as one dictionary a view.
    recorded = STARTransform(input_size=SIZE, normalize=STL10_NORMALIZE)
    train = spt.data.FromTorchDataset(
        digits, names=["image", "label"], transform=RecordedMultiViewTransform(recorded)
    )
    plain = transforms.Compose(
        transforms.RGB(), transforms.Resize((SIZE, SIZE)), transforms.ToImage(**STL10_NORMALIZE)
    )
    val = spt.data.FromTorchDataset(held_out, names=["image", "label"], transform=plain)
    data = spt.data.DataModule(
        train=DataLoader(train, batch_size, shuffle=True, drop_last=True, num_workers=num_workers),
        val=DataLoader(val, 256),
    )

    module = spt.Module(
        forward=star,
        backbone=spt.backbone.from_timm("resnet10t", num_classes=0),
        projector=STARProjectionHead(
            WIDTH, 128, 128, statistics=estimate_statistics(recorded, digits)
        ),
        star_loss=STARLoss(gather_distributed=True),
        optim={
            "optimizer": {
                "type": "SGD",
                "lr": 0.03 * batch_size / 256,
                "momentum": 0.9,
                "weight_decay": 5e-4,
            }
        },
    )
    accuracy = torchmetrics.classification.MulticlassAccuracy(CLASSES, average="micro")
    probe = spt.callbacks.OnlineProbe(
        module,
        name="probe",
        input="embedding",
        target="label",
        probe=torch.nn.Linear(WIDTH, CLASSES),
        loss=torch.nn.CrossEntropyLoss(),
        metrics={"top1": accuracy},
    )
    queue = spt.callbacks.OnlineKNN(
        name="knn",
        input="embedding",
        target="label",
        queue_length=2048,
        input_dim=WIDTH,
        num_classes=CLASSES,
        metrics={"top1": accuracy.clone()},
    )
    plain_neighbours = NearestNeighbours(
        "backbone", digits, held_out, transform=recorded.original, images=len(digits)
    )
    trainer = pl.Trainer(
        max_epochs=epochs,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        callbacks=[probe, queue, plain_neighbours],
        enable_progress_bar=False,
    )
    spt.Manager(trainer=trainer, module=module, data=data)()
    shown = "fit/loss_invariant", "fit/loss_equivariant", "eval/probe_top1", "eval/knn_top1"
    for name in (*shown, "knn_accuracy"):
        print(f"{name:20} {trainer.callback_metrics[name]:.3f}")


if __name__ == "__main__":
    run(main)
