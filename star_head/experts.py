"""The bank of experts: stacked projection MLPs as batched matrix products, mixed for each task.

Source: STAR (arXiv 2510.27222): z_t = sum_k R_t(y)_k E_k(y).
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from star_head._checks import check_batch, check_count, check_dtype, check_matrix
from star_head.routing import FixedRouter, SoftRouter

NormLayer = Callable[[int], nn.Module]
"""A norm class, as timm takes them: called with the number of channels."""

ActLayer = Callable[[], nn.Module]
"""An activation class, as timm takes them: called without arguments."""

# In place: no norm needs its output for the backward pass, and the bank's activations are large.
ReLU: ActLayer = partial(nn.ReLU, inplace=True)


def reset_children(module: nn.Module) -> None:
    """Draw anew the parameters within a module; a child that can do so answers for its own.

    Raises:
        ValueError: If a child has parameters or buffers of its own and no ``reset_parameters``.
    """
    for name, child in module.named_children():
        if callable(getattr(child, "reset_parameters", None)):
            child.reset_parameters()  # type: ignore[operator]
            continue
        own = [*child.named_parameters(recurse=False), *child.named_buffers(recurse=False)]
        if own:
            raise ValueError(
                f"{name}: {type(child).__name__} holds {own[0][0]!r} and has no reset_parameters; "
                f"give it one, or load a state_dict"
            )
        reset_children(child)


class ExpertLinear(nn.Module):
    """One linear layer for each expert, applied as a single matrix product.

    Activations are laid out (1, experts x channels, batch): the batch is the length axis of one
    sample. Products read and write that layout without a copy, and a plain ``nn.BatchNorm1d``
    over all experts' channels does too.

    Args:
        num_experts: Number of experts E.
        in_features: Width D of each expert's input.
        out_features: Width H of each expert's output.
        bias: Whether each expert adds a bias.
        device: Device of the parameters.
        dtype: Data type of the parameters.

    Shape:
        input (1, E D, B), or (D, B) where all experts see the same; output (1, E H, B).
    """

    def __init__(
        self,
        num_experts: int,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(
            torch.empty(num_experts, out_features, in_features, device=device, dtype=dtype)
        )
        self.bias = (
            nn.Parameter(torch.empty(num_experts, out_features, device=device, dtype=dtype))
            if bias
            else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw each expert's weight and bias as ``nn.Linear`` does: uniform +-1/sqrt(fan_in)."""
        bound = 1 / math.sqrt(self.weight.shape[2])
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Apply each expert's layer."""
        num_experts, out_features, in_features = self.weight.shape
        if x.ndim == 2:
            y = torch.mm(self.weight.view(-1, in_features), x).unsqueeze(0)
            return y if self.bias is None else y + self.bias.view(1, -1, 1)
        x = x.view(num_experts, in_features, -1)
        if self.bias is None:
            y = torch.bmm(self.weight, x)
        else:
            y = torch.baddbmm(self.bias.unsqueeze(2), self.weight, x)
        return y.view(1, num_experts * out_features, -1)

    def extra_repr(self) -> str:
        """The layer's sizes, for printing."""
        num_experts, out_features, in_features = self.weight.shape
        return f"{num_experts}, {in_features}, {out_features}, bias={self.bias is not None}"


class ExpertNorm(nn.Module):
    """A norm within each sample and expert (layer norm and the like), with its own scale for each.

    Args:
        norm: A norm over H channels; its scale and shift are replaced by one pair per expert.
        num_experts: Number of experts E.

    Shape:
        input and output (1, E H, B).
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(self, norm: nn.Module, num_experts: int) -> None:
        super().__init__()
        # One-dimensional, so that optimisers that spare norms from weight decay by shape do so.
        for name in ("weight", "bias"):
            affine = getattr(norm, name, None)
            self.register_parameter(
                name, None if affine is None else nn.Parameter(affine.detach().repeat(num_experts))
            )
            if affine is not None:
                norm.register_parameter(name, None)
        self.norm = norm
        self.num_experts = num_experts

    def reset_parameters(self) -> None:
        """Set every scale to 1 and every shift to 0."""
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each sample within each expert."""
        y = self.norm(rearrange(x, "1 (e h) b -> (b e) h", e=self.num_experts))
        y = rearrange(y, "(b e) h -> 1 (e h) b", e=self.num_experts)
        if self.weight is not None:
            y = y * self.weight[:, None]
        return y if self.bias is None else y + self.bias[:, None]


