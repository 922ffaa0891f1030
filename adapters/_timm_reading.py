"""Opening encoders in timm's own format, of which what is written is data and no more."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
from timm.models import PretrainedCfg
from timm.models._hub import load_model_config_from_path
from torch import nn

from ._timm_arguments import check_described
from ._timm_backbones import check_name
from ._timm_stem import use_small_stem
from ._timm_width import note_width

CONFIG, WEIGHTS = "config.json", "model.safetensors"
# Where timm fetches weights from, and how it reads them; here they are in the folder.
_SOURCES = frozenset(
    ("url", "file", "state_dict", "hf_hub_id", "hf_hub_filename", "source", "custom_load")
)
_KNOWN = frozenset(field.name for field in dataclasses.fields(PretrainedCfg))


def load_encoder(folder: str | os.PathLike[str], *, keep_classifier: bool = False) -> nn.Module:
    """Rebuild what :func:`export_encoder` wrote, small-image stems too. No code in it is run.

    Like :func:`create_backbone` it gives a module in training mode, on the CPU. Weights come from
    ``model.safetensors`` alone, whatever ``config.json`` says of their origin.

    Args:
        folder: The folder that was written.
        keep_classifier: Keep the classifier that the model was written with, which is dropped
            else.

    Raises:
        FileNotFoundError: If the folder or one of its two files is missing.
        ValueError: If ``config.json`` says more than what describes a model, timm cannot build
            it, or the weights are not its own.

    Example:
        >>> import tempfile, torch
        >>> from star_head.adapters.lightly import STARTransform
        >>> from star_head.adapters.timm import create_backbone, export_encoder
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     backbone = create_backbone("resnet10t", small_images=True)
        ...     _ = export_encoder(backbone, folder, transform=STARTransform(input_size=32))
        ...     encoder = load_encoder(folder).eval()
        >>> encoder(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 512])
    """
    folder = Path(folder).expanduser()
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"folder: expected {CONFIG} and {WEIGHTS}, as export_encoder writes them, in "
            f"{folder}, which lacks {' and '.join(missing)}"
        )
    try:
        backbone = _build(folder)
        backbone.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS))
    except Exception as error:  # whatever timm makes of a config that it cannot use
        raise ValueError(
            f"folder: expected {folder} to hold a model that timm {timm.__version__} can build "
            f"from {CONFIG}, and its weights in {WEIGHTS}: {error}"
        ) from error
    if not keep_classifier:
        drop_classifier(backbone)
    if backbone.num_classes == 0:
        note_width(backbone)
    return backbone


def drop_classifier(encoder: Any) -> None:
    """Take off the classifier, if there is one."""
    if encoder.num_classes != 0:
        encoder.reset_classifier(0)


def _build(folder: Path) -> Any:
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    source, name, arguments = load_model_config_from_path(folder)
    arguments = check_described(_mapping("model_args", arguments))
    source = {k: v for k, v in _mapping("pretrained_cfg", source).items() if k not in _SOURCES}
    check_described(source)
    unknown = source.keys() - _KNOWN
    if unknown:
        raise ValueError(f"pretrained_cfg: {', '.join(sorted(unknown))}: unknown to timm")
    backbone: Any = timm.create_model(check_name(name), pretrained_cfg=source, **arguments)
    if _mapping("star_head", config.get("star_head", {})).get("small_images", False):
        use_small_stem(backbone, name)
    return backbone


def _mapping(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name}: expected a mapping, got {type(value).__name__}")
    return value
