"""The summed cross-entropy of logits that are linear in features, and its derivatives.

Of weights W (C, D + 1), the bias last, and samples x_i with a one appended, i = 1 ... n:

    p_i = softmax(W x_i),   loss = -sum_i log p_i[y_i],   gradient = sum_i (p_i - onehot(y_i)) x_i'

and the Hessian times a direction V is sum_i (diag(p_i) - p_i p_i') (V x_i) x_i'.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from star_head.evaluation._labelled import Joined

# Features are kept as a rotated float32 copy up to this size, and converted chunk by chunk above.
_COPY_BYTES = 4 * 2**30
# Numbers in a chunk of features or logits, a few of which are held at a time.
_CHUNK_SIZE = 2**22


class Point(NamedTuple):
    """The summed cross-entropy at some weights.

    Attributes:
        loss: Its value.
        gradient: (C, D + 1).
        probabilities: (n, C).
    """

    loss: float
    gradient: Tensor
    probabilities: Tensor


class Problem:
    """The data, and the cross-entropy as a function of weights in the features' eigenbasis.

    Args:
        features: (n, D).
        labels: (n,).
        num_classes: C.
        device: Where all is computed.
    """

    def __init__(
        self,
        features: np.ndarray | Joined,
        labels: np.ndarray,
        num_classes: int,
        device: torch.device,
    ) -> None:
        self.features = features
        self.labels = torch.from_numpy(labels.astype(np.int64)).to(device)
        self.device = device
        self.num_classes = num_classes
        self.loss_of_zeros = len(features) * math.log(num_classes)
        double = features.dtype == np.float64
        self.dtype = torch.float64 if double else torch.float32
        columns = features.shape[1] + 1
        moments = torch.zeros(columns, columns, dtype=torch.float64, device=device)
        low = torch.full((columns,), torch.inf, dtype=self.dtype, device=device)
        high = -low
        for chunk in chunks(features, columns, self.dtype, device):
            moments += chunk.T @ chunk
            low, high = torch.minimum(low, chunk.amin(0)), torch.maximum(high, chunk.amax(0))
        if not moments.isfinite().all():
            raise ValueError(
                f"features: expected finite numbers, with squares that are so in {self.dtype}, got "
                f"{low.min()} to {high.max()}"
            )
        if (low == high).all():
            raise ValueError(f"features: all {len(features)} samples have the same")
        eigenvalues, basis = torch.linalg.eigh(moments)
        self.eigenvalues = eigenvalues.clamp_min(0).to(self.dtype)
        self.basis = basis.to(self.dtype)
        self.rotated: Tensor | None = None
        if len(features) * columns * self.basis.element_size() <= _COPY_BYTES:
            self.rotated = torch.empty(len(features), columns, dtype=self.dtype, device=device)
            done = 0
            for chunk in chunks(features, columns, self.dtype, device):
                torch.mm(chunk, self.basis, out=self.rotated[done : done + len(chunk)])
                done += len(chunk)

    def rotate(self, weights: Tensor | None) -> Tensor:
        """Weights (C, D + 1) into the eigenbasis; zeros of None."""
        if weights is None:
            return self.basis.new_zeros(self.num_classes, len(self.basis))
        return weights.to(self.basis) @ self.basis

    def rotate_back(self, weights: Tensor) -> Tensor:
        """Weights (C, D + 1) out of the eigenbasis."""
        return weights @ self.basis.T

    def cross_entropy(self, weights: Tensor) -> Point:
        """The summed cross-entropy and its derivatives at weights (C, D + 1)."""
        loss = 0.0
        if self.rotated is None:
            weights = self.rotate_back(weights)
        gradient = torch.zeros_like(weights)
        probabilities = weights.new_empty(len(self.labels), self.num_classes)
        done = 0
        for chunk in self._chunks():
            labels = self.labels[done : done + len(chunk)]
            losses, residuals = _losses(chunk @ weights.T, labels)
            loss += losses.sum(dtype=torch.float64).item()
            gradient.addmm_(residuals.T, chunk)
            of_chunk = probabilities[done : done + len(chunk)]
            of_chunk.copy_(residuals)
            of_chunk[torch.arange(len(chunk), device=self.device), labels] += 1
            done += len(chunk)
        if self.rotated is None:
            gradient = self.rotate(gradient)
        return Point(loss, gradient, probabilities)

    def curve(self, point: Point, direction: Tensor) -> Tensor:
        """The Hessian of the summed cross-entropy at a point, times a direction (C, D + 1)."""
        if self.rotated is None:
            direction = self.rotate_back(direction)
        product = torch.zeros_like(direction)
        done = 0
        for chunk in self._chunks():
            end = done + len(chunk)
            logits = chunk @ direction.T
            # Where the label's probability is near 1, nothing cancels if its logit is 0.
            logits -= logits.gather(1, self.labels[done:end].unsqueeze(1))
            probabilities = point.probabilities[done:end]
            logits *= probabilities
            logits -= probabilities * logits.sum(1, keepdim=True)
            product.addmm_(logits.T, chunk)
            done = end
        return product if self.rotated is not None else self.rotate(product)

    def _chunks(self) -> Iterator[Tensor]:
        if self.rotated is None:
            yield from chunks(self.features, self.num_classes, self.dtype, self.device)
        else:
            yield from torch.split(self.rotated, _rows(max(self.num_classes, len(self.basis))))


def _losses(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropies (n, 1), and probabilities less one-hot labels, (n, C).

    Accurate also where the probability of the right class is within rounding of 1, as it is for
    nearly all samples under weak penalties: nothing is subtracted from 1.
    """
    index = labels.unsqueeze(1)
    highest = logits.amax(1, keepdim=True)
    margin = logits.gather(1, index) - highest
    odds = (logits - highest).exp_()
    right = odds.gather(1, index)
    wrong = odds.scatter_(1, index, 0).sum(1, keepdim=True)
    losses = torch.where(margin < 0, (wrong + right).log() - margin, wrong.log1p())
    return losses, odds.scatter_(1, index, -wrong).div_(wrong + right)


def _rows(columns: int) -> int:
    return max(1, _CHUNK_SIZE // columns)


def chunks(
    features: np.ndarray | Joined, columns: int, dtype: torch.dtype, device: torch.device
) -> Iterator[Tensor]:
    """Some samples at a time with a one appended, (m, D + 1)."""
    rows = _rows(max(columns, features.shape[1] + 1))
    for start in range(0, len(features), rows):
        part = features[start : start + rows]
        yield F.pad(torch.from_numpy(np.array(part)).to(device).to(dtype), (0, 1), value=1)
