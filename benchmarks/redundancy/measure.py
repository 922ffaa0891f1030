"""What a run's kept checkpoints make of images, one point of its curves each."""

from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from star_head._checkpoint_files import read_checkpoint
from star_head.evaluation import open_encoder
from star_head.evaluation.embeddings import embed, embed_views
from star_head.evaluation.measures import equivariance, redundancy
from star_head.evaluation.nearest import nearest_neighbour_accuracy
from star_head.evaluation.trained import Trained, open_trained
from star_head.examples.data.image_data import ImageSplits, load_images
from star_head.examples.data.transfer_data import load_transfer
from star_head.examples.linear_eval import evaluate
from star_head.metrics import mean_canonical_correlation, routing_divergence

# Held-out images whose views are looked at, and views of each.
_IMAGES, _VIEWS = 100, 20
# Pairs of random readouts that are averaged.
_READOUTS = 8


def measure_run(folder: Path, data_dir: Path, cache: Path) -> list[dict[str, Any]]:
    """A point of the curves for each checkpoint that was kept and the last, first steps first.

    Args:
        folder: Folder of the run.
        data_dir: The folder of images that it was trained on, with ``train`` and ``val``.
        cache: Folder for the features.
    """
    images = load_images("folder", data_dir)
    data = load_transfer("folder", data_dir)
    points: dict[int, dict[str, Any]] = {}
    for checkpoint in (folder / "checkpoints").glob("*.ckpt"):  # the last one is often kept twice
        step = read_checkpoint(checkpoint)["global_step"]
        if step not in points:
            points[step] = measure_network(open_trained(checkpoint), images)
            encoder = open_encoder(str(checkpoint))
            points[step]["linear"] = evaluate(encoder, data, cache=cache, num_workers=0).test
    return [{"step": step, **points[step]} for step in sorted(points)]


def measure_network(trained: Trained, images: ImageSplits) -> dict[str, Any]:
    """Redundancy, routing and retrieval on held-out images; plain values by name."""
    assert images.train is not None
    assert images.test is not None
    bank = embed(trained, images.train, num_workers=0)
    held_out = embed(trained, images.test, num_workers=0)
    order = torch.randperm(len(images.test), generator=torch.Generator().manual_seed(0))
    chosen = order[:_IMAGES].sort().values
    viewed = embed_views(
        trained,
        images.test.part(chosen.numpy()),
        held_out.part(chosen),
        _VIEWS,
        seed=0,
        num_workers=0,
    )
    correlations = redundancy(held_out.tasks, seed=0)
    assert correlations is not None
    assert trained.head.predictor is not None
    found = equivariance(viewed, trained.head.predictor.std)
    assert found is not None
    over = {
        "training drawings": bank.tasks,
        "views": viewed.tasks.flatten(0, 1),
        "directions": normalize(held_out.tasks, dim=-1),  # all that NT-Xent sees
    }
    return {
        "canonical correlation": correlations["mean"],
        "canonical correlation by chance": correlations["mean by chance"],
        **{
            f"canonical correlation of {name}": mean_canonical_correlation(*tasks.unbind(1)).item()
            for name, tasks in over.items()
        },
        "canonical correlation of random readouts": of_random_readouts(
            held_out.features, held_out.tasks.shape[-1]
        ),
        "divergence": routing_divergence(held_out.weights).item(),
        "1-NN": nearest_neighbour_accuracy(
            bank.features, bank.labels.numpy(), held_out.features, held_out.labels.numpy()
        ),
        "MRR": found["measured"]["mean_reciprocal_rank"],
        "MRR by chance": found["by chance"]["mean_reciprocal_rank"],
    }


def of_random_readouts(features: Tensor, width: int) -> float:
    """Mean canonical correlation of two random linear readouts of the same features.

    What two embeddings of this width have in common by where they come from alone: in D dimensions
    any two subspaces of d meet the closer the larger d / D is.

    Args:
        features: (n, D).
        width: Width d of each readout.
    """
    generator = torch.Generator().manual_seed(0)

    def readout() -> Tensor:
        return features @ torch.randn(features.shape[1], width, generator=generator)

    return mean(mean_canonical_correlation(readout(), readout()).item() for _ in range(_READOUTS))
