"""Whether features collapse, without labels."""

from collections import deque
from typing import Any

import torch
from torch import Tensor

from star_head._checks import check_count, check_pooled
from star_head._gather import world_size
from star_head.metrics import effective_rank, embedding_spread

from ._batches import first_view
from ._monitor import Monitor, as_float, looking_at
from ._reading import Reading, check_there, read
from ._tap import Tap

# Below, embeddings differ by little more than bfloat16 rounds off.
_COLLAPSED = 0.01
# Of the steps, where features are not caught but computed once more.
_COMPUTED_EVERY = 50


class RankMonitor(Monitor):
    """The effective rank and the spread of the features of the training images.

    Needs no labels and no further images: it takes the features of the last first views of each
    epoch. Logs ``effective_rank`` (RankMe, see :func:`star_head.metrics.effective_rank`), at most
    the smaller of ``samples`` and the features' width, and ``embedding_spread``
    (:func:`star_head.metrics.embedding_spread`), 1 where features point everywhere alike and 0
    where all point one way. Warns once when they collapse: at a spread below 0.01.

    Args:
        features: Name of the module's part that makes features (B, D) of images, such as
            ``"backbone"``: what it gives in a training step is caught, at no cost. Or a function
            of the module and images, which is computed for every fiftieth batch.
        samples: How many features are measured, over all processes.
        every_n_epochs: How often.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If a number is out of range.

    Example:
        >>> by_name = RankMonitor("backbone")
        >>> by_function = RankMonitor(lambda module, images: module.encoder(images).mean(dim=1))
    """

    def __init__(self, features: Reading, *, samples: int = 2048, every_n_epochs: int = 1) -> None:
        super().__init__()
        check_count("samples", samples, 2)
        check_count("every_n_epochs", every_n_epochs)
        self._tap = Tap(features)
        self._samples = samples
        self._every_n_epochs = every_n_epochs
        self._kept: deque[Tensor] = deque()
        self._has_collapsed = False

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """See that the module has what is named."""
        check_there("features", self._tap.features, pl_module)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin to catch features."""
        self._tap.attach(pl_module)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Forget the last epoch."""
        self._kept.clear()

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Catch what the step computes first."""
        self._tap.open(self._is_due(trainer))

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the step's features."""
        if not self._is_due(trainer):
            return
        with self.left_out("training"):
            features = self._tap.take()
            if features is None:
                if batch_idx % _COMPUTED_EVERY:
                    return
                images = first_view(batch)
                with looking_at(trainer, pl_module, images) as taken:
                    found = read("features", self._tap.features, pl_module, taken)
                    features = as_float(check_pooled("features", found), "features")
            self._kept.append(features)
            # The last ones: as many as make up the samples.
            while sum(map(len, self._kept)) - len(self._kept[0]) >= self._own_samples:
                self._kept.popleft()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Measure, and warn of a collapse."""
        if not self._is_due(trainer):
            return
        parts = None
        if self._kept:
            with self.left_out("joining"):
                parts = [torch.cat(list(self._kept))[-self._own_samples :]]
        self._kept.clear()
        joined = self.join(parts, pl_module.device)
        found: dict[str, float] = {}
        if joined is not None:
            with self.left_out("measure"):
                spread = embedding_spread(joined[0]).item()
                found["embedding_spread"] = spread
                found["effective_rank"] = effective_rank(joined[0]).item()
        pl_module.log_dict(found, sync_dist=True)
        if found and spread < _COLLAPSED and not self._has_collapsed:
            self._has_collapsed = True
            self.say_once(
                "collapse",
                f"the features have collapsed: after epoch {trainer.current_epoch} their spread is "
                f"{spread:.2g}, where 0 is the same for all images; a lower learning rate, a "
                f"larger batch or the method's own safeguard against collapse may help",
            )

    @property
    def _own_samples(self) -> int:
        return -(-self._samples // world_size())

    def _is_due(self, trainer: Any) -> bool:
        due: bool = (trainer.current_epoch + 1) % self._every_n_epochs == 0
        return due

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Leave the module as it was."""
        self._tap.detach()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Leave the module as it was."""
        self._tap.detach()

    def state_dict(self) -> dict[str, Any]:
        """Whether it has warned already."""
        return {"has_collapsed": self._has_collapsed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the checkpoint stopped."""
        self._has_collapsed = state_dict["has_collapsed"]
