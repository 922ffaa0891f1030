"""Trains one of the methods beside this file and measures what it learned, with or without STAR.

python examples/lightly/byol.py                            # digits, which need no download
python examples/lightly/byol.py --routing invariant        # BYOL alone
python examples/lightly/byol.py --task augself             # AugSelf in place of STAR
python examples/lightly/byol.py --dataset folder --data_dir photos --backbone resnet18
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from lightly.data import LightlyDataset
from lightning.pytorch import LightningModule, Trainer, seed_everything
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from star_head import STARViews, estimate_statistics
from star_head._whole_files import write_json
from star_head.adapters.lightly import STL10_NORMALIZE, expert_width
from star_head.adapters.timm import create_backbone
from star_head.adapters.torchvision import RecordedAugmentation, RecordedTransform
from star_head.baselines import ESSL, AugSelf
from star_head.evaluation.embeddings import embed, embed_views, measure_features
from star_head.evaluation.measures import equivariance
from star_head.evaluation.trained import Trained
from star_head.examples.command_line import run
from star_head.examples.data.image_data import VIEW_SIZES, DatasetName, Images, load_labelled
from star_head.examples.lightly.other_tasks import Task, WithSmallView, beside
from star_head.head import Routing

# Held-out images, and views of each among which predictions look for their own.
IMAGES, VIEWS = 200, 20
# Of the methods' own heads; what a routing's experts share of it docs/methods.md says.
HIDDEN_DIM = 512
EXPERTS: dict[Routing, int] = {"mmoe": 16, "shared": 3, "separate": 2, "invariant": 1}


def run_method(
    method: Callable[..., LightningModule],
    create_transform: Callable[..., RecordedTransform],
) -> None:
    """Run a method's file as a script.

    Args:
        method: Called with a backbone, its width, and a head's ``hidden_dim``, ``statistics`` and
            ``routing``. What it makes has them as ``backbone`` and ``projection_head``.
        create_transform: Called with the views' side in pixels and ``normalize``.
    """

    def main(
        dataset: DatasetName = "digits",
        data_dir: Path | None = None,
        backbone: str = "resnet10t",
        task: Task = "star",
        routing: Routing | None = None,
        hidden_dim: int | None = None,
        epochs: int = 40,
        batch_size: int = 64,
        seed: int = 0,
        num_workers: int = 2,
        output: Path | None = None,
    ) -> None:
        """Print 1-NN accuracy before and after, and how well predictions find their views.

        Args:
            dataset: What to train on; digits come with scikit-learn.
            data_dir: Where the data set's files are, or are fetched to.
            backbone: Any timm model that takes images of the data set's size.
            task: What stands beside the method: "star", "augself" or "essl".
            routing: Routing of the head; default "mmoe", and beside another task "invariant", which
                is the method without STAR.
            hidden_dim: Hidden width of an expert; default 512 over the square root of their number.
            epochs: Passes over the training images.
            batch_size: Images a step.
            seed: Seed of weights, views and order.
            num_workers: Processes that make views.
            output: JSON file for the results; in runs/lightly/ by default, named by the method
                and its settings.
        """
        if task != "star" and routing not in (None, "invariant"):
            raise ValueError(
                f"routing: expected none or 'invariant' with --task {task}, which stands in place "
                f"of STAR, got {routing!r}"
            )
        routing = routing or ("mmoe" if task == "star" else "invariant")
        seed_everything(seed, verbose=False)
        train, held_out = load_labelled(dataset, data_dir, batch_size)
        size = VIEW_SIZES[dataset]
        transform = create_transform(size, normalize=STL10_NORMALIZE)
        recorded: Any = OnRGB(transform)
        views = recorded
        statistics = estimate_statistics(transform, train)
        encoder = create_backbone(backbone, input_size=size)
        width: Any = encoder.num_features
        trained = method
        if task == "augself":
            names = transform.parameters
            trained = beside(method, AugSelf(width, statistics, parameters=names))
        elif task == "essl":
            trained = beside(method, ESSL(width))
            small = create_transform(size // 2, normalize=STL10_NORMALIZE)
            views = WithSmallView(recorded, small)
        module = trained(
            encoder,
            width,
            hidden_dim=hidden_dim or expert_width(HIDDEN_DIM, EXPERTS[routing]),
            statistics=statistics,
            routing=routing,
        )
        head: Any = module.projection_head
        loader = DataLoader(
            LightlyDataset.from_torch_dataset(train.with_transform(views)),
            batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
        )
        before = measure_features(as_trained(module, recorded), train, held_out)
        trainer = Trainer(
            max_epochs=epochs,
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
        )
        started = time.perf_counter()
        trainer.fit(module.train(), loader)  # Lightning leaves the mode as it finds it
        results = {
            "method": method.__name__,
            "task": task,
            "routing": routing,
            "head's parameters": sum(p.numel() for p in head.parameters()),
            "dataset": dataset,
            "data_dir": None if data_dir is None else str(data_dir),
            "backbone": backbone,
            "images": len(train),
            "epochs": epochs,
            "batch_size": batch_size,
            "seed": seed,
            "seconds": time.perf_counter() - started,
            "1-NN accuracy before": before,
            "1-NN accuracy after": measure_features(as_trained(module, recorded), train, held_out),
        }
        results |= retrieval_of_views(as_trained(module, recorded), held_out)
        for name, value in results.items():
            print(f"{name:30} {value:.3f}" if isinstance(value, float) else f"{name:30} {value}")
        source = dataset if data_dir is None else f"{dataset}_{data_dir.resolve().name}"
        budget = f"{source}_{backbone}_{epochs}_{batch_size}_{seed}"
        kind = routing if task == "star" else task
        name = f"{method.__name__.lower()}_{kind}_{budget}.json"
        write_json(output or Path("runs/lightly") / name, results)

    run(main)


def retrieval_of_views(trained: Trained, held_out: Images) -> dict[str, float]:
    """Mean reciprocal rank of a view by its prediction among those of its image, and chance's."""
    if trained.head.predictor is None:
        return {}
    images = held_out.part(np.arange(min(IMAGES, len(held_out))))
    viewed = embed_views(trained, images, embed(trained, images), VIEWS, seed=0)
    found = equivariance(viewed, trained.head.predictor.std)
    assert found is not None
    rank = "mean_reciprocal_rank"
    return {"MRR": found["measured"][rank], "MRR by chance": found["by chance"][rank]}


class OnRGB:
    """A method's transform on images made RGB, as LightlyDataset opens them.

    Digits are grey, and lightly normalises three channels. What is sampled and applied is the
    first view.

    Args:
        transform: The method's.
    """

    def __init__(self, transform: RecordedTransform) -> None:
        self.transform = transform

    def __call__(self, image: Image.Image) -> STARViews:
        return self.transform(self.to_rgb(image))

    def to_rgb(self, image: Image.Image) -> Image.Image:
        """The image that views are made from."""
        return image.convert("RGB")

    def original(self, image: Image.Image) -> Tensor:
        """The image without anything random."""
        return self.transform.original(self.to_rgb(image))

    def sample(self, image: Image.Image) -> RecordedAugmentation:
        """Draw a record of the first view."""
        return self.transform.sample(image)

    def apply(self, image: Image.Image, record: RecordedAugmentation) -> Tensor:
        """Make the view that a record describes."""
        return self.transform.apply(image, record)


def as_trained(module: Any, transform: Any) -> Trained:
    """What measures networks takes."""
    module.eval()
    return Trained(module.backbone, module.projection_head, transform, {})
