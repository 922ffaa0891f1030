"""Three tasks on one bank of experts: invariance, geometry and colour, each with its own router.

    python examples/three_tasks.py
    python examples/three_tasks.py --dataset fashion-mnist --data-dir data --max-images 10000

STAR's head is a bank that two tasks share and a predictor for one of them, and neither needs two:
here crop and flip are one equivariant task, colours and blur another, each with a predictor of its
part of the parameters. The paper has no such head, so no figure of it is comparable to these.
"""

import time
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from star_head import (
    EquivariantPredictor,
    NTXentLoss,
    Parameter,
    RoutedExperts,
    STARViews,
    Statistics,
    estimate_statistics,
)
from star_head._seeds import seeded
from star_head._whole_files import write_json
from star_head.adapters._images import Color
from star_head.adapters._pixel_range import PixelRange
from star_head.adapters.lightly import STL10_NORMALIZE, STARMultiViewTransform, STARTransform
from star_head.adapters.timm import create_backbone
from star_head.evaluation.nearest import nearest_neighbour_accuracy
from star_head.examples.command_line import run
from star_head.examples.data.image_data import VIEW_SIZES, DatasetName, Images, load_labelled
from star_head.examples.data.splits import Folders
from star_head.metrics import retrieval, retrieval_chance, routing_divergence

# Columns of the parameter vector that each equivariant task predicts by.
PARTS = {
    "geometric": slice(Parameter.CROP_TOP, Parameter.FLIP + 1),
    "photometric": slice(Parameter.BRIGHTNESS, Parameter.BLUR_SIGMA + 1),
}
TASKS = ("invariant", *PARTS)

# Held-out images, and views of each among which predictions look for their own.
IMAGES, VIEWS = 200, 20


class ThreeTasks(LightningModule):
    """Backbone, bank and two predictors; the invariant task comes first."""

    def __init__(
        self, backbone: nn.Module, width: int, statistics: Statistics, batch_size: int
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.learning_rate = 0.03 * batch_size / 256
        self.experts = RoutedExperts(width, width, 128, num_experts=16, num_tasks=len(TASKS))
        self.predictors = nn.ModuleDict()
        for name, part in PARTS.items():
            own = Statistics(statistics.mean[part], statistics.std[part])
            self.predictors[name] = EquivariantPredictor(128, len(own.mean), own)
        self.criterion = NTXentLoss(temperature=0.2)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Embed (B, 3, S, S) images for each task: (B, d) each."""
        z = self.experts(self.backbone(images))
        return dict(zip(TASKS, z.unbind(dim=1), strict=True))

    def predict(self, name: str, embedding: Tensor, params: Tensor) -> Tensor:
        """Predict views' embeddings for a task from the originals', by its part of (B, 11)."""
        predicted: Tensor = self.predictors[name](embedding, params[:, PARTS[name]])
        return predicted

    def training_step(self, batch: tuple[STARViews, Tensor], batch_idx: int) -> Tensor:
        """Add up the three tasks' losses."""
        views = batch[0]
        original, z1, z2 = (self(images) for images in (views.original, *views.views))
        loss: Tensor = self.criterion(z1["invariant"], z2["invariant"])
        for name in PARTS:
            predicted = [self.predict(name, original[name], params) for params in views.params]
            loss = loss + self.criterion(torch.cat([z1[name], z2[name]]), torch.cat(predicted))
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        """The quickstart's SGD, and a cosine to 0."""
        optimizer = torch.optim.SGD(
            self.parameters(), lr=self.learning_rate, momentum=0.9, weight_decay=5e-4
        )
        assert self.trainer.max_epochs is not None
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.trainer.max_epochs)
        return [optimizer], [schedule]


