"""Encoders to timm's own format, and from it."""

import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
from timm.models import save_for_hf
from timm.utils.model import unwrap_model
from torch import Tensor, nn

from star_head._checks import check_count

from . import _model_card
from ._checks import check_normalize
from ._preparation import read_preparation
from ._timm_backbones import NO_OTHER_SIZES, describe_backbone
from ._timm_proof import rebuild_with_weights
from ._timm_reading import CONFIG, WEIGHTS, drop_classifier
from ._timm_stem import has_small_stem
from ._timm_width import image_shape, measure_width

# What timm notes of weights that it publishes, which these are not.
_OF_OTHER_WEIGHTS = (
    "tag",
    "license",
    "description",
    "origin_url",
    "paper_name",
    "paper_ids",
    "notes",
    "label_names",
    "label_descriptions",
)


def export_encoder(
    backbone: nn.Module,
    folder: str | os.PathLike[str],
    *,
    transform: Any = None,
    input_size: int | None = None,
    normalize: Mapping[str, Sequence[float]] | None = None,
    keep_classifier: bool = False,
    architecture: str | Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
) -> Path:
    """Write an encoder in timm's own format, which opens without star_head.

    ``timm.create_model("local-dir:FOLDER", pretrained=True)`` rebuilds it, except with the stem
    of ``small_images=True``: only :func:`load_encoder` knows that one, and timm alone would fail
    or, for a deep stem, compute other features. Each file is replaced whole or not at all. A
    ``README.md`` of another origin is left as it is.

    What is written is proved first: the model is rebuilt from its description on the same
    weights, and has to compute the same features.

    Args:
        backbone: A timm model, also wrapped by DDP or ``torch.compile``, on any device.
        folder: Where ``config.json``, ``model.safetensors`` and the model card ``README.md`` go;
            made if missing.
        transform: What made the training images, from which size, pixel statistics, interpolation
            and crop are taken: STARTransform or any that it can be read from.
        input_size: Side of the square images in pixels; default: the transform's, or without one
            the model's own.
        normalize: ``{"mean": [...], "std": [...]}``, a number for each channel, of images in
            [0, 1]; default: the transform's, or without one the model's own.
        keep_classifier: Write the classifier that the model has too, which is left out else.
        architecture: For a model that timm did not make, such as torchvision's ResNet: the name
            of the same model in timm, or :func:`create_backbone`'s arguments, such as
            ``{"name": "resnet18", "small_images": True}``. The weights have to load strictly.
        training: How the weights came about, for the model card: a row for each name and value.

    Returns:
        The folder, with ``~`` expanded.

    Raises:
        TypeError: If timm did not make the backbone and no ``architecture`` is given, or the
            transform does not say its size.
        ValueError: If the model that is rebuilt is another one; the error says what differs. Or
            if the backbone gives no (B, D) features, cannot take images of ``input_size``,
            ``normalize`` does not fit its channels, or the transform says otherwise.
        OSError: If it cannot be written, on a full disk say.

    Example:
        >>> from star_head.adapters.lightly import STARTransform
        >>> from star_head.adapters.timm import create_backbone
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     transform = STARTransform(input_size=96)
        ...     path = export_encoder(create_backbone("resnet10t"), folder, transform=transform)
        ...     sorted(file.name for file in path.iterdir())
        ['README.md', 'config.json', 'model.safetensors']
    """
    original: Any = unwrap_model(backbone)
    encoder = _rebuild(original, architecture)
    encoder.register_state_dict_post_hook(_clone_tensors)
    if not keep_classifier:
        drop_classifier(encoder)

    name, built_size = encoder.pretrained_cfg["architecture"], encoder.pretrained_cfg["input_size"]
    shape = image_shape(encoder)
    images = _images(encoder, shape[0], transform, input_size, normalize)
    size = images.pop("input_size", None)
    if size is not None:
        shape = (shape[0], size, size)
    width = measure_width(encoder, shape)

    if encoder.num_classes == 0:
        encoder.num_features = width
    images |= {"input_size": shape, "num_classes": encoder.num_classes}
    if size is not None or shape != tuple(built_size):
        images |= NO_OTHER_SIZES
    model_config: dict[str, Any] = {"pretrained_cfg": images}
    if has_small_stem(encoder):
        model_config["star_head"] = {"small_images": True}

    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        try:
            save_for_hf(encoder, scratch, model_config=model_config, safe_serialization=True)
        except (OSError, safetensors.SafetensorError) as error:  # a full disk, say
            raise OSError(f"{folder / WEIGHTS} could not be written: {error}") from error
        # Some models run at any size, and yet timm holds them to the one they were built for.
        config = json.loads(Path(scratch, CONFIG).read_text())
        written = config["pretrained_cfg"]["input_size"]
        if tuple(written) != shape:
            raise ValueError(
                f"input_size: this {name} was built for {written[1:]}, got {size}; "
                f"build it with img_size={size}"
            )
        files = [WEIGHTS, CONFIG]
        if _model_card.may_write(folder):
            files.append(_model_card.FILE)
            card = _model_card.model_card(config, training or {})
            Path(scratch, _model_card.FILE).write_text(card, encoding="utf-8")
        # safetensors keeps its file from everybody else, whatever the umask.
        shutil.copymode(Path(scratch, CONFIG), Path(scratch, WEIGHTS))
        for file in files:
            os.replace(Path(scratch, file), folder / file)
    return folder


