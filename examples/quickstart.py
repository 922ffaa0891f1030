"""Pretrain a small encoder with STAR and see what it learned: a few minutes on two cores.

    star-head quickstart
    star-head quickstart --dataset folder --data-dir photos --epochs 100
    star-head quickstart --routing invariant   # SimCLR, to compare

Writes the exported encoder, metrics.json and two pictures to runs/quickstart/.
"""

import contextlib
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, default_collate
from tqdm import tqdm

from star_head import STAR, STARLoss, STARProjectionHead, STARViews, estimate_statistics
from star_head._whole_files import write_json
from star_head.adapters._images import Color
from star_head.adapters._pixel_range import PixelRange
from star_head.adapters.lightly import STL10_NORMALIZE, STARTransform
from star_head.adapters.timm import create_backbone, export_encoder
from star_head.evaluation.embeddings import embed, measure_features
from star_head.evaluation.nearest import nearest_neighbour_accuracy
from star_head.evaluation.trained import Trained
from star_head.examples.command_line import print_next, run
from star_head.examples.data.image_data import VIEW_SIZES, DatasetName, Images, load_labelled
from star_head.examples.data.splits import Folders
from star_head.examples.training.plots import draw_routing, draw_views
from star_head.head import Routing
from star_head.metrics import expert_usage, mean_canonical_correlation, routing_divergence

# Of each expert. As wide as the backbone's 512 features, 16 of them would take most of the time.
HIDDEN_DIM = 128

# How often a view is mirrored. A mirrored digit is no digit.
FLIP_PROBABILITY: dict[DatasetName, float] = {"digits": 0.0}


def main(
    dataset: DatasetName = "digits",
    data_dir: Path | None = None,
    backbone: str = "resnet10t",
    epochs: int = 8,
    batch_size: int = 128,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
    seed: int = 0,
    routing: Routing = "mmoe",
    max_images: int | None = None,
    output: Path = Path("runs/quickstart"),
    pixel_range: PixelRange | None = None,
    background: Color | None = None,
    folders: Folders | None = None,
) -> None:
    """Pretrain on images without their labels; measure by labels before and after.

    Args:
        dataset: What to train on; digits come with scikit-learn.
        data_dir: Where the data set's files are, or are fetched to.
        backbone: Any timm model that takes images of the data set's size.
        epochs: Passes over the training images.
        batch_size: Images a step.
        device: Where torch computes.
        seed: Seed of weights, views and order.
        routing: Routing of the head: "mmoe", "shared", "separate" or "invariant" (SimCLR).
        max_images: Train on the first so many images only.
        output: Folder for the results.
        pixel_range: For ``folder``, the pixel values (low, high) that become black and white in
            images of more than 8 bits.
        background: For ``folder``, the colour (red, green, blue) under transparent pixels.
        folders: For ``folder``, what the folders at its top are, where their names do not say.
    """
    torch.manual_seed(seed)
    output = output.expanduser()
    output.mkdir(parents=True, exist_ok=True)
    train, held_out = load_labelled(
        dataset,
        data_dir,
        batch_size,
        max_images,
        pixel_range=pixel_range,
        background=background,
        folders=folders,
    )
    size = VIEW_SIZES[dataset]
    flips = FLIP_PROBABILITY.get(dataset, 0.5)
    transform = STARTransform(size, hf_prob=flips, normalize=STL10_NORMALIZE)
    statistics = estimate_statistics(transform, train.image_sizes())
    encoder = create_backbone(backbone, init="paper", input_size=size)
    width: Any = encoder.num_features
    head = STARProjectionHead(width, HIDDEN_DIM, 128, routing=routing, statistics=statistics)
    model = STAR(encoder, head, STARLoss(temperature=0.2)).to(device)
    model.to(memory_format=torch.channels_last)  # in which convolutions are faster
    network = Trained(encoder, head, transform, {})

    model.eval()
    before = measure_features(network, train, held_out)
    started = time.perf_counter()
    fit(model, train.with_transform(transform), epochs, batch_size)
    seconds = time.perf_counter() - started
    training = {
        "method": f"STAR, routing {routing}",
        "data set": f"{len(train):,} images of {dataset}, no labels",
        "epochs": epochs,
        "batch size": batch_size,
        "seed": seed,
    }
    export_encoder(encoder, output / "encoder", transform=transform, training=training)
    model.eval()
    embedded = embed(network, train)
    queries = embed(network, held_out).features
    after = nearest_neighbour_accuracy(embedded.features, train.labels, queries, held_out.labels)

    results: dict[str, object] = {
        "dataset": dataset,
        "routing": routing,
        "backbone": backbone,
        "images": len(train),
        "epochs": epochs,
        "seed": seed,
        "seconds": seconds,
        "1-NN accuracy before": before,
        "1-NN accuracy after": after,
    }
    if head.predictor is not None:
        z1, z2 = embedded.tasks.unbind(dim=1)
        with contextlib.suppress(ValueError):  # of few images, or of a collapsed embedding
            results["mean canonical correlation"] = mean_canonical_correlation(z1, z2).item()
        results["divergence of routings"] = routing_divergence(embedded.weights).item()
        draw_routing(embedded.weights, output / "routing.png")
    results["expert usage"] = expert_usage(embedded.weights).tolist()
    write_json(output / "metrics.json", results)
    shown = STARTransform(size, hf_prob=flips, normalize=None)
    draw_views(example_views(train.with_transform(shown)), output / "views.png")
    report(results, output)


def fit(model: STAR, images: Images, epochs: int, batch_size: int) -> None:
    """Train with the paper's recipe: SGD, a rate for the batch size, cosine to 0."""
    device = next(model.parameters()).device
    loader = DataLoader(
        images,
        batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=2,
        persistent_workers=True,
        pin_memory=device.type == "cuda",
    )
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.03 * batch_size / 256, momentum=0.9, weight_decay=5e-4
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    model.train()
    total = epochs * len(loader) * batch_size
    with tqdm(total=total, unit="img", unit_scale=True, mininterval=1) as progress:
        for epoch in range(epochs):
            for views, _ in loader:
                loss = model(views.to(device, non_blocking=device.type == "cuda")).total
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                progress.set_description(
                    f"epoch {epoch + 1}/{epochs}, loss {loss.item():.3f}", refresh=False
                )
                progress.update(batch_size)
            schedule.step()


def example_views(images: Images, count: int = 4) -> STARViews:
    """Views of a few images spread over the data set."""
    indices = np.linspace(0, len(images) - 1, count).astype(int)
    return cast(STARViews, default_collate([images[int(i)][0] for i in indices]))


def report(results: dict[str, object], output: Path) -> None:
    """Print the results as a small table."""
    usage = cast(list[list[float]], results["expert usage"])
    rows = {k: v for k, v in results.items() if k != "expert usage"}
    tasks = ("invariant", "equivariant")
    rows |= {
        f"expert usage, {task}": " ".join(f"{share:.2f}" for share in row)
        for task, row in zip(tasks, usage, strict=False)
    }
    print()
    for name, value in rows.items():
        print(f"{name:28} {value:.3f}" if isinstance(value, float) else f"{name:28} {value}")
    print(f"\nEncoder, metrics and pictures are in {output}/")
    print_next(
        accuracy_of_a_linear_classifier=f"star-head linear-eval {output}/encoder --dataset digits",
        on_your_own_images="star-head quickstart --dataset folder --data_dir photos",
    )


if __name__ == "__main__":
    run(main)
