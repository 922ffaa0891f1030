"""The path of 45 logistic regressions against ``torch.optim.LBFGS``, one strength after another.

    python -m benchmarks.logistic_path --data_dir=data

Features are a ResNet-18's of 10,000 of Fashion-MNIST's training images, each turned by one of
twelve angles: 120 classes, 5,000 images to train on and 5,000 to choose by, 512 wide. The network
has been trained for 150 steps on the other 50,000. The reference runs to exhaustion: 5,000
iterations, no tolerance; strengths on which it reaches that cap, or the 6,250 evaluations that come
with it, count as the median of the rest. Ours solves the path before, amid and after the reference,
and counts by its median.
"""

import statistics
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as TF
from tqdm import tqdm

from star_head.adapters.timm import create_backbone
from star_head.evaluation.logistic import STRENGTHS, Solutions, fit_path, predict
from star_head.examples.command_line import run
from star_head.examples.data.image_data import load_images

ANGLES, STEPS, BATCH = 12, 150, 128
FITTED, CHOSEN_BY = 5_000, 5_000
MAX_ITERATIONS = 5_000


class Solved(NamedTuple):
    """One strength, by the reference.

    Attributes:
        seconds: How long it took.
        capped: Whether it ended only at the most iterations.
        objective: As it ended.
        accuracy: On the images to choose by.
    """

    seconds: float
    capped: bool
    objective: float
    accuracy: float


def main(data_dir: Path = Path("data")) -> None:
    """Print seconds, objectives and accuracies of both, and the ratio.

    Args:
        data_dir: Where Fashion-MNIST lies or is fetched to.
    """
    torch.manual_seed(0)
    features, labels = encode(data_dir)
    x, queries = features[:FITTED], features[FITTED:]
    y, truth = labels[:FITTED], labels[FITTED:]
    classes = int(labels.max()) + 1
    print(f"{len(x)} x {x.shape[1]} features, {classes} classes, {len(truth)} to choose by")

    ours: list[float] = []
    solved: list[Solved] = []
    for part in np.array_split(np.array(STRENGTHS), 2):
        ours.append(time_ours(x, y, classes)[0])
        solved += [
            solve_by_lbfgs(x, y, queries, truth, classes, s)
            for s in tqdm(part.tolist(), desc="torch.optim.LBFGS")
        ]
    seconds_last, path = time_ours(x, y, classes)
    ours.append(seconds_last)

    accuracies = (predict(path.weights, queries.numpy()) == truth).double().mean(dim=1).tolist()
    with_ones = F.pad(x.double(), (0, 1), value=1)
    print("strength     LBFGS: s  objective  accuracy     ours: objective  accuracy")
    for k, (strength, reference) in enumerate(zip(STRENGTHS, solved, strict=True)):
        weights = path.weights[k].double()
        objective = F.cross_entropy(with_ones @ weights.T, y, reduction="sum")
        objective += strength * weights.square().sum()
        print(
            f"{strength:8.1e}  {reference.seconds:9.1f}{'*' if reference.capped else ' '}"
            f"{reference.objective:10.4f}{100 * reference.accuracy:10.2f}"
            f"{objective.item():20.4f}{100 * accuracies[k]:10.2f}"
        )
    print(f"(* capped)\n{path.summary()}")

    ended = [s.seconds for s in solved if not s.capped]
    usual = statistics.median(ended) if ended else 0.0
    seconds = sum(usual if s.capped else s.seconds for s in solved)
    chosen = max(s.accuracy for s in solved)
    print(f"\n{'':20}{'LBFGS':>10}{'ours':>10}")
    print(f"{'seconds':20}{seconds:10.1f}{statistics.median(ours):10.1f}", end="")
    print(f"    ratio {seconds / statistics.median(ours):.1f}")
    print(f"{'chosen accuracy':20}{100 * chosen:10.2f}{100 * max(accuracies):10.2f}")
    print(f"LBFGS as it ran, capped or not: {sum(s.seconds for s in solved):.1f} s")
    print(f"ours, each time: {', '.join(f'{s:.1f}' for s in ours)} s")


def time_ours(x: Tensor, y: Tensor, classes: int) -> tuple[float, Solutions]:
    """Seconds of the whole path, and the path."""
    begun = time.perf_counter()
    path = fit_path(x.numpy(), y.numpy(), STRENGTHS, num_classes=classes)
    return time.perf_counter() - begun, path


def solve_by_lbfgs(
    x: Tensor, y: Tensor, queries: Tensor, truth: Tensor, classes: int, strength: float
) -> Solved:
    """The protocol as it is written, from zeros."""
    layer = torch.nn.Linear(x.shape[1], classes)
    parameters = list(layer.parameters())
    for parameter in parameters:
        torch.nn.init.zeros_(parameter)
    optimizer = torch.optim.LBFGS(
        parameters,
        max_iter=MAX_ITERATIONS,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        penalty = torch.stack([parameter.square().sum() for parameter in parameters]).sum()
        objective = F.cross_entropy(layer(x), y, reduction="sum") + strength * penalty
        objective.backward()  # type: ignore[no-untyped-call]
        return objective

    begun = time.perf_counter()
    optimizer.step(closure)  # type: ignore[no-untyped-call]
    seconds = time.perf_counter() - begun
    with torch.no_grad():
        accuracy = (layer(queries).argmax(dim=1) == truth).double().mean().item()
    state = optimizer.state[parameters[0]]
    capped = state["n_iter"] >= MAX_ITERATIONS or state["func_evals"] >= MAX_ITERATIONS * 5 // 4
    return Solved(seconds, capped, closure().item(), accuracy)


def encode(data_dir: Path) -> tuple[Tensor, Tensor]:
    """Features of the first 10,000 turned images, and their classes, after training on the rest."""
    images = load_images("fashion-mnist", data_dir).train
    assert images is not None
    pixels = torch.stack([TF.pil_to_tensor(images[i][0]) for i in range(len(images))])[:, :1]
    turns = torch.randint(ANGLES, (len(images),))
    for turn in range(ANGLES):
        turned = pixels[turns == turn]
        pixels[turns == turn] = TF.rotate(turned, 360 * turn / ANGLES, InterpolationMode.BILINEAR)
    labels = torch.from_numpy(images.labels.astype(np.int64)) * ANGLES + turns

    def views(indices: Tensor) -> Tensor:
        return ((pixels[indices] / 255 - 0.286) / 0.353).expand(-1, 3, -1, -1)

    first = FITTED + CHOSEN_BY
    backbone = create_backbone("resnet18")
    head = torch.nn.Linear(512, int(labels.max()) + 1)
    optimizer = torch.optim.AdamW([*backbone.parameters(), *head.parameters()], 1e-3)
    for _ in tqdm(range(STEPS), desc="Training the encoder"):
        indices = torch.randint(first, len(images), (BATCH,))
        loss = F.cross_entropy(head(backbone(views(indices))), labels[indices])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    backbone.eval()
    with torch.inference_mode():
        features = torch.cat(
            [backbone(views(part)) for part in torch.split(torch.arange(first), 500)]
        )
    return features.clone(), labels[:first]


if __name__ == "__main__":
    run(main)
