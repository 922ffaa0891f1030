"""A linear classifier that learns beside the encoder."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from star_head._checks import check_not_negative, check_pooled
from star_head._voting import rank_by_score, top_accuracies
from star_head.adapters._samples import DataSet

from ._batches import first_view, labels_beside
from ._classifier import Classifier
from ._held_out import HeldOutMonitor, Rows, check_labelled
from ._monitor import LeftOut, as_float, looking_at
from ._reading import Reading, check_there, read
from ._tap import Tap

# Of the steps, where features are not caught but computed once more.
_COMPUTED_EVERY = 10


class OnlineLinearProbe(HeldOutMonitor):
    """Accuracy of a linear classifier on the features, which trains along with the encoder.

    It learns from the detached features and the labels of the training batches, first views alone,
    with an optimiser of its own, and is measured on held-out images. Logs ``probe_accuracy``, and
    ``probe_top5_accuracy`` where there are more than five classes. Labels stand second in a batch,
    as in (views, labels), or are called so in a dictionary; images with a label below 0 are not
    learned from. Weights and optimiser are in the checkpoint.

    Args:
        features: Name of the module's part that makes features (B, D) of images, such as
            ``"backbone"``: what it gives in a training step is caught, at no cost. Or a function
            of the module and images, which is computed for every tenth batch.
        validation: Data set of (image, label); the Trainer's last validation loader unless given.
        transform: Makes a tensor of each image of the data set, without random augmentation.
        learning_rate: Of Adam, on features that are standardised as by a batch norm.
        images: How many of the data set are read, always the same.
        every_n_epochs: How often the data set is read; validation loaders are read whenever the
            Trainer validates.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If a number is out of range.

    Example:
        >>> import torch
        >>> held_out = [(torch.rand(3, 8, 8), label) for label in (0, 1, 2, 0, 1, 2)]
        >>> callbacks = [OnlineLinearProbe("backbone", held_out)]
    """

    def __init__(
        self,
        features: Reading,
        validation: DataSet | None = None,
        *,
        transform: Callable[[Any], Tensor] | None = None,
        learning_rate: float = 1e-3,
        images: int = 1000,
        every_n_epochs: int = 1,
    ) -> None:
        super().__init__({"validation": validation}, transform, images, every_n_epochs)
        check_not_negative("learning_rate", learning_rate)
        self._tap = Tap(features)
        self._classifier = Classifier(learning_rate)

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """See that the module has what is named."""
        check_there("features", self._tap.features, pl_module)

    def loader_of(self, source: str, loaders: int) -> int:
        """The last one: where there are a bank and queries, the queries."""
        return loaders - 1

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin to catch features; measured is what has learned something."""
        self._tap.attach(pl_module)
        if not self._data and not trainer.enable_validation:
            super().on_train_start(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Catch what the step computes first."""
        self._tap.open()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Learn from the batch."""
        if not self._tap.catches and batch_idx % _COMPUTED_EVERY:
            return
        parts = None
        with self.left_out("training"):
            parts = self._features_and_labels(trainer, pl_module, batch, batch_idx)
        joined = self.join(parts, pl_module.device)
        if joined is not None:
            with self.left_out("learning"):
                self._classifier.learn(*joined)

    def _features_and_labels(
        self, trainer: Any, module: Any, batch: Any, batch_idx: int
    ) -> tuple[Tensor, Tensor] | None:
        labels = labels_beside(batch)
        if labels is None:
            raise LeftOut(
                "the training batches have no labels: expected integers (B,) second, as in "
                "(views, labels), or called labels in a dictionary"
            )
        features = self._tap.take()
        if features is None:  # a function, or compiled
            if batch_idx % _COMPUTED_EVERY:
                return None
            images = first_view(batch)
            with looking_at(trainer, module, images) as taken:
                features = self._pooled(module, taken)
        if len(features) != len(labels):
            raise LeftOut(
                f"features: expected a row for each of {len(labels)} labels, got {len(features)}"
            )
        return features, labels.to(features.device)

    def _pooled(self, module: Any, images: Tensor) -> Tensor:
        found = check_pooled("features", read("features", self._tap.features, module, images))
        return as_float(found, "features")

    def read_images(self, module: Any, images: Tensor) -> Sequence[Tensor]:
        """Features, (B, D)."""
        return [self._pooled(module, images)]

    def measure(self, rows: Rows) -> dict[str, float]:
        """Top-1 accuracy, and top-5."""
        features, labels = rows["validation"]
        learned = self._classifier.classes
        if learned is None:
            return {}
        check_labelled(validation=labels)
        if learned[0] == learned[1]:
            raise LeftOut(f"all training images so far are of one class, {learned[0]}")
        scores = self._classifier.scores(features, 1 + int(labels.max()))
        top1, top5 = top_accuracies(rank_by_score(scores, labels), scores.shape[1])
        found = {"probe_accuracy": top1}
        return found if top5 is None else found | {"probe_top5_accuracy": top5}

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Leave the module as it was."""
        self._tap.detach()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Leave the module as it was."""
        self._tap.detach()

    def state_dict(self) -> dict[str, Any]:
        """What was learned, and the optimiser."""
        return self._classifier.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the checkpoint stopped."""
        self._classifier.load_state_dict(state_dict)
