"""Other ways to keep what augmentations change, beside any invariant method's loss.

:class:`AugSelf` and :class:`ESSL` add a loss on the backbone's features to that of any method.
EquiMod is ``STARProjectionHead(routing="separate")``, and SimCLR ``routing="invariant"``.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from star_head._checks import (
    check_count,
    check_dtype,
    check_matrix,
    check_not_negative,
    describe,
)
from star_head.augmentation import Parameter, ParameterSpec
from star_head.equivariance import StatisticsLike, resolve_statistics
from star_head.experts import reset_children

AugSelfTask = Literal["crop", "color", "flip", "blur"]
"""What :class:`AugSelf` can predict."""

_LABELS: dict[AugSelfTask, tuple[str, ...]] = {
    "crop": ("crop top", "crop left", "crop height", "crop width"),
    "color": ("brightness", "contrast", "saturation", "hue"),
    "flip": ("flip",),
    "blur": ("blur sigma",),
}
# Range of a uniform distribution of standard deviation 1.
_UNIFORM_RANGE = math.sqrt(12)


class AugSelf(nn.Module):
    """Predict from two views' features how their augmentations differ.

    L = sum over tasks t of w_t L_t(phi_t([y1, y2]), a1_t - a2_t), averaged over both orders of the
    two views; phi_t is an MLP 2D -> H -> H -> outputs with batch norm and ReLU. ``"crop"`` is the
    crop's centre and size in shares of the image, mirrored with a mirrored view; ``"color"``
    brightness, contrast, saturation and hue; ``"blur"`` sigma: L_t is the squared error of
    tanh(phi_t). ``"flip"`` is whether both views or neither are mirrored: binary cross-entropy.

    Source: Lee et al. 2021 (arXiv 2111.09613) and its released program. Where this departs from
    them: they divide a crop's pixels by each image's size and a colour factor by the range that it
    is drawn from. Records hold neither, so the statistics stand for both: a crop is divided by
    the mean image size (twice its mean centre), which is each image's where all have one; the
    others by sqrt(12) standard deviations, the range of a uniform distribution. Of colour jitter
    that is applied with probability 0.8 this is 0.89 of the range.

    Args:
        num_features: Width D of the backbone's features.
        statistics: Those of the parameters, as ``STARProjectionHead`` takes them.
        tasks: Weight of each task; default: ``{"crop": 1, "color": 1}``, as for STL10 in the
            paper. For ImageNet100 the paper has 0.5 and 0.5.
        hidden_dim: Width H of the MLPs.
        parameters: Name of each number in ``params``, of a transform other than the paper's:
            ``RecordedTransform(...).parameters``.

    Shape:
        y1, y2 (n, D) features of the two views; params1, params2 (n, P) raw and unstandardised.

    Raises:
        ValueError: If a task is unknown, none is asked for, a weight is not positive, or
            ``parameters`` lack what a task predicts.

    Example:
        >>> task = AugSelf(32, "stl10", tasks={"crop": 1.0, "flip": 0.5})
        >>> y1, y2, a1, a2 = *torch.randn(2, 8, 32), *torch.rand(2, 8, 11)
        >>> task(y1, y2, a1, a2).shape
        torch.Size([])
    """

    scale: Tensor

    def __init__(
        self,
        num_features: int,
        statistics: StatisticsLike,
        tasks: Mapping[AugSelfTask, float] | None = None,
        hidden_dim: int = 512,
        parameters: Sequence[Parameter | ParameterSpec] = tuple(Parameter),
    ) -> None:
        super().__init__()
        check_count("num_features", num_features)
        check_count("hidden_dim", hidden_dim)
        self.num_features = num_features
        self.tasks = _check_tasks({"crop": 1.0, "color": 1.0} if tasks is None else tasks)
        self.labels = [parameter.label for parameter in parameters]
        for task in self.tasks:
            missing = [label for label in _LABELS[task] if label not in self.labels]
            if missing:
                raise ValueError(
                    f"parameters: task {task!r} predicts {', '.join(missing)}, which is not among "
                    f"{self.labels}"
                )
        mean, std = resolve_statistics(statistics, len(self.labels))
        scale = _UNIFORM_RANGE * std
        if "crop" in self.tasks:
            top, left, height, width = crop = self._columns(*_LABELS["crop"])
            sides = 2 * mean[[top, left]] + mean[[height, width]]
            scale[crop] = torch.cat([sides, sides])
        # Kept beside the buffer, whose memory may be made anew.
        self._scale = scale.float()
        self.register_buffer("scale", self._scale.clone())
        self.heads = nn.ModuleDict(
            {
                task: _mlp(2 * num_features, hidden_dim, len(_LABELS[task]), nn.BatchNorm1d)
                for task in self.tasks
            }
        )

    def reset_parameters(self) -> None:
        """Draw all heads anew; the scale stays."""
        reset_children(self.heads)
        self.scale.copy_(self._scale)

    def forward(self, y1: Tensor, y2: Tensor, params1: Tensor, params2: Tensor) -> Tensor:
        """Weighted sum of the tasks' losses, a scalar.

        Raises:
            TypeError: If anything but floating-point tensors came.
            ValueError: If a shape does not fit.
        """
        for name, features in (("y1", y1), ("y2", y2)):
            check_matrix(name, features, self.num_features)
            check_dtype(name, features, next(self.heads.parameters()))
        for name, params in (("params1", params1), ("params2", params2)):
            check_matrix(name, params, len(self.labels))
        if not len(y1) == len(y2) == len(params1) == len(params2):
            raise ValueError(
                f"expected as many rows of y1, y2, params1 and params2, got {len(y1)}, {len(y2)}, "
                f"{len(params1)} and {len(params2)}"
            )
        pairs = torch.cat([torch.cat([y1, y2], dim=1), torch.cat([y2, y1], dim=1)])
        targets = self.differences(params1, params2)
        losses = [
            weight * self._loss(task, self.heads[task](pairs), targets[task])
            for task, weight in self.tasks.items()
        ]
        return torch.stack(losses).sum()

    def differences(self, params1: Tensor, params2: Tensor) -> dict[AugSelfTask, Tensor]:
        """What each task predicts, (2n, outputs): of the views in order, then in the other order.

        Args:
            params1: (n, P), raw and unstandardised.
            params2: (n, P).
        """
        a1, a2 = (self._targets(params) for params in (params1, params2))
        differences = {task: torch.cat([a1[task] - a2[task], a2[task] - a1[task]]) for task in a1}
        if "flip" in differences:
            differences["flip"] = 1 - differences["flip"].abs()
        return differences

    def extra_repr(self) -> str:
        """The tasks' weights, for printing."""
        return f"tasks={self.tasks}"

    def _targets(self, params: Tensor) -> dict[AugSelfTask, Tensor]:
        targets: dict[AugSelfTask, Tensor] = {}
        for task in self.tasks:
            columns = self._columns(*_LABELS[task])
            values = params[:, columns]
            targets[task] = values if task == "flip" else values / self.scale[columns]
        if "crop" in targets:
            corner, size = targets["crop"].chunk(2, dim=1)
            y, x = (corner + size / 2).unbind(dim=1)
            centre = torch.stack(
                [self._mirrored(y, params, "vertical flip"), self._mirrored(x, params, "flip")],
                dim=1,
            )
            targets["crop"] = torch.cat([centre, size], dim=1)
        return targets

    def _mirrored(self, coordinate: Tensor, params: Tensor, label: str) -> Tensor:
        if label not in self.labels:
            return coordinate
        (column,) = self._columns(label)
        return torch.where(params[:, column] > 0.5, 1 - coordinate, coordinate)

    def _columns(self, *labels: str) -> list[int]:
        return [self.labels.index(label) for label in labels]

    @staticmethod
    def _loss(task: AugSelfTask, output: Tensor, target: Tensor) -> Tensor:
        dtype = torch.promote_types(output.dtype, target.dtype)
        output, target = output.to(dtype), target.to(dtype)
        if task == "flip":
            return F.binary_cross_entropy_with_logits(output, target)
        return F.mse_loss(output.tanh(), target)