def main(
    dataset: DatasetName = "digits",
    data_dir: Path | None = None,
    backbone: str = "resnet10t",
    epochs: int = 30,
    batch_size: int = 128,
    seed: int = 0,
    max_images: int | None = None,
    num_workers: int = 2,
    output: Path = Path("runs/three_tasks.json"),
    pixel_range: PixelRange | None = None,
    background: Color | None = None,
    folders: Folders | None = None,
) -> None:
    """Print what each task learned, beside the untrained network and chance.

    Args:
        dataset: What to train on; digits come with scikit-learn.
        data_dir: Where the data set's files are, or are fetched to.
        backbone: Any timm model that takes images of the data set's size.
        epochs: Passes over the training images.
        batch_size: Images a step.
        seed: Seed of weights, views and order.
        max_images: Train on the first so many images only.
        num_workers: Processes that make views.
        output: JSON file for the results.
        pixel_range: For ``folder``, the pixel values (low, high) that become black and white in
            images of more than 8 bits.
        background: For ``folder``, the colour (red, green, blue) under transparent pixels.
        folders: For ``folder``, what the folders at its top are, where their names do not say.
    """
    torch.manual_seed(seed)
    train, held_out = load_labelled(
        dataset,
        data_dir,
        batch_size,
        max_images,
        pixel_range=pixel_range,
        background=background,
        folders=folders,
    )
    transform = STARTransform(VIEW_SIZES[dataset], normalize=STL10_NORMALIZE)
    encoder: Any = create_backbone(backbone, init="paper", input_size=VIEW_SIZES[dataset])
    statistics = estimate_statistics(transform, train.image_sizes())
    model = ThreeTasks(encoder, encoder.num_features, statistics, batch_size)
    loader = DataLoader(
        train.with_transform(transform),
        batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
    )
    untrained = measure(model, transform, train, held_out)
    trainer = Trainer(
        max_epochs=epochs,
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    started = time.perf_counter()
    trainer.fit(model.train(), loader)  # Lightning leaves the mode as it finds it
    seconds = time.perf_counter() - started
    trained = measure(model, transform, train, held_out)

    chance = by_chance(train, held_out)
    print(f"\n{'':42}{'trained':>10}{'untrained':>10}{'chance':>10}")
    for name, value in trained.items():
        by_luck = f"{chance[name]:.3f}" if name in chance else "-"
        print(f"{name:42}{value:10.3f}{untrained[name]:10.3f}{by_luck:>10}")
    write_json(
        output,
        {
            "dataset": dataset,
            "backbone": backbone,
            "images": len(train),
            "epochs": epochs,
            "batch_size": batch_size,
            "seed": seed,
            "seconds": seconds,
            "trained": trained,
            "untrained": untrained,
            "chance": chance,
        },
    )


@torch.inference_mode()
def measure(
    model: ThreeTasks, transform: STARTransform, train: Images, held_out: Images
) -> dict[str, float]:
    """1-NN accuracy, retrieval of views by each predictor, divergence of each two routings."""
    model.eval()
    bank, queries = (extract(model, transform, images) for images in (train, held_out))
    accuracy = nearest_neighbour_accuracy(bank, train.labels, queries, held_out.labels)
    found = {"1-NN accuracy": accuracy}
    found |= find_views(model, transform, held_out.part(np.arange(min(IMAGES, len(held_out)))))
    weights = model.experts.routing_weights(queries)
    for (i, first), (j, second) in combinations(enumerate(TASKS), 2):
        divergence = routing_divergence(weights[:, [i, j]]).item()
        found[f"divergence of {first} and {second}"] = divergence
    return found


def extract(model: ThreeTasks, transform: STARTransform, images: Images) -> Tensor:
    """Backbone features (n, D) of images without augmentation."""
    loader = DataLoader(images.with_transform(transform.original), batch_size=256)
    batches = tqdm(loader, desc="Images", unit="batch", delay=2)
    return torch.cat([model.backbone(pixels.to(model.device)) for pixels, _ in batches])


def find_views(model: ThreeTasks, transform: STARTransform, images: Images) -> dict[str, float]:
    """Mean reciprocal rank of a view among those of its image, by each task's prediction of it."""
    loader = DataLoader(images.with_transform(STARMultiViewTransform([transform] * VIEWS)), 20)
    parts: dict[str, list[list[Tensor]]] = {name: [] for name in PARTS}
    with seeded(0):  # the same views before and after training
        for views, _ in tqdm(loader, desc="Views", unit="batch", delay=2):
            views = views.to(model.device)
            original, embeddings = model(views.original), [model(x) for x in views.views]
            for name, part in parts.items():
                predicted = [model.predict(name, original[name], p) for p in views.params]
                z = [embedding[name] for embedding in embeddings]
                params = [p[:, PARTS[name]] for p in views.params]
                part.append([torch.stack(tensors, dim=1) for tensors in (predicted, z, params)])
    found = {}
    for name, part in parts.items():
        guesses, embedded, true = (torch.cat(batches) for batches in zip(*part, strict=True))
        std: Any = model.predictors[name].std
        scores = retrieval(guesses, embedded, true, std)
        found[f"mean reciprocal rank, {name}"] = scores.mean_reciprocal_rank
    return found


def by_chance(train: Images, held_out: Images) -> dict[str, float]:
    """What a neighbour and a view drawn at random give; two routings have no such figure."""
    classes = 1 + max(train.labels.max(), held_out.labels.max())
    counts = [np.bincount(images.labels, minlength=classes) for images in (train, held_out)]
    scores = retrieval_chance(torch.zeros(1, VIEWS, 1), [1.0])
    found = {"1-NN accuracy": float(counts[0] @ counts[1] / (len(train) * len(held_out)))}
    return found | {f"mean reciprocal rank, {name}": scores.mean_reciprocal_rank for name in PARTS}


if __name__ == "__main__":
    run(main)
