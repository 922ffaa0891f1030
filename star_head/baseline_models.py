"""SimCLR with AugSelf or E-SSL as one module, trained wherever :class:`star_head.STAR` is."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from star_head._checks import describe
from star_head.augmentation import STARViews
from star_head.baselines import ESSL, AugSelf, quarter_turns
from star_head.experts import reset_children
from star_head.head import STAREmbeddings, STARProjectionHead
from star_head.losses import STARLoss, STARLossTerms
from star_head.model import STAR, STAROutput

BaselineTask = Literal["augself", "essl"]
"""What stands beside SimCLR in place of the equivariant task."""


class STARBaseline(STAR):
    """Backbone, SimCLR's head, and AugSelf or E-SSL beside its loss, in one ``forward``.

    A module such as :class:`star_head.STAR`: it takes the same views, and gives the task's weighted
    loss in ``terms.equivariant``. :class:`~star_head.baselines.AugSelf` takes the features of both
    views. :class:`~star_head.baselines.ESSL` takes those of the first view, made smaller and turned
    four ways.

    Source: Lee et al. 2021 (arXiv 2111.09613), Dangovski et al. 2022 (arXiv 2111.00899). Where this
    departs from the latter: its turned images are small random crops of their own, from a smaller
    part of the image. Here the first of the two recorded views is resized, so that all methods
    are given the same views.

    Args:
        backbone: As of ``STAR``; with E-SSL it takes images of ``turned_size`` too.
        head: ``STARProjectionHead(routing="invariant")``.
        task: AugSelf or E-SSL, on features of the backbone's width.
        loss: As of ``STAR``.
        turned_size: Side in pixels of the images that E-SSL turns; default: half the views' side,
            as in the paper.

    Raises:
        TypeError: If ``task`` is neither.
        ValueError: If the head has an equivariant task of its own.

    Example:
        >>> import torch
        >>> backbone = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 32))
        >>> head = STARProjectionHead(32, 32, 16, routing="invariant")
        >>> model = STARBaseline(backbone, head, ESSL(32, hidden_dim=64))
        >>> images, params = torch.rand(6, 3, 8, 8), torch.rand(6, 11)
        >>> terms = model(STARViews(images, (images, images), (params, params)))
        >>> bool(terms.total == terms.invariant + terms.equivariant)
        True
    """

    def __init__(
        self,
        backbone: nn.Module,
        head: STARProjectionHead,
        task: AugSelf | ESSL,
        loss: STARLoss | None = None,
        *,
        turned_size: int | None = None,
    ) -> None:
        super().__init__(backbone, head, loss)
        if not isinstance(task, AugSelf | ESSL):
            raise TypeError(f"task: expected AugSelf or ESSL, got {describe(task)}")
        if head.predictor is not None:
            raise ValueError(
                f"head: expected routing='invariant' beside another task, got {head.routing!r}"
            )
        self.task = task
        self.turned_size = turned_size
        self.loss = _WithTask(self.loss)  # type: ignore[assignment]  # called as the one within

    def embed(self, views: STARViews) -> STAROutput:
        """As of ``STAR``; in place of predictions stands the task's loss.

        Raises:
            TypeError: As of ``STAR``.
            ValueError: As of ``STAR``.
        """
        output = super().embed(views)
        if isinstance(self.task, AugSelf):
            loss = self.task(*output.features, *views.params)
        else:
            view = views.views[0]
            side = self.turned_size or max(1, view.shape[-1] // 2)
            small = F.interpolate(view, (side, side), mode="bilinear", antialias=True)
            turned, choices = quarter_turns(small)
            loss = self.task(self.features(turned), choices)
        return output._replace(predicted=(loss,))


class _WithTask(nn.Module):
    """Adds a task's loss to that of two views' invariant embeddings."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def reset_parameters(self) -> None:
        reset_children(self)

    def forward(self, z1: STAREmbeddings, z2: STAREmbeddings, task: Tensor) -> STARLossTerms:
        terms: STARLossTerms = self.loss(z1, z2)
        return STARLossTerms(terms.total + task, terms.invariant, task)
