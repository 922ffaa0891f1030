"""STAR as one module: backbone, head and loss.

Source: STAR (arXiv 2510.27222).
"""

import inspect
import warnings
from typing import Any, NamedTuple

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from star_head._checks import check_pooled, describe, meant
from star_head._parts import not_a_tensor
from star_head.augmentation import STARViews, check_views
from star_head.experts import reset_children
from star_head.head import STAREmbeddings, STARProjectionHead
from star_head.losses import STARLoss, STARLossTerms


@not_a_tensor("the loss is model.loss(*output.embeddings, *output.predicted).total")
class STAROutput(NamedTuple):
    """What the model made of a batch of views.

    Attributes:
        features: The backbone's features of each augmented view, (B, D).
        embeddings: Their embeddings for both tasks.
        predicted: Their equivariant embeddings as predicted from the originals', (B, d) each;
            empty from a head without an equivariant task.
    """

    features: tuple[Tensor, ...]
    embeddings: tuple[STAREmbeddings, ...]
    predicted: tuple[Tensor, ...]


class STAR(nn.Module):
    """Backbone, head and loss in one ``forward``, which DDP, FSDP and ``torch.compile`` see whole.

    Each of them runs once per view, never on views joined to one batch: batch statistics are per
    view, as in the paper.

    Args:
        backbone: From images (B, 3, S, S) to pooled features (B, D); trailing axes of length 1
            are dropped.
        head: The projection head.
        loss: The loss; default: STAR's, which gathers from all processes.

    A warning tells of a head that has many times the backbone's parameters.

    Raises:
        TypeError: If the head is another library's, or the loss takes two tensors only.

    Example:
        >>> import torch
        >>> backbone = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 32))
        >>> head = STARProjectionHead(32, 32, 16, num_experts=4, statistics="stl10")
        >>> model = STAR(backbone, head)
        >>> images, params = torch.rand(6, 3, 8, 8), torch.rand(6, 11)
        >>> model(STARViews(images, (images, images), (params, params))).total.shape
        torch.Size([])
    """

    def __init__(
        self, backbone: nn.Module, head: STARProjectionHead, loss: STARLoss | None = None
    ) -> None:
        super().__init__()
        _check_parts(backbone, head, loss)
        _compare_sizes(backbone, head)
        self.backbone = backbone
        self.head = head
        # Gathering is the plain loss where there is one process.
        self.loss = STARLoss(gather_distributed=dist.is_available()) if loss is None else loss

    def reset_parameters(self) -> None:
        """Draw backbone and head anew.

        Raises:
            ValueError: If a part of the backbone has parameters and no ``reset_parameters``.
        """
        reset_children(self)

    def forward(self, views: STARViews) -> STARLossTerms:
        """Compute the loss of a batch of views."""
        output = self.embed(views)
        return self.loss(*output.embeddings, *output.predicted)

    def embed(self, views: STARViews) -> STAROutput:
        """Compute features, embeddings and predictions: what ``forward`` takes the loss of.

        Whoever logs more than the loss calls this and then ``loss`` on its parts. Under
        DistributedDataParallel that must happen inside the ``forward`` (or a LightningModule's
        ``training_step``) of the module that is wrapped, or gradients are not averaged.

        Raises:
            TypeError: If ``views`` are no STARViews, or the backbone gives anything but a tensor.
            ValueError: If there are not two views with two sets of parameters.
        """
        check_views("views", views)
        for name, part in (("views", views.views), ("params", views.params)):
            if not isinstance(part, tuple | list | Tensor):
                raise TypeError(f"views: expected 2 {name} in a tuple, got {describe(part)}")
        if len(views.views) != 2 or len(views.params) != 2:
            raise ValueError(
                f"views: expected 2 views with 2 sets of parameters, "
                f"got {len(views.views)} and {len(views.params)}"
            )
        features = tuple(self.features(view) for view in views.views)
        embeddings = tuple(self.head(y) for y in features)
        if self.head.predictor is None:
            return STAROutput(features, embeddings, ())
        original = self.head(self.features(views.original)).equivariant
        predicted = tuple(self.head.predict(original, params) for params in views.params)
        return STAROutput(features, embeddings, predicted)

    def features(self, images: Tensor) -> Tensor:
        """The backbone's features of images (B, 3, S, S): (B, D).

        Raises:
            TypeError: If ``images`` are no tensor, or the backbone gives anything but one.
            ValueError: If the backbone does not pool.
        """
        if not isinstance(images, Tensor):
            raise TypeError(
                f"images: expected a tensor of shape (B, 3, S, S), got {describe(images)}"
                f"{meant(images)}"
            )
        return check_pooled("backbone", self.backbone(images))

    def no_weight_decay(self) -> set[str]:
        """Names that the backbone exempts from weight decay, as timm's optimisers ask for them."""
        own = getattr(self.backbone, "no_weight_decay", set)
        return {f"backbone.{name}" for name in own()}


# The paper's heads have 0.9 (ResNet-18, 16 experts) to 2.9 times (ResNet-50, 8) as many parameters
# as their backbones; a small one costs nothing, whatever the backbone.
_LARGE, _SMALL = 5, 100_000


def _compare_sizes(backbone: nn.Module, head: nn.Module) -> None:
    """Warn of a head that is larger than its backbone by far."""
    parts = backbone, head
    if any(is_lazy(parameter) for part in parts for parameter in part.parameters()):
        return
    own, added = (sum(parameter.numel() for parameter in part.parameters()) for part in parts)
    if added > max(_LARGE * own, _SMALL) and own:
        warnings.warn(
            f"head: its {added:,} parameters are {added / own:.0f} times the backbone's {own:,}; "
            f"narrower experts (star_head.adapters.lightly.expert_width), fewer of them or a "
            f"smaller output_dim keep it in proportion",
            stacklevel=3,
        )


def _check_parts(backbone: Any, head: Any, loss: Any) -> None:
    if isinstance(backbone, type) or not callable(backbone):
        raise TypeError(f"backbone: expected a module on images, got {describe(backbone)}")
    if isinstance(head, type) or not (hasattr(head, "predict") and hasattr(head, "predictor")):
        raise TypeError(f"head: expected a STARProjectionHead, got {describe(head)}")
    if loss is None:
        return
    if isinstance(loss, type) or not _takes_four(getattr(loss, "forward", loss)):
        raise TypeError(
            f"loss: expected a STARLoss, got {describe(loss)}; a loss on two tensors goes into "
            f"STARLoss(invariant_loss=..., equivariant_loss=...)"
        )


def _takes_four(call: Any) -> bool:
    """Whether it can be called on two views' embeddings and two predictions."""
    try:
        inspect.signature(call).bind("z1", "z2", "predicted1", "predicted2")
    except (TypeError, ValueError):  # not so, or not callable
        return False
    return True
