"""All numbers of one run, by the measures that the examples have."""

from pathlib import Path
from statistics import median
from typing import Any

import torch

from star_head import Parameter
from star_head.evaluation.embeddings import Embedded, embed, embed_views
from star_head.evaluation.measures import equivariance, parameters_read_off, redundancy
from star_head.evaluation.networks import open_encoder
from star_head.evaluation.trained import Trained, open_trained
from star_head.examples.data.image_data import Images, load_images
from star_head.examples.data.transfer_data import load_transfer
from star_head.examples.linear_eval import evaluate
from star_head.examples.plot_run import read_logs
from star_head.metrics import expert_usage, routing_divergence

# Held-out images, and recorded views of each.
IMAGES, VIEWS = 200, 20
_UNITS = {parameter.label: parameter.unit for parameter in Parameter}


def measure_run(folder: Path, data_dir: Path, others: list[Path], cache: Path) -> dict[str, Any]:
    """Measure a finished run of examples/pretrain.py on images that it was not trained on.

    Args:
        folder: Folder of the run.
        data_dir: The folder of images that it was trained on, with ``train`` and ``val``.
        others: Such folders of other data sets, for transfer.
        cache: Folder for the features.

    Returns:
        Plain values by name; ``None`` for what the run's head does not have.
    """
    encoder = open_encoder(str(folder / "encoder"))
    logs = read_logs(folder)
    accuracy = logs["knn_accuracy"]
    trained = open_trained(str(folder / "checkpoints" / "last.ckpt"))
    splits = load_images("folder", data_dir)
    assert splits.test is not None

    def linear(images: Path) -> float:
        data = load_transfer("folder", images)
        return evaluate(encoder, data, cache=cache, num_workers=0).test

    return {
        "1-NN untrained": accuracy[min(accuracy)],
        "1-NN": accuracy[max(accuracy)],
        "linear": linear(data_dir),
        "linear elsewhere": {other.name: linear(other) for other in others},
        "loss": logs["train_loss"][max(logs["train_loss"])],
        "processor seconds an epoch": median(logs["epoch_processor_seconds"].values()),
        "parameters": sum(p.numel() for p in trained.head.parameters()),
        **measure_head(trained, splits.pretrain, splits.test),
    }


def measure_head(trained: Trained, pretrained: Images, held_out: Images) -> dict[str, Any]:
    """Redundancy over all images, use of the experts, and what held-out views tell.

    Correlations of few samples come out large by chance, so these take all images.
    """
    on_held_out = embed(trained, held_out, num_workers=0)
    everything = _join(embed(trained, pretrained, num_workers=0), on_held_out)
    order = torch.randperm(len(held_out), generator=torch.Generator().manual_seed(0))
    chosen = order[:IMAGES].sort().values
    viewed = embed_views(
        trained,
        held_out.part(chosen.numpy()),
        on_held_out.part(chosen),
        VIEWS,
        seed=0,
        num_workers=0,
    )
    predictor = trained.head.predictor
    correlations = redundancy(everything.tasks, seed=0)
    found: dict[str, Any] = {
        "canonical correlation": None,
        "equivariance": None if predictor is None else equivariance(viewed, predictor.std),
        "R^2": parameters_read_off(viewed, _UNITS, seed=0)["R^2"]["features"],
        "routing": None,
    }
    if correlations is not None:
        names = {"mean": "measured", "mean by chance": "by chance"}
        found["canonical correlation"] = {new: correlations[old] for old, new in names.items()}
    if trained.head.routing == "mmoe":
        weights = everything.weights
        found["routing"] = {
            "usage": expert_usage(weights).tolist(),
            "spread": weights.std(dim=0).tolist(),
            "divergence": routing_divergence(weights).item(),
        }
    return found


def _join(*parts: Embedded) -> Embedded:
    return Embedded(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))
