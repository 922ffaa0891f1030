"""How far two embeddings say the same, while they are trained."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from star_head._checks import check_count, describe
from star_head.adapters._samples import DataSet
from star_head.metrics import canonical_correlations_by_chance, mean_canonical_correlation

from ._batches import first_view
from ._held_out import HeldOutMonitor, Rows
from ._monitor import LeftOut, as_float, is_step_to_look_at, looking_at
from ._reading import Reading, check_reading, check_there, read


class RedundancyMonitor(HeldOutMonitor):
    """Canonical correlations of two embeddings of the same images, with chance beside them.

    Logs ``mean_canonical_correlation`` over held-out images and
    ``mean_canonical_correlation_chance``, what is left when each embedding meets that of another
    image; and every so many steps ``batch_canonical_correlation``, over the first views of one
    training batch. That is larger, since few samples correlate by chance; only its course says
    something, and it is there for batches of more images than dimensions alone. Left out are
    collapsed embeddings, and held-out ones of no more images than dimensions.

    Args:
        embeddings: Name of the module's part that makes two embeddings (B, d) of images as a pair
            or as STAREmbeddings, such as ``"forward"``, or a function of the module and images.
        data_set: Data set of images, with labels or without; the Trainer's first validation loader
            unless given.
        transform: Makes a tensor of each image of the data set, without random augmentation.
        images: How many of the data set are read, always the same.
        every_n_epochs: How often the data set is read; validation loaders are read whenever the
            Trainer validates.
        every_n_steps: How often a training batch is looked at.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If a number is out of range.

    Example:
        >>> callbacks = [RedundancyMonitor(lambda module, x: module.head(module.backbone(x)))]
    """

    def __init__(
        self,
        embeddings: Reading,
        data_set: DataSet | None = None,
        *,
        transform: Callable[[Any], Tensor] | None = None,
        images: int = 1000,
        every_n_epochs: int = 1,
        every_n_steps: int = 200,
    ) -> None:
        super().__init__({"data_set": data_set}, transform, images, every_n_epochs)
        check_reading("embeddings", embeddings)
        check_count("every_n_steps", every_n_steps)
        self._embeddings = embeddings
        self._every_n_steps = every_n_steps

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """See that the module has what is named."""
        check_there("embeddings", self._embeddings, pl_module)

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure on one batch in so many."""
        if not is_step_to_look_at(trainer, batch_idx, self._every_n_steps):
            return
        parts = None
        with self.left_out("training"):
            images = first_view(batch)
            with looking_at(trainer, pl_module, images) as taken:
                parts = self.read_images(pl_module, taken)
        joined = self.join(parts, pl_module.device)
        if joined is None or len(joined[0]) <= max(z.shape[-1] for z in joined):
            return
        with self.left_out("batch measure"):
            correlation = mean_canonical_correlation(*joined).item()
            self.log_now(trainer, {"batch_canonical_correlation": correlation})

    def read_images(self, module: Any, images: Tensor) -> Sequence[Tensor]:
        """The two embeddings, (B, d) each."""
        pair = read("embeddings", self._embeddings, module, images)
        if not isinstance(pair, tuple | list) or len(pair) != 2 or pair[1] is None:
            raise LeftOut(f"embeddings: expected two of each image as a pair, got {describe(pair)}")
        return [as_float(z, "embeddings") for z in pair]

    def measure(self, rows: Rows) -> dict[str, float]:
        """The mean correlation, and by chance."""
        first, second, _ = rows["data_set"]
        return {
            "mean_canonical_correlation": mean_canonical_correlation(first, second).item(),
            "mean_canonical_correlation_chance": (
                canonical_correlations_by_chance(first, second).mean().item()
            ),
        }
