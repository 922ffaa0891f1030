"""Routers: how much of each expert each task takes, learned per sample or fixed.

Source: STAR (arXiv 2510.27222): R_t(y) = softmax(W_t y + b_t); STAR-SS and separate heads are
fixed mixing matrices over the same bank.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from star_head._constants import ConstantBuffers


class SoftRouter(nn.Linear):
    """A softmax over the experts for each task: one linear layer holds all tasks' routers.

    Routing is soft, so that every expert sees every sample; sparse routing would starve the
    experts' batch norms.

    Args:
        input_dim: Width D of the features.
        num_experts: Number of experts E.
        num_tasks: Number of tasks T. Rows t E to (t + 1) E of ``weight`` are task t's router.
        device: Device of the parameters.
        dtype: Data type of the parameters.

    Shape:
        features (B, D); output (B, T, E), whose rows sum to 1.
    """

    def __init__(
        self,
        input_dim: int,
        num_experts: int,
        num_tasks: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_dim, num_tasks * num_experts, device=device, dtype=dtype)
        self.num_experts = num_experts
        self.num_tasks = num_tasks

    def forward(self, features: Tensor) -> Tensor:
        """Weigh the experts for each task."""
        logits = super().forward(features).view(-1, self.num_tasks, self.num_experts)
        return logits.softmax(dim=-1)

    def extra_repr(self) -> str:
        """The router's sizes, for printing."""
        return f"{self.in_features}, num_experts={self.num_experts}, num_tasks={self.num_tasks}"


class FixedRouter(ConstantBuffers):
    """One mixing matrix for every sample, such as STAR-SS's [[1, 0, 1], [0, 1, 1]].

    The matrix is part of the architecture, not of the state: it is not in the state_dict, and
    is there again after ``load_state_dict`` and ``reset_parameters``.

    Args:
        mixing: What task t takes of expert k, (T, E).
        device: Device of the matrix.
        dtype: Data type of the matrix.

    Shape:
        features (B, D); output (B, T, E).
    """

    mixing: Tensor

    def __init__(
        self,
        mixing: Tensor | Sequence[Sequence[float]],
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if isinstance(mixing, Tensor) and mixing.is_meta:
            raise ValueError("mixing: expected numbers, got a tensor on the meta device")
        matrix = torch.as_tensor(mixing, device="cpu", dtype=dtype or torch.get_default_dtype())
        if matrix.ndim != 2:
            raise ValueError(f"mixing: expected shape (tasks, experts), got {tuple(matrix.shape)}")
        values = matrix.detach().clone()
        self.register_constant("mixing", values, device or torch.get_default_device())

    def forward(self, features: Tensor) -> Tensor:
        """Repeat the mixing matrix for each sample."""
        return self.mixing.expand(features.shape[0], -1, -1)

    def extra_repr(self) -> str:
        """The mixing matrix, for printing."""
        return f"mixing={self._constants['mixing'].tolist()}"
