"""Backbones from timm, and encoders back to its own format. Needs ``star-head[timm]``."""

try:
    from timm.models._input import get_model_args  # noqa: F401  # new in the oldest that will do
except ImportError as error:
    raise ImportError(
        'star_head.adapters.timm needs timm 1.0.31 or newer: pip install "star-head[timm]"'
    ) from error

from ._timm_backbones import create_backbone, describe_backbone, rebuild_backbone
from ._timm_export import export_encoder
from ._timm_proof import prove_description
from ._timm_reading import load_encoder

__all__ = [
    "create_backbone",
    "describe_backbone",
    "export_encoder",
    "load_encoder",
    "prove_description",
    "rebuild_backbone",
]