def expert_norm(
    norm_layer: NormLayer,
    num_experts: int,
    num_features: int,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """Make the norm of one layer of the bank from a norm class.

    Raises:
        ValueError: If the norm fits neither way: it needs images or statistics of each channel.
    """
    norm = norm_layer(num_experts * num_features).to(device=device, dtype=dtype)
    if isinstance(norm, nn.BatchNorm1d | nn.SyncBatchNorm):
        return norm
    if isinstance(norm, _NormBase):
        raise ValueError(
            f"norm_layer: expected nn.BatchNorm1d or a norm within a sample, such as nn.LayerNorm, "
            f"got {type(norm).__name__}, which needs images"
        )
    return ExpertNorm(norm_layer(num_features).to(device=device, dtype=dtype), num_experts)


class RoutedExperts(nn.Module):
    """A bank of experts whose outputs each task mixes by its own router.

    z_t = sum_k R_t(y)_k E_k(y). An expert is a projection MLP: linear layers D -> H -> ... -> d,
    all but the last followed by a norm and an activation, with a bias only where no norm follows.

    Args:
        input_dim: Width D of the features.
        hidden_dim: Width H of the hidden layers.
        output_dim: Width d of the embeddings.
        num_experts: Number of experts E.
        num_tasks: Number of tasks T.
        num_layers: Linear layers of an expert; 1 leaves out hidden layers, norm and activation.
        mixing: A fixed (T, E) matrix in place of learned routers.
        norm_layer: Norm class; batch norm spans all experts' channels, a norm within a sample
            works within an expert. ``None`` for no norm.
        act_layer: Activation class.
        device: Device of the parameters.
        dtype: Data type of the parameters.

    Shape:
        features (B, D); output (B, T, d).

    Raises:
        ValueError: If a count or width is less than 1, or ``mixing`` has another shape than
            (T, E).

    Example:
        >>> bank = RoutedExperts(32, 64, 16, num_experts=4, num_tasks=3)
        >>> bank(torch.randn(8, 32)).shape
        torch.Size([8, 3, 16])
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        output_dim: int,
        num_experts: int,
        num_tasks: int,
        *,
        num_layers: int = 3,
        mixing: Tensor | Sequence[Sequence[float]] | None = None,
        norm_layer: NormLayer | None = nn.BatchNorm1d,
        act_layer: ActLayer = ReLU,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name in ("input_dim", "hidden_dim", "output_dim", "num_experts", "num_tasks"):
            check_count(name, locals()[name])
        check_count("num_layers", num_layers)
        self.input_dim = input_dim
        self.num_experts = num_experts
        self.num_tasks = num_tasks

        widths = [input_dim, *[hidden_dim] * (num_layers - 1), output_dim]
        layers: list[nn.Module] = []
        for d_in, d_out in pairwise(widths[:-1]):
            layers.append(ExpertLinear(num_experts, d_in, d_out, norm_layer is None, device, dtype))
            if norm_layer is not None:
                layers.append(expert_norm(norm_layer, num_experts, d_out, device, dtype))
            layers.append(act_layer().to(device=device, dtype=dtype))
        layers.append(ExpertLinear(num_experts, widths[-2], output_dim, True, device, dtype))
        self.layers = nn.Sequential(*layers)

        self.router: SoftRouter | FixedRouter
        if mixing is None:
            self.router = SoftRouter(input_dim, num_experts, num_tasks, device, dtype)
        else:
            self.router = FixedRouter(mixing, device, dtype)
            if self.router.mixing.shape != (num_tasks, num_experts):
                raise ValueError(
                    f"mixing: expected shape (num_tasks, num_experts) = "
                    f"{(num_tasks, num_experts)}, got {tuple(self.router.mixing.shape)}"
                )

    def reset_parameters(self) -> None:
        """Draw every expert and router anew."""
        reset_children(self)

    def routing_weights(self, features: Tensor) -> Tensor:
        """What each task takes of each expert, (B, T, E), from features (B, D)."""
        self._check(features)
        return self.router(features)

    def expert_outputs(self, features: Tensor) -> Tensor:
        """Each expert's own output E_k(y), (B, E, d), from features (B, D)."""
        self._check(features)
        check_batch("features", features, self.layers)
        outputs = self.layers(features.t())  # (1, E d, B)
        # Contiguous per sample, or each sample's small product would first copy its own.
        return rearrange(outputs, "1 (e d) b -> b e d", e=self.num_experts).contiguous()

    def forward(self, features: Tensor) -> Tensor:
        """Embed (B, D) features for each task: (B, T, d)."""
        outputs = self.expert_outputs(features)
        return torch.bmm(self.router(features), outputs)

    def _check(self, features: Tensor) -> None:
        check_matrix("features", features, self.input_dim)
        check_dtype("features", features, next(self.layers.parameters()))

    def extra_repr(self) -> str:
        """Sizes of the bank, for printing."""
        return f"num_experts={self.num_experts}, num_tasks={self.num_tasks}"
