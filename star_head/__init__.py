"""Soft Task-Aware Routing (STAR): a routed projection head and its losses for PyTorch.

Names are imported when they are first asked for, so that ``star-head --help`` waits for nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from star_head.augmentation import (
        AugmentationRecord,
        Parameter,
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

__version__ = "0.1.0"

_MODULES = {
    "augmentation": (
        "AugmentationRecord",
        "Parameter",
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
    raise AttributeError(f"module 'star_head' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_SUBMODULES})