def _rebuild(backbone: Any, architecture: str | Mapping[str, Any] | None) -> Any:
    """The same model anew, on the same weights, as what is written will be read."""
    of_timm = hasattr(backbone, "pretrained_cfg")
    if architecture is None and not of_timm:
        raise TypeError(
            "backbone: expected a timm model, such as create_backbone gives, got "
            f"{type(backbone).__name__}; if it is one of timm's architectures, as torchvision's "
            "ResNets are, name that: architecture='resnet18'"
        )
    if architecture is not None and of_timm:
        raise ValueError("architecture: a timm model says itself what it is; expected None")
    if isinstance(architecture, str):
        architecture = {"name": architecture}
    description = describe_backbone(backbone) if architecture is None else architecture
    rebuilt = rebuild_with_weights(backbone, description)
    if of_timm:
        source = backbone.pretrained_cfg
        rebuilt.pretrained_cfg = {k: v for k, v in source.items() if k not in _OF_OTHER_WEIGHTS}
    else:
        for key in _OF_OTHER_WEIGHTS:
            rebuilt.pretrained_cfg.pop(key, None)
    return rebuilt


def _images(
    encoder: Any,
    channels: int,
    transform: Any,
    input_size: int | None,
    normalize: Mapping[str, Sequence[float]] | None,
) -> dict[str, Any]:
    """What is known of the images: size, mean, standard deviation, interpolation, crop."""
    if input_size is not None:
        check_count("input_size", input_size)
    given: dict[str, Any] = {} if input_size is None else {"input_size": input_size}
    if normalize is not None:
        given |= check_normalize(normalize, channels)
    if transform is None:
        own = encoder.pretrained_cfg
        published = timm.get_pretrained_cfg(own["architecture"])
        if normalize is None and published is not None and own["mean"] == published.mean:
            warnings.warn(
                f"config.json will say what timm notes of its own weights: mean {own['mean']}, "
                f"std {own['std']}, {own['interpolation']}, crop {own['crop_pct']}; give "
                f"transform=..., if yours were trained on other images",
                stacklevel=3,
            )
        return given
    found: dict[str, Any] = dict(read_preparation(transform)._asdict())
    found |= check_normalize({key: found[key] for key in ("mean", "std")}, channels)
    for key, value in given.items():
        if value != found[key]:
            raise ValueError(
                f"{'input_size' if key == 'input_size' else 'normalize'}: the transform's {key} "
                f"is {found[key]}, got {value}; give one of the two"
            )
    return {**found, "crop_mode": "center", "test_crop_pct": None}


def _clone_tensors(module: nn.Module, state: dict[str, Tensor], *_: Any) -> None:
    """Make a state_dict fit for safetensors, which takes no strided or shared memory."""
    for key, tensor in state.items():
        state[key] = tensor.clone(memory_format=torch.contiguous_format)
