"""Soft Task-Aware Routing (STAR): a routed projection head and its losses for PyTorch."""

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
