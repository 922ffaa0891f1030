"""Few-shot classification on frozen features: 5-way, 1-shot and 5-shot, 2,000 episodes each.

    star-head few-shot runs/stl10_resnet18/encoder data --dataset cub200
    star-head few-shot runs/stl10_resnet18/encoder photos

Each image is encoded once. An episode draws five classes, the shots of each and 16 queries of each,
and fits one-against-rest logistic regressions, as the paper's protocol does (arXiv 2510.27222, with
scikit-learn's liblinear); here they are solved in batches, to the same minimum. What it prints for
FC100, CUB200 and Plant Disease is comparable to the figures in the paper's few-shot table.
"""

import math
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from star_head._whole_files import write_json
from star_head.adapters._images import Color
from star_head.adapters._pixel_range import PixelRange
from star_head.evaluation.features import extract
from star_head.evaluation.networks import open_encoder
from star_head.evaluation.one_vs_rest import decide
from star_head.examples.command_line import run
from star_head.examples.data.few_shot_data import FewShotName, load_few_shot
from star_head.examples.data.splits import Folders

WAYS, QUERIES = 5, 16
# Episodes solved at a time.
_BATCH = 50


class Episodes(NamedTuple):
    """Which images each episode draws; labels are 0 to 4 in blocks.

    Attributes:
        support: Indices of the shots, (episodes, 5, shots).
        queries: Indices of the queries, (episodes, 5, 16).
    """

    support: np.ndarray
    queries: np.ndarray


def main(
    encoder: str,
    data_dir: Path,
    dataset: FewShotName = "folder",
    episodes: int = 2000,
    seed: int = 0,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
    cache: Path = Path("runs/features"),
    output: Path = Path("runs/few_shot.json"),
    pixel_range: PixelRange | None = None,
    background: Color | None = None,
    folders: Folders | None = None,
) -> None:
    """Print mean accuracy over episodes and its 95% interval.

    Args:
        encoder: An exported folder, a checkpoint or a timm name.
        data_dir: A folder of class folders, or where another data set has its folder.
        dataset: What to classify.
        episodes: Of each number of shots.
        seed: Of the draws.
        device: Where images are encoded.
        cache: Folder for the features.
        output: JSON file for the results.
        pixel_range: For ``folder``, the pixel values (low, high) that become black and white in
            images of more than 8 bits.
        background: For ``folder``, the colour (red, green, blue) under transparent pixels.
        folders: For ``folder``, what the folders at its top are, where their names do not say.
    """
    images = load_few_shot(
        dataset, data_dir, pixel_range=pixel_range, background=background, folders=folders
    )
    opened = open_encoder(encoder)
    opened.backbone.to(device)
    features = torch.from_numpy(np.array(extract(opened, images, cache=cache).features))
    results: dict[str, object] = {
        "encoder": encoder,
        "dataset": dataset,
        "data_dir": str(data_dir),
        "images": len(images),
        "episodes": episodes,
        "seed": seed,
    }
    print(f"{len(images)} images, {episodes} episodes of {WAYS} classes, {QUERIES} queries of each")
    for shots in (1, 5):
        drawn = draw_episodes(images.labels, shots, episodes, seed)
        accuracies = solve(features, drawn)
        mean, interval = accuracies.mean().item(), confidence_interval(accuracies)
        results[f"{shots}-shot"] = {"accuracy": mean, "95% interval": interval}
        print(f"{shots}-shot: {100 * mean:.2f} +- {100 * interval:.2f}")
    write_json(output, results)


def draw_episodes(labels: np.ndarray, shots: int, episodes: int, seed: int) -> Episodes:
    """Draw classes, shots and queries; no image is both in one episode.

    A class with no more images than shots is left out. Where one has too few for 16 queries, they
    are drawn with replacement.

    Args:
        labels: (n,), classes from 0.
        shots: Images of each class to learn from.
        episodes: How many.
        seed: Of the draws.

    Raises:
        ValueError: If fewer than five classes are left.
    """
    of_class = [np.flatnonzero(labels == c) for c in range(int(labels.max()) + 1)]
    enough = [indices for indices in of_class if len(indices) > shots]
    if len(enough) < len(of_class):
        warnings.warn(
            f"{len(of_class) - len(enough)} of {len(of_class)} classes have no more than {shots} "
            f"images and are left out",
            stacklevel=2,
        )
    if len(enough) < WAYS:
        raise ValueError(
            f"data_dir: expected at least {WAYS} classes of more than {shots} images, "
            f"got {len(enough)}"
        )
    generator = torch.Generator().manual_seed(seed)
    support = np.empty((episodes, WAYS, shots), np.int64)
    queries = np.empty((episodes, WAYS, QUERIES), np.int64)
    for episode in range(episodes):
        for way, c in enumerate(torch.randperm(len(enough), generator=generator)[:WAYS].tolist()):
            members = enough[c]
            order = members[torch.randperm(len(members), generator=generator).numpy()]
            support[episode, way], rest = order[:shots], order[shots:]
            if len(rest) >= QUERIES:
                queries[episode, way] = rest[:QUERIES]
            else:
                drawn = torch.randint(len(rest), (QUERIES,), generator=generator)
                queries[episode, way] = rest[drawn.numpy()]
    return Episodes(support, queries)


def solve(features: Tensor, episodes: Episodes) -> Tensor:
    """Accuracy of each episode, (episodes,), float64.

    Args:
        features: (n, D).
        episodes: From :func:`draw_episodes`.
    """
    accuracies = []
    shots = episodes.support.shape[2]
    for start in tqdm(range(0, len(episodes.support), _BATCH), desc=f"{shots}-shot", delay=2):
        part = slice(start, start + _BATCH)
        support, queries = (
            features[torch.from_numpy(indices[part]).flatten(1)] for indices in episodes
        )
        labels = torch.arange(WAYS).repeat_interleave(shots).expand(len(support), -1)
        truth = torch.arange(WAYS).repeat_interleave(QUERIES)
        predicted = decide(support, labels, queries).argmax(dim=2)
        accuracies.append((predicted == truth).double().mean(dim=1))
    return torch.cat(accuracies)


def confidence_interval(accuracies: Tensor) -> float:
    """Half the width of the mean's 95% interval."""
    return 1.96 * accuracies.std().item() / math.sqrt(len(accuracies))


if __name__ == "__main__":
    run(main)
