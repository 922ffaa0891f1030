"""What is looked at while a run pretrains: callbacks of star_head.adapters.callbacks, by key."""

import inspect
import warnings
from typing import Any, TypeAlias

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from star_head._gather import rank
from star_head.adapters.callbacks import (
    EquivarianceMonitor,
    NearestNeighbours,
    OnlineLinearProbe,
    RankMonitor,
    RedundancyMonitor,
    RoutingMonitor,
)
from star_head.adapters.callbacks.equivariance import LEAST_IMAGES
from star_head.examples.data.data_module import ImageDataModule

Given: TypeAlias = bool | dict[str, Any]
_BACKBONE = "star.backbone"


def _embeddings(module: Any, images: Tensor) -> Any:
    return module.star.head(module(images))


def _routing_weights(module: Any, images: Tensor) -> Any:
    return module.star.head.routing_weights(module(images))


# By key: the callback, what it reads of STARModule, and those of its arguments that are not set
# here. Validation loaders are read as often and as far as the data module and the Trainer say.
_LOADERS = {"transform", "images", "every_n_epochs"}
MONITORS: dict[str, tuple[type[Callback], Any, set[str]]] = {
    "probe": (OnlineLinearProbe, _BACKBONE, _LOADERS),
    "neighbours": (NearestNeighbours, _BACKBONE, _LOADERS),
    "rank": (RankMonitor, _BACKBONE, set()),
    "redundancy": (RedundancyMonitor, _embeddings, _LOADERS),
    "routing": (RoutingMonitor, _routing_weights, set()),
    "equivariance": (EquivarianceMonitor, _BACKBONE, {"embeddings", "predict"}),
}


class Monitors(Callback):
    """Watches a pretraining: adds each monitor to the Trainer where there is what it looks at.

    Each is true, false, or its own arguments: ``--monitors.rank=false``,
    ``--monitors.routing.every_n_steps=50``. One of the same kind among the Trainer's own callbacks
    takes its place.

    Args:
        probe: A linear probe of the features, where there are labels.
        neighbours: Accuracy of nearest neighbours, where there are labels: k, temperature.
        rank: Effective rank and spread of the features.
        redundancy: Canonical correlations of the two embeddings, where the head has two.
        routing: Usage of each expert by each task, where the head has two.
        equivariance: R^2 of the augmentation parameters, and where the head predicts the
            embeddings of views how well it finds them again.

    Raises:
        TypeError: If an argument is none of a monitor's.
    """

    def __init__(
        self,
        probe: Given = True,
        neighbours: Given = True,
        rank: Given = True,
        redundancy: Given = True,
        routing: Given = True,
        equivariance: Given = True,
    ) -> None:
        given = (probe, neighbours, rank, redundancy, routing, equivariance)
        self._options: dict[str, dict[str, Any]] = {}
        for name, options in zip(MONITORS, given, strict=True):
            if options is not False:
                self._options[name] = {} if options is True else _checked(name, options)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Add the monitors, now that the data are open and say whether there are labels.

        Raises:
            TypeError: If an argument is of another kind than its monitor takes.
            ValueError: If it is out of range.
        """
        there: Any = trainer  # Lightning sets callbacks and datamodule without declaring them
        left_out = {name for name in MONITORS if MONITORS[name][0] in map(type, there.callbacks)}
        if trainer.limit_val_batches == 0:
            left_out |= {name for name, (_, _, fixed) in MONITORS.items() if fixed is _LOADERS}
        added = self._make(pl_module, there.datamodule, left_out)
        place = there.callbacks.index(self) + 1
        # Another list: Lightning is on its way through this one.
        there.callbacks = [*there.callbacks[:place], *added, *there.callbacks[place:]]
        for monitor in added:
            monitor.setup(trainer, pl_module, stage)

    def _make(self, module: Any, data: ImageDataModule, left_out: set[str]) -> list[Callback]:
        head = module.star.head
        if not data.is_labelled:
            left_out |= {"probe", "neighbours"}
        if head.predictor is None:
            left_out |= {"redundancy", "routing"}
        images = len(data.held_out)
        if images < LEAST_IMAGES and "equivariance" in self._options.keys() - left_out:
            left_out.add("equivariance")
            if rank() == 0:
                warnings.warn(
                    f"monitors.equivariance: left out: expected at least {LEAST_IMAGES} held-out "
                    f"images, got {images}",
                    stacklevel=2,
                )
        made = []
        for name, options in self._options.items():
            kind, reads, _ = MONITORS[name]
            inputs: tuple[Any, ...] = (reads,)
            if name == "equivariance":
                inputs = (reads, data.held_out, data.transform)
                if head.predictor is not None:
                    options = options | {"embeddings": _embeddings, "predict": "star.head.predict"}
            if name in left_out:
                continue
            try:
                made.append(kind(*inputs, **options))
            except (TypeError, ValueError) as error:
                named = TypeError if isinstance(error, TypeError) else ValueError
                raise named(f"monitors.{name}: {error}") from error
        return made


def _checked(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """A monitor's arguments; raises where one of them is not to be set here."""
    kind, _, fixed = MONITORS[name]
    keywords = inspect.signature(kind).parameters.values()
    known = [p.name for p in keywords if p.kind is p.KEYWORD_ONLY and p.name not in fixed]
    unknown = sorted(options.keys() - set(known))
    if unknown:
        raise TypeError(
            f"monitors.{name}: expected true, false or some of {', '.join(known)}, got "
            f"{', '.join(unknown)}"
        )
    return options
