"""Time and memory of the linear path and of the canonical correlations against their sizes.

    python -m benchmarks.cost_evaluation
    python -m benchmarks.cost_evaluation --device=cuda --output=runs/cost_gpu/evaluation.json

"path" is 45 logistic regressions of the linear evaluation (evaluation/logistic.py) on made-up
features: class centres and noise, less and less of it along the later of the directions. How many
iterations the path needs depends on the data, so the operations that it took are written too.
"correlations" are those of two sets of random embeddings, on the processor in any case. What is in
the output already is not measured again.
"""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.cost_points import Points, Settings, count_products
from star_head.evaluation.logistic import STRENGTHS, Solutions, fit_path
from star_head.examples.command_line import run
from star_head.metrics import canonical_correlations


class Grid(NamedTuple):
    """What is measured: each size is varied while the others stay as the first of theirs.

    Attributes:
        images: Numbers of images of the path.
        features: Widths of the path's features.
        classes: Numbers of classes of the path.
        samples: Numbers of samples of the correlations.
        dimensions: Widths of the embeddings whose correlations are taken.
    """

    images: tuple[int, ...]
    features: tuple[int, ...]
    classes: tuple[int, ...]
    samples: tuple[int, ...]
    dimensions: tuple[int, ...]


FULL = Grid(
    images=(4000, 1000, 2000, 8000, 16000),
    features=(256, 64, 128, 512, 1024),
    classes=(20, 5, 10, 40, 80),
    samples=(10_000, 2500, 5000, 20_000, 40_000),
    dimensions=(128, 32, 64, 256, 512),
)
QUICK = Grid((100, 50), (8, 4), (3, 2), (200, 100), (4, 8))

# Mean distance of two classes' centres, in standard deviations of the noise.
DISTANCE = 3.0


def main(
    device: str = "cpu", quick: bool = False, output: Path = Path("runs/cost/evaluation.json")
) -> None:
    """Measure the points that are not in the output.

    Args:
        device: Where the path is solved.
        quick: Measure few and tiny points, to try it.
        output: JSON file for the points.
    """
    points = Points(output, device)
    grid = QUICK if quick else FULL
    wanted = [s for s in [*paths(grid), *correlations(grid)] if s not in points]
    for settings in tqdm(wanted, desc="Points"):
        if settings["part"] == "path":
            points.measure(settings, path(settings, device))
        else:
            points.measure(settings, correlation(settings), on="cpu")
    print(f"{len(points.points)} points in {output}")


def paths(grid: Grid) -> Iterator[Settings]:
    """Settings of the paths."""
    for n, d, c in one_at_a_time(grid.images, grid.features, grid.classes):
        yield {"part": "path", "images": n, "features": d, "classes": c}


def correlations(grid: Grid) -> Iterator[Settings]:
    """Settings of the canonical correlations."""
    for n, d in one_at_a_time(grid.samples, grid.dimensions):
        yield {"part": "correlations", "samples": n, "dimensions": d}


def one_at_a_time(*axes: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Points at which at most one coordinate is not the first of its axis."""
    first = tuple(axis[0] for axis in axes)
    for point in itertools.product(*axes):
        if sum(a != b for a, b in zip(point, first, strict=True)) <= 1:
            yield point


def path(settings: Settings, device: str) -> Callable[[], dict[str, Any]]:
    """The path at a point."""
    n, d, c = settings["images"], settings["features"], settings["classes"]
    x, y = made_up_features(n, d, c)
    features, labels = x.numpy(), y.numpy()

    def solve() -> Solutions:
        return fit_path(features, labels, STRENGTHS, num_classes=c, device=device)

    operations = count_products(solve)

    def noted() -> dict[str, Any]:
        solutions = solve()
        return {
            "operations": operations,
            "iterations": int(solutions.iterations.sum()),
            "converged": int(solutions.converged.sum()),
        }

    return noted


def made_up_features(n: int, d: int, c: int) -> tuple[Tensor, Tensor]:
    """Features (n, d) and labels (n,) of c classes whose difficulty does not depend on d."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % c
    centres = DISTANCE / (2 * d) ** 0.5 * torch.randn(c, d, generator=generator)
    noise = torch.randn(n, d, generator=generator)
    return (centres[labels] + noise) / torch.arange(1, d + 1).sqrt(), labels


def correlation(settings: Settings) -> Callable[[], None]:
    """The canonical correlations at a point."""
    generator = torch.Generator().manual_seed(0)
    shape = settings["samples"], settings["dimensions"]
    z1, z2 = (torch.randn(shape, generator=generator) for _ in range(2))

    def solve() -> None:
        canonical_correlations(z1, z2)

    return solve


if __name__ == "__main__":
    run(main)
