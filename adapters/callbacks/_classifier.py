"""A linear classifier of any number of classes, which it finds out as it learns."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ._monitor import LeftOut

# Of the running mean and variance, as nn.BatchNorm1d has it.
_MOMENTUM = 0.1


class Classifier:
    """Softmax regression on standardised features, trained by Adam a batch at a time.

    Weights begin at zero, and those of a class when it first comes: nothing is drawn.

    Args:
        learning_rate: Of Adam.
    """

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = learning_rate
        self._weights: list[Tensor] = []  # (C, D) and (C,)
        self._statistics: list[Tensor] = []  # running mean and variance, (D,) each
        self._optimizer: torch.optim.Adam | None = None
        self.classes: tuple[int, int] | None = None
        """The lowest and the highest class that was learned; ``None`` before the first step."""

    def learn(self, features: Tensor, labels: Tensor) -> None:
        """Take one step on features (B, D) and classes (B,); those below 0 are left out.

        Raises:
            ValueError: If features are not finite or of another width than before, or no image
                has a class and none ever had.
        """
        features, labels = features[labels >= 0], labels[labels >= 0]
        if not len(labels) and self.classes is None:
            raise LeftOut("no image of a training batch has a label of 0 or more")
        if len(labels) < 2:  # which has no variance
            return
        finite = features.isfinite().all()
        # One wait for the device, and not three.
        low, high, is_finite = torch.stack([labels.min(), labels.max(), finite.long()]).tolist()
        if not is_finite:
            raise LeftOut("features: expected finite ones in training, got nan or inf")
        if self._weights and self._weights[0].shape[1] != features.shape[1]:
            raise LeftOut(
                f"features: expected width {self._weights[0].shape[1]}, as before, got "
                f"{features.shape[1]}"
            )
        with torch.inference_mode(False), torch.enable_grad():
            self._prepare(features.device, features.shape[1], 1 + high)
            assert self._optimizer is not None
            loss = F.cross_entropy(self._logits(features.clone(), training=True), labels.clone())
            self._optimizer.zero_grad()
            torch.autograd.backward(loss)
            self._optimizer.step()
        before = self.classes or (low, high)
        self.classes = min(low, before[0]), max(high, before[1])

    def scores(self, features: Tensor, classes: int) -> Tensor:
        """Logits of features (n, D): (n, C), of a class that was not learned minus infinity."""
        with torch.inference_mode(False), torch.no_grad():
            self._move(features.device)
            logits = self._logits(features, training=False)
            missing = max(0, classes - logits.shape[1])
            return F.pad(logits, (0, missing), value=-torch.inf)

    def _logits(self, features: Tensor, *, training: bool) -> Tensor:
        weight, bias = self._weights
        mean, var = self._statistics
        x = F.batch_norm(features, mean, var, training=training, momentum=_MOMENTUM)
        return F.linear(x, weight, bias)

    def _prepare(self, device: torch.device, width: int, classes: int) -> None:
        """Have weights for all classes, where the features are."""
        if not self._weights:
            self._statistics = [torch.zeros(width), torch.ones(width)]
            self._set([torch.zeros(0, width), torch.zeros(0)], {})
        self._move(device)
        grown = classes - len(self._weights[0])
        if grown > 0:
            assert self._optimizer is not None
            state = self._optimizer.state_dict()["state"]
            self._set(
                [_more_rows(weight, grown) for weight in self._weights],
                {
                    index: {
                        name: value if value.ndim == 0 else _more_rows(value, grown)
                        for name, value in of_weight.items()
                    }
                    for index, of_weight in state.items()
                },
            )

    def _set(self, weights: list[Tensor], state: dict[int, Any]) -> None:
        self._weights = [weight.detach().clone().requires_grad_() for weight in weights]
        self._optimizer = torch.optim.Adam(self._weights, lr=self.learning_rate)
        own = self._optimizer.state_dict()
        self._optimizer.load_state_dict({"state": state, "param_groups": own["param_groups"]})

    def _move(self, device: torch.device) -> None:
        if self._weights[0].device == device:
            return
        assert self._optimizer is not None
        state = self._optimizer.state_dict()["state"]
        self._statistics = [statistic.to(device) for statistic in self._statistics]
        self._set([weight.to(device) for weight in self._weights], state)

    def state_dict(self) -> dict[str, Any]:
        """Weights, statistics and the optimiser's state; nothing before the first step."""
        if self._optimizer is None:
            return {}
        return {
            "weights": [weight.detach() for weight in self._weights],
            "statistics": self._statistics,
            "optimizer": self._optimizer.state_dict()["state"],
            "classes": self.classes,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        if state:
            self._statistics = [statistic.clone() for statistic in state["statistics"]]
            self._set(state["weights"], state["optimizer"])
            self.classes = state["classes"]


def _more_rows(tensor: Tensor, count: int) -> Tensor:
    return torch.cat([tensor.detach(), tensor.new_zeros(count, *tensor.shape[1:])])
