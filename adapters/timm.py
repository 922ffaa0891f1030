"""Backbones from timm, and trained encoders back to timm's own format."""

import copy
import difflib
import inspect
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

try:
    import timm
except ImportError as error:
    raise ImportError(
        'star_head.adapters.timm needs timm: pip install "star-head[timm]"'
    ) from error

import safetensors.torch
from timm.models import filter_pretrained_cfg, save_for_hf
from timm.models.resnet import ResNet
from timm.utils import unwrap_model

Initialisation = Literal["timm", "paper"]

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"


def create_backbone(
    name: str,
    pretrained: bool = False,
    small_images: bool = False,
    init: Initialisation = "timm",
    **kwargs: Any,
) -> nn.Module:
    """Build any timm model as a backbone: images (B, C, H, W) in, pooled features (B, D) out.

    ``num_features`` of the result is the D that its forward pass gives, which for some
    architectures (MobileNetV3) is not the one that timm notes. It is in training mode.

    Args:
        name: A name that ``timm.create_model`` takes.
        pretrained: Load timm's weights.
        small_images: Give a ResNet the stem for images of about 32 pixels: stride 1 and no
            max-pooling. A 7x7 first convolution becomes a 3x3 one, with fresh weights even if
            ``pretrained``; a deep stem of 3x3 convolutions keeps its weights.
        init: ``"timm"``: as timm starts it. ``"paper"``: as the authors start theirs: linear
            layers and convolutions as PyTorch draws them, the last norm of each residual block
            at zero where timm knows it (``zero_init_last``).
        **kwargs: For ``timm.create_model``: ``in_chans``, ``drop_path_rate``, ``img_size`` of a
            model made for one size (ViT, Swin), ...

    Raises:
        ValueError: If timm has no such model, if it gives no (B, D) features, if
            ``small_images`` is asked of a model that is no ResNet, or for an unknown ``init``
            or one that would overwrite pretrained weights.

    Example:
        >>> backbone = create_backbone("resnet10t", small_images=True)
        >>> backbone(torch.zeros(2, 3, 32, 32)).shape, backbone.num_features
        (torch.Size([2, 512]), 512)
    """
    if init not in get_args(Initialisation):
        raise ValueError(f"init: expected one of {get_args(Initialisation)}, got {init!r}")
    if pretrained and init == "paper":
        raise ValueError("init: 'paper' would overwrite the weights that pretrained=True loads")
    if ":" not in name and not timm.is_model(name):  # "hf-hub:..." and "local-dir:..." are timm's
        closest = difflib.get_close_matches(name.partition(".")[0], timm.list_models(), n=5)
        hint = f"; closest: {', '.join(closest)}" if closest else "; see timm.list_models()"
        raise ValueError(f"name: timm {timm.__version__} has no model {name!r}{hint}")

    backbone = timm.create_model(name, pretrained=pretrained, num_classes=0, **kwargs)
    if small_images:
        _use_small_stem(backbone, name)
    if init == "paper":
        _initialise_as_paper(backbone)
    options = {*inspect.signature(timm.create_model).parameters, "device", "dtype"}
    return _note(backbone, {key: kwargs[key] for key in kwargs.keys() - options})


def export_encoder(
    backbone: nn.Module,
    folder: str | os.PathLike[str],
    *,
    input_size: int | None = None,
    normalize: Mapping[str, Sequence[float]] | None = None,
) -> Path:
    """Write an encoder in timm's own format, which opens without star_head.

    ``timm.create_model("local-dir:FOLDER", pretrained=True)`` rebuilds it, except with the stem
    of ``small_images=True``: only :func:`load_encoder` knows that one, and timm alone would fail
    or, for a deep stem, compute other features. Each file is replaced whole or not at all.

    Args:
        backbone: A timm model, also wrapped by DDP or ``torch.compile``, on any device. A
            classifier that it has is left out.
        folder: Where ``config.json`` and ``model.safetensors`` go; made if missing.
        input_size: Side of the square images in pixels; the model's own unless given.
        normalize: ``{"mean": [...], "std": [...]}``, a number for each channel, of images in
            [0, 1]; the model's own unless given.

    Returns:
        The folder.

    Raises:
        TypeError: If timm did not make the backbone.
        ValueError: If the backbone gives no (B, D) features, cannot take images of
            ``input_size``, or ``normalize`` does not fit its channels.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = export_encoder(create_backbone("resnet10t"), folder, input_size=96)
        ...     sorted(file.name for file in path.iterdir())
        ['config.json', 'model.safetensors']
    """
    encoder: Any = unwrap_model(backbone)
    if not hasattr(encoder, "pretrained_cfg"):
        raise TypeError(
            "backbone: expected a timm model, such as create_backbone gives, got "
            f"{type(encoder).__name__}; save the state_dict of other modules with torch.save"
        )
    # safetensors takes contiguous tensors only, which channels_last ones are not.
    encoder = copy.deepcopy(encoder).to("cpu", memory_format=torch.contiguous_format)
    if encoder.num_classes != 0:
        encoder.reset_classifier(0)

    channels, *size = _image_shape(encoder)
    if input_size is not None:
        size = [input_size, input_size]
    encoder.num_features = _measure_width(encoder, (channels, *size))
    source = filter_pretrained_cfg(encoder.pretrained_cfg, remove_source=True)
    config = {**source, "input_size": (channels, *size), "num_classes": 0, "custom_load": False}
    config.pop("state_dict", None)
    if input_size is not None or config["input_size"] != tuple(source["input_size"]):
        # These describe the source's own weights.
        config |= {"test_input_size": None, "test_pool_size": None, "pool_size": None}
    if normalize is not None:
        config |= _check_normalize(normalize, channels)
    model_config = {"pretrained_cfg": config}
    if _has_small_stem(encoder):
        model_config["star_head"] = {"small_images": True}
    model_args = {k: v for k, v in encoder._model_args.items() if not k.endswith("_rate")}

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        save_for_hf(
            encoder,
            scratch,
            model_config=model_config,
            model_args=model_args | {"num_classes": 0},
            safe_serialization=True,
        )
        for file in (_WEIGHTS, _CONFIG):
            os.replace(Path(scratch, file), folder / file)
    return folder
