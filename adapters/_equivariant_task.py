"""The equivariant task beside any method's own: its loss, and the width of the experts."""

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from star_head._checks import check_count, describe
from star_head._loss_checks import check_loss
from star_head.augmentation import STARViews, check_views
from star_head.head import STAREmbeddings, STARProjectionHead


def expert_width(hidden_dim: int, num_experts: int = 16) -> int:
    """Hidden width of each of N experts that stand where one head of hidden width H stood: H / √N.

    Rounded up to a multiple of 8. The matrices between hidden layers then have H² parameters, all
    experts together, as the one head's has; the first and the last layer have √N times as many.
    docs/methods.md says what that costs, and what copies of the head would.

    Args:
        hidden_dim: H, of the method's own head.
        num_experts: N; 1 gives H itself.

    Example:
        >>> expert_width(2048), expert_width(512, num_experts=8), expert_width(512, num_experts=1)
        (512, 184, 512)
    """
    check_count("hidden_dim", hidden_dim)
    check_count("num_experts", num_experts)
    if num_experts == 1:
        return hidden_dim
    return min(hidden_dim, 8 * math.ceil(hidden_dim / math.sqrt(num_experts) / 8))


def equivariant_loss(
    embed: Callable[[Tensor], STAREmbeddings],
    head: STARProjectionHead,
    views: STARViews,
    embeddings: Sequence[STAREmbeddings],
    criterion: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """The equivariant task's loss, to add to that of any method's own task.

    Args:
        embed: From images to the online network's embeddings; called on the originals, if the
            head has the task.
        head: The online network's.
        views: The batch.
        embeddings: What the online network made of the first K views, which are recorded, (n, d)
            each.
        criterion: Any loss on two (K n, d) tensors, embeddings and predictions.

    Returns:
        A scalar; 0 from a head with ``routing="invariant"``, which leaves the method as it is.

    Raises:
        TypeError: If ``views`` are no STARViews, ``embeddings`` or what ``embed`` gives no
            STAREmbeddings, the head another library's, or the criterion a class.
        ValueError: If there is none of ``embeddings``, or more than views with parameters.

    Example:
        >>> from star_head import NTXentLoss
        >>> head = STARProjectionHead(3, 8, 4, num_experts=2, statistics="stl10")
        >>> def embed(x):
        ...     return head(x.mean(dim=(2, 3)))
        >>> x = torch.rand(5, 3, 8, 8)
        >>> views = STARViews(x, (x, x), (torch.rand(5, 11), torch.rand(5, 11)))
        >>> equivariant_loss(embed, head, views, [embed(x), embed(x)], NTXentLoss()).shape
        torch.Size([])
    """
    check_views("views", views)
    if not (hasattr(head, "predict") and hasattr(head, "predictor")):
        raise TypeError(f"head: expected a STARProjectionHead, got {describe(head)}")
    check_loss("criterion", criterion)
    if isinstance(embeddings, STAREmbeddings) or not isinstance(embeddings, tuple | list):
        raise TypeError(
            f"embeddings: expected STAREmbeddings of each view in a list, such as (z0, z1), got "
            f"{describe(embeddings)}"
        )
    for z in embeddings:
        _check_embeddings("embeddings", z)
    if not 1 <= len(embeddings) <= len(views.params):
        raise ValueError(
            f"embeddings: expected those of 1 to {len(views.params)} views with parameters, "
            f"got {len(embeddings)}"
        )
    if head.predictor is None:
        return views.original.new_zeros(())
    of_originals = embed(views.original)
    _check_embeddings("embed", of_originals)
    equivariant = [z.equivariant for z in (of_originals, *embeddings)]
    original, *viewed = cast(list[Tensor], equivariant)
    predicted = [head.predict(original, p) for p in views.params[: len(viewed)]]
    return criterion(torch.cat(viewed), torch.cat(predicted))


def _check_embeddings(name: str, embeddings: object) -> None:
    if not isinstance(embeddings, STAREmbeddings):
        raise TypeError(
            f"{name}: expected STAREmbeddings, what the head makes of features, before anything "
            f"takes their invariant part alone, got {describe(embeddings)}"
        )