class ESSL(nn.Module):
    """Predict from an image's features which of a set of transformations was applied to it.

    L = w CE(p(f(T_c(x))), c): p is an MLP D -> H -> H -> C with layer norm and ReLU.
    :func:`quarter_turns` makes what the paper predicts: each image in its four orientations. Any
    recorded choice will do: ``params[:, Parameter.FLIP].long()`` with ``num_choices=2``.

    Source: Dangovski et al. 2022 (arXiv 2111.00899): w = 0.4 beside SimCLR, the MLP of its CIFAR10
    program, whose ImageNet one has a further layer of 128. Its turned images are small random
    views of their own: 16 pixels beside views of 32, 96 beside 224.

    Args:
        num_features: Width D of the backbone's features.
        num_choices: Number C of transformations.
        weight: w, not negative.
        hidden_dim: Width H of the MLP.

    Shape:
        features (n, D), choices (n,) integers in [0, C).

    Example:
        >>> task = ESSL(num_features=3)
        >>> turned, choices = quarter_turns(torch.rand(2, 3, 16, 16))
        >>> task(turned.mean(dim=(2, 3)), choices).shape
        torch.Size([])
    """

    def __init__(
        self, num_features: int, num_choices: int = 4, weight: float = 0.4, hidden_dim: int = 2048
    ) -> None:
        super().__init__()
        check_count("num_features", num_features)
        check_count("num_choices", num_choices, minimum=2)
        check_not_negative("weight", weight)
        check_count("hidden_dim", hidden_dim)
        self.num_features = num_features
        self.weight = weight
        self.head = _mlp(num_features, hidden_dim, num_choices, nn.LayerNorm)

    def reset_parameters(self) -> None:
        """Draw the head anew."""
        reset_children(self)

    def forward(self, features: Tensor, choices: Tensor) -> Tensor:
        """Weighted cross-entropy, a scalar.

        Raises:
            TypeError: If anything but features and integers came.
            ValueError: If a shape does not fit.
        """
        check_matrix("features", features, self.num_features)
        check_dtype("features", features, next(self.head.parameters()))
        if not isinstance(choices, Tensor) or choices.dtype != torch.long:
            raise TypeError(f"choices: expected a tensor of int64, got {describe(choices)}")
        if choices.shape != features.shape[:1]:
            raise ValueError(
                f"choices: expected shape ({len(features)},), one for each of the features, got "
                f"{tuple(choices.shape)}"
            )
        return self.weight * F.cross_entropy(self.head(features), choices)

    def extra_repr(self) -> str:
        """The weight, for printing."""
        return f"weight={self.weight}"


