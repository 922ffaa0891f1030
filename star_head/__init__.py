"""Soft Task-Aware Routing (STAR): a routed projection head and its losses for PyTorch.

A head and a loss around the backbone at hand, and a training step on a batch of views:

    >>> import torch
    >>> from star_head import STAR, STARLoss, STARProjectionHead, STARViews
    >>> backbone = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 64))
    >>> head = STARProjectionHead(64, 64, 32, num_experts=4, statistics="stl10")
    >>> model = STAR(backbone, head, STARLoss(temperature=0.2))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)

    >>> original, view1, view2 = torch.rand(3, 8, 3, 32, 32)  # 8 images
    >>> params1, params2 = torch.rand(2, 8, 11)  # what was done to make each view
    >>> terms = model(STARViews(original, (view1, view2), (params1, params2)))
    >>> terms.total.backward()
    >>> optimizer.step()
    >>> terms.total.shape, head(backbone(original)).invariant.shape
    (torch.Size([]), torch.Size([8, 32]))

Views of images come from ``star_head.adapters.lightly.STARTransform``, which a data set takes as
its transform and PyTorch's default collate batches; ``estimate_statistics(transform, data_set)``
gives ``statistics`` of images of one's own. After training the backbone alone is kept.
``star_head.adapters`` has the glue to lightly, timm, torchvision and Lightning, and
``star_head.evaluation`` what measures the result.

Names are imported when they are first asked for, so that ``star-head --help`` waits for nothing.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from star_head.augmentation import (
        AugmentationRecord,
        Parameter,
        ParameterSpec,
        STARViews,
        Statistics,
        estimate_statistics,
    )
    from star_head.equivariance import EquivariantPredictor
    from star_head.experts import RoutedExperts
    from star_head.head import STAREmbeddings, STARProjectionHead
    from star_head.losses import NTXentLoss, STARLoss, STARLossTerms
    from star_head.model import STAR, STAROutput

__all__ = [
    "STAR",
    "AugmentationRecord",
    "EquivariantPredictor",
    "NTXentLoss",
    "Parameter",
    "ParameterSpec",
    "RoutedExperts",
    "STAREmbeddings",
    "STARLoss",
    "STARLossTerms",
    "STAROutput",
    "STARProjectionHead",
    "STARViews",
    "Statistics",
    "estimate_statistics",
]

__version__ = "0.2.0"

_MODULES = {
    "augmentation": (
        "AugmentationRecord",
        "Parameter",
        "ParameterSpec",
        "STARViews",
        "Statistics",
        "estimate_statistics",
    ),
    "equivariance": ("EquivariantPredictor",),
    "experts": ("RoutedExperts",),
    "head": ("STAREmbeddings", "STARProjectionHead"),
    "losses": ("NTXentLoss", "STARLoss", "STARLossTerms"),
    "model": ("STAR", "STAROutput"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}
# Modules that are there after `import star_head`.
_SUBMODULES = ("checkpoint", "metrics", *_MODULES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"star_head.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    if name in _SUBMODULES:
        return import_module(f"star_head.{name}")
    if not name.startswith("_"):
        from star_head._elsewhere import where_to_find

        place = where_to_find(name)
        if place is not None:
            # Of an AttributeError, `from star_head import ...` would drop the words; anything
            # else, hasattr and tools that look through modules, knows no other.
            if sys._getframe(1).f_code.co_name == "_handle_fromlist":
                raise ImportError(place, name=f"star_head.{name}")
            raise AttributeError(place)
    raise AttributeError(f"module 'star_head' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_SUBMODULES})
