"""Prediction of a view's equivariant embedding from the original's and what was done to it.

Source: STAR (arXiv 2510.27222), after EquiMod: e_hat = e0 + phi([e0, psi(a)]).
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from star_head._checks import check_batch, check_count, check_dtype, check_matrix
from star_head.augmentation import STATISTICS, Parameter, Statistics
from star_head.experts import ActLayer, NormLayer, ReLU, reset_children

StatisticsLike = Literal["stl10", "imagenet100"] | Statistics | tuple[Any, Any]
"""A named set or a (mean, std) pair of sequences or tensors."""


def resolve_statistics(statistics: StatisticsLike, parameter_dim: int) -> tuple[Tensor, Tensor]:
    """Look up or check parameter statistics: float64 mean and std, (P,) each.

    Raises:
        TypeError: If they are neither a name nor a pair.
        ValueError: If the name is unknown, a shape is not (P,), a value is not finite or a
            standard deviation is not positive.
    """
    if isinstance(statistics, str):
        if statistics not in STATISTICS:
            raise ValueError(
                f"statistics: unknown name {statistics!r}; expected one of {sorted(STATISTICS)} "
                f"or a (mean, std) pair, for example of estimate_statistics"
            )
        statistics = STATISTICS[statistics]
    if not isinstance(statistics, tuple | list) or len(statistics) != 2:
        raise TypeError(f"statistics: expected a name or a (mean, std) pair, got {statistics!r}")
    if any(isinstance(values, Tensor) and values.is_meta for values in statistics):
        raise ValueError("statistics: expected numbers, got a tensor on the meta device")
    mean, std = (torch.as_tensor(s, dtype=torch.float64, device="cpu") for s in statistics)
    for name, values in (("mean", mean), ("std", std)):
        if values.shape != (parameter_dim,):
            raise ValueError(
                f"statistics: expected a {name} of shape ({parameter_dim},), "
                f"got {tuple(values.shape)}"
            )
        if not values.isfinite().all():
            raise ValueError(f"statistics: expected a finite {name}, got {values.tolist()}")
    if not (std > 0).all():
        raise ValueError(f"statistics: expected a positive std, got {std.tolist()}")
    return mean, std


def _statistics_width(statistics: StatisticsLike | None) -> int:
    """Number P of parameters of a (mean, std) pair; the paper's where that says nothing."""
    if isinstance(statistics, tuple | list) and len(statistics) == 2:
        mean = torch.as_tensor(statistics[0])
        return len(mean) if mean.ndim == 1 and len(mean) else len(Parameter)
    return len(Parameter)


class EquivariantPredictor(nn.Module):
    """Shifts an original's embedding to where its augmented view's should be.

    e_hat = e0 + phi([e0, psi((a - mean) / std)]): psi is one linear layer P -> d, phi an MLP
    2d -> 4d -> 4d -> d whose hidden layers have a norm, an activation and no bias.

    Args:
        embedding_dim: Width d of the embeddings.
        parameter_dim: Number P of augmentation parameters; default: that of the statistics, or 11
            without any.
        statistics: ``"stl10"``, ``"imagenet100"`` or a (mean, std) pair. They are buffers, so a
            state_dict brings them too; without any, ``forward`` raises.
        norm_layer: Norm class of phi's hidden layers; ``None`` for no norm.
        act_layer: Activation class of phi's hidden layers.
        device: Device of the parameters.
        dtype: Data type of the parameters.

    Shape:
        embedding (B, d) of the un-augmented image, params (B, P) raw and unstandardised;
        output (B, d).

    Raises:
        TypeError: If a width is not an integer, or the statistics are neither a name nor a pair.
        ValueError: If a width is less than 1 or the statistics do not fit.

    Example:
        >>> predictor = EquivariantPredictor(16, statistics="stl10")
        >>> predictor(torch.randn(8, 16), torch.rand(8, 11)).shape
        torch.Size([8, 16])
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        embedding_dim: int,
        parameter_dim: int | None = None,
        statistics: StatisticsLike | None = None,
        *,
        norm_layer: NormLayer | None = nn.BatchNorm1d,
        act_layer: ActLayer = ReLU,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_count("embedding_dim", embedding_dim)
        if parameter_dim is None:
            parameter_dim = _statistics_width(statistics)
        check_count("parameter_dim", parameter_dim)
        self.embedding_dim = embedding_dim
        self.parameter_dim = parameter_dim
        # Kept beside the buffers, whose memory may be made anew.
        self._statistics: tuple[Tensor, Tensor] | None = None
        if statistics is not None:
            mean, std = resolve_statistics(statistics, parameter_dim)
            self._statistics = mean.detach().clone(), std.detach().clone()
        for name in ("mean", "std"):
            self.register_buffer(name, torch.empty(parameter_dim, device=device, dtype=dtype))
        self._reset_statistics()

        self.psi = nn.Linear(parameter_dim, embedding_dim, device=device, dtype=dtype)
        widths = [2 * embedding_dim, 4 * embedding_dim, 4 * embedding_dim]
        layers: list[nn.Module] = []
        for d_in, d_out in pairwise(widths):
            layers.append(nn.Linear(d_in, d_out, norm_layer is None, device, dtype))
            if norm_layer is not None:
                layers.append(norm_layer(d_out).to(device=device, dtype=dtype))
            layers.append(act_layer().to(device=device, dtype=dtype))
        layers.append(nn.Linear(widths[-1], embedding_dim, device=device, dtype=dtype))
        self.phi = nn.Sequential(*layers)

    @property
    def has_statistics(self) -> bool:
        """Whether parameters can be standardised."""
        return self._statistics is not None

    def reset_parameters(self) -> None:
        """Draw psi and phi anew; the statistics are those that were given or loaded last."""
        reset_children(self)
        self._reset_statistics()

    def _reset_statistics(self) -> None:
        nothing = torch.full((self.parameter_dim,), torch.nan, device="cpu")
        mean, std = self._statistics or (nothing, nothing)
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(self, embedding: Tensor, params: Tensor) -> Tensor:
        """Predict the views' embeddings from the originals' and the views' parameters."""
        if not self.has_statistics:
            raise ValueError(
                "statistics: none were given, so parameters cannot be standardised; build with "
                "statistics='stl10', 'imagenet100' or estimate_statistics(transform, image_sizes)"
            )
        check_matrix("embedding", embedding, self.embedding_dim)
        check_dtype("embedding", embedding, self.psi.weight)
        check_matrix(
            "params",
            params,
            self.parameter_dim,
            "; statistics=estimate_statistics(transform, image_sizes) makes a head of a "
            "transform's own numbers",
        )
        if params.shape[0] != embedding.shape[0]:
            raise ValueError(
                f"params: expected as many rows as embedding, {embedding.shape[0]}, "
                f"got {params.shape[0]}"
            )
        check_batch("embedding", embedding, self.phi)
        encoded = self.psi((params.to(self.mean) - self.mean) / self.std)
        return embedding + self.phi(torch.cat([embedding, encoded], dim=1))

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        loaded = [
            values
            for name in ("mean", "std")
            if isinstance(values := state_dict.get(f"{prefix}{name}"), Tensor)
            and values.shape == self.mean.shape
            and not values.is_meta
        ]
        if len(loaded) == 2:
            mean, std = (values.detach().cpu().double().clone() for values in loaded)
            self._statistics = None if std.isnan().any() else (mean, std)

    def extra_repr(self) -> str:
        """Sizes, and whether there are statistics, for printing."""
        return (
            f"embedding_dim={self.embedding_dim}, parameter_dim={self.parameter_dim}, "
            f"has_statistics={self.has_statistics}"
        )