class QuarterTurns(NamedTuple):
    """Images in all four orientations.

    Attributes:
        images: (4n, C, S, S): all n as they were, then turned by 90, 180 and 270 degrees.
        choices: (4n,) int64, the number of quarter turns, counter-clockwise.
    """

    images: Tensor
    choices: Tensor


def quarter_turns(images: Tensor) -> QuarterTurns:
    """Turn each image four ways, for :class:`ESSL`.

    Args:
        images: (n, C, S, S).

    Raises:
        ValueError: If they are not square.

    Example:
        >>> quarter_turns(torch.rand(2, 3, 8, 8)).choices.tolist()
        [0, 0, 1, 1, 2, 2, 3, 3]
    """
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[2] != images.shape[3]:
        raise ValueError(f"images: expected square ones, (n, C, S, S), got {describe(images)}")
    turned = [images.rot90(turns, dims=(2, 3)) for turns in range(4)]
    choices = torch.arange(4, device=images.device).repeat_interleave(len(images))
    return QuarterTurns(torch.cat(turned), choices)


def _mlp(inputs: int, hidden: int, outputs: int, norm: type[nn.Module]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (inputs, hidden):
        # A batch norm's shift is the layer's bias.
        bias = norm is not nn.BatchNorm1d
        layers += [nn.Linear(width, hidden, bias=bias), norm(hidden), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, outputs))


def _check_tasks(tasks: Mapping[AugSelfTask, float]) -> dict[AugSelfTask, float]:
    if not isinstance(tasks, Mapping) or not tasks:
        raise ValueError(
            f'tasks: expected weights such as {{"crop": 1.0, "color": 1.0}}, got {tasks!r}'
        )
    for task, weight in tasks.items():
        if task not in _LABELS:
            raise ValueError(f"tasks: expected some of {', '.join(_LABELS)}, got {task!r}")
        check_not_negative(f"tasks[{task!r}]", weight)
        if weight == 0:
            raise ValueError(f"tasks[{task!r}]: expected a positive weight, got 0; leave it out")
    return dict(tasks)
