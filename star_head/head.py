"""The STAR projection head: routed experts and an equivariant predictor.

Source: STAR (arXiv 2510.27222).
"""

from typing import Literal, NamedTuple, NoReturn, get_args

import torch
from torch import Tensor, nn

from star_head._parts import not_a_tensor
from star_head.equivariance import EquivariantPredictor, StatisticsLike
from star_head.experts import ActLayer, NormLayer, ReLU, RoutedExperts

Routing = Literal["mmoe", "shared", "separate", "invariant"]

# (task x expert): the invariant task's row, then the equivariant task's.
_FIXED_MIXING: dict[str, list[list[float]]] = {
    "shared": [[1, 0, 1], [0, 1, 1]],
    "separate": [[1, 0], [0, 1]],
    "invariant": [[1]],
}


@not_a_tensor(
    "a loss on two tensors takes z1.invariant and z2.invariant, head.predict takes z.equivariant, "
    "STARLoss takes z1 and z2"
)
class STAREmbeddings(NamedTuple):
    """Embeddings of one batch for the two tasks.

    Attributes:
        invariant: (B, d).
        equivariant: (B, d), or ``None`` from a head with ``routing="invariant"``.
    """

    invariant: Tensor
    equivariant: Tensor | None


class STARProjectionHead(nn.Module):
    """A projection head whose experts are shared softly by an invariant and an equivariant task.

    Made to stand where lightly's ``SimCLRProjectionHead`` stands: the first three arguments are
    its own, in its order, and all others are given by keyword, since its fourth is the number of
    layers. The head is dropped after pretraining.

    Args:
        input_dim: Width D of the backbone's features.
        hidden_dim: Width H of the experts' hidden layers; the paper's is D. In a head that is wider
            than the backbone's features, ``star_head.adapters.lightly.expert_width`` keeps 16
            experts in proportion.
        output_dim: Width d of the embeddings.
        num_experts: Number of experts; default 16 for ``routing="mmoe"``, and set by the
            routing otherwise.
        num_layers: Linear layers of an expert.
        routing: ``"mmoe"``: a softmax router for each task. ``"shared"``: STAR-SS, an expert
            for each task and one for both. ``"separate"``: an expert for each task.
            ``"invariant"``: one expert and no equivariant task, the paper's SimCLR.
        statistics: Statistics of the augmentation parameters, which :meth:`predict` standardises:
            ``"stl10"``, ``"imagenet100"`` or a (mean, std) pair, for example of
            ``estimate_statistics``.
        parameter_dim: Number P of augmentation parameters; default: that of the statistics, or
            the paper's 11 without any.
        norm_layer: Norm class, called with the number of channels; ``None`` for no norm.
        act_layer: Activation class.
        device: Device of the parameters.
        dtype: Data type of the parameters.

    Raises:
        TypeError: If there are more than three arguments that are not given by keyword, or
            ``statistics`` are neither a name nor a pair.
        ValueError: If the routing is unknown, ``num_experts`` contradicts it, a count or width is
            less than 1, or the statistics are unknown or do not fit.

    Example:
        >>> head = STARProjectionHead(32, 64, 16, num_experts=4, statistics="stl10")
        >>> z = head(torch.randn(8, 32))
        >>> z.invariant.shape, z.equivariant.shape
        (torch.Size([8, 16]), torch.Size([8, 16]))
        >>> head.predict(z.equivariant, torch.rand(8, 11)).shape
        torch.Size([8, 16])
    """

    def __init__(
        self,
        input_dim: int = 2048,
        hidden_dim: int = 2048,
        output_dim: int = 128,
        *fourth: NoReturn,  # lightly's fourth argument is num_layers
        num_experts: int | None = None,
        num_layers: int = 3,
        routing: Routing = "mmoe",
        statistics: StatisticsLike | None = None,
        parameter_dim: int | None = None,
        norm_layer: NormLayer | None = nn.BatchNorm1d,
        act_layer: ActLayer = ReLU,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if fourth:
            number: object = fourth[0] if isinstance(fourth[0], int) else "..."
            raise TypeError(
                f"STARProjectionHead: expected input_dim, hidden_dim and output_dim, and all else "
                f"by keyword, got {len(fourth)} more: {', '.join(map(str, fourth))}; fourth in "
                f"lightly's heads is num_layers: give num_layers={number} or num_experts={number}"
            )
        if routing not in get_args(Routing):
            raise ValueError(f"routing: expected one of {get_args(Routing)}, got {routing!r}")
        mixing = _FIXED_MIXING.get(routing)
        if mixing is None:
            num_experts = 16 if num_experts is None else num_experts
        elif num_experts not in (None, len(mixing[0])):
            raise ValueError(
                f"num_experts: routing={routing!r} has {len(mixing[0])}, got {num_experts}"
            )
        else:
            num_experts = len(mixing[0])
        self.routing = routing
        self.experts = RoutedExperts(
            input_dim,
            hidden_dim,
            output_dim,
            num_experts,
            num_tasks=1 if routing == "invariant" else 2,
            num_layers=num_layers,
            mixing=mixing,
            norm_layer=norm_layer,
            act_layer=act_layer,
            device=device,
            dtype=dtype,
        )
        self.predictor: EquivariantPredictor | None = None
        if routing != "invariant":
            self.predictor = EquivariantPredictor(
                output_dim,
                parameter_dim,
                statistics,
                norm_layer=norm_layer,
                act_layer=act_layer,
                device=device,
                dtype=dtype,
            )

    def reset_parameters(self) -> None:
        """Draw experts, routers and predictor anew; the statistics stay."""
        self.experts.reset_parameters()
        if self.predictor is not None:
            self.predictor.reset_parameters()

    def forward(self, features: Tensor) -> STAREmbeddings:
        """Embed (B, D) features for both tasks: (B, d) each."""
        z = self.experts(features)
        return STAREmbeddings(z[:, 0], None if self.predictor is None else z[:, 1])

    def predict(self, equivariant: Tensor, params: Tensor) -> Tensor:
        """Predict views' equivariant embeddings from the un-augmented images'.

        Args:
            equivariant: Equivariant embeddings of the un-augmented images, (B, d).
            params: Raw, unstandardised parameters of each view, (B, P).

        Returns:
            The predicted embeddings, (B, d).

        Raises:
            ValueError: If the head has no equivariant task or no statistics, or a shape does
                not fit.
        """
        if self.predictor is None:
            raise ValueError(f"routing: {self.routing!r} has no equivariant task to predict for")
        return self.predictor(equivariant, params)

    def routing_weights(self, features: Tensor) -> Tensor:
        """What each task takes of each expert.

        Args:
            features: The backbone's features, (B, D).

        Returns:
            (B, 2, E), the invariant task's row, then the equivariant task's; with
            ``routing="invariant"`` the first alone, (B, 1, 1).
        """
        return self.experts.routing_weights(features)

    def extra_repr(self) -> str:
        """The routing and the number of parameters, for printing."""
        count = sum(parameter.numel() for parameter in self.parameters())
        return f"routing={self.routing!r}, parameters={count:,}"
