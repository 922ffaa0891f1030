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

__version__ = "0.1.0"
