"""Opening an encoder from wherever it may come."""

import os
from pathlib import Path
from typing import Any

from torch import nn

try:
    import timm
    from huggingface_hub import hf_hub_download
    from lightly.transforms.utils import IMAGENET_NORMALIZE
    from timm.models import is_model_pretrained
except ImportError as error:
    raise ImportError(
        "star_head.evaluation opens encoders by timm and lightly: pip install "
        '"star-head[evaluation]"'
    ) from error

from star_head._checkpoint_files import read_checkpoint, require_training
from star_head._checks import check_count, check_path
from star_head.adapters._checks import check_normalize
from star_head.adapters._timm_reading import CONFIG, WEIGHTS
from star_head.adapters._timm_width import image_shape
from star_head.adapters.lightly import STL10_NORMALIZE
from star_head.adapters.timm import create_backbone, load_encoder, rebuild_backbone
from star_head.checkpoint import load_official_checkpoint
from star_head.evaluation.preparation import Encoder as Encoder

# Blocks in each of a ResNet's four layers, and whether they are bottlenecks.
_RESNETS: dict[tuple[tuple[int, ...], bool], str] = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
}

_HUB = ("hf-hub", "hf_hub")


def open_encoder(source: str | os.PathLike[str]) -> Encoder:
    """Open an exported folder, a training checkpoint, an authors' checkpoint or a timm model.

    Nothing in a file is run, and what it says of a model only describes one.

    Args:
        source: A path: an exported folder or a file in it, or a checkpoint. A name that timm
            knows, whose pretrained weights are then fetched. ``"hf-hub:OWNER/NAME"`` or
            ``"local-dir:FOLDER"``, as timm writes them.

    Raises:
        ValueError: If it is none of these, damaged, or could be two of them.
        FileNotFoundError: If a file is missing from the folder.
    """
    check_path("source", source)
    source = os.fspath(source)
    scheme, separator, place = source.partition(":")
    if separator and scheme.lower() in _HUB:
        return _with_own_images(load_encoder(_fetch(place)), source)
    if separator and scheme.lower() == "local-dir":
        return _with_own_images(load_encoder(place), source)
    path = Path(source).expanduser()
    if _is_model(source):
        if path.is_file() or (path / CONFIG).is_file():
            raise ValueError(
                f"encoder: {source!r} is a model of timm, and the name of what lies here; write "
                f"{os.path.join('.', source)!r} for the latter, and its full name for the former, "
                f"such as {_full_name(source)!r}"
            )
        return _with_own_images(create_backbone(source, pretrained=True), source)
    if path.name in (CONFIG, WEIGHTS) and path.is_file():
        path = path.parent
    if path.is_dir():
        return _with_own_images(load_encoder(path), path)
    if path.is_file():
        return open_checkpoint(read_checkpoint(path), path)
    raise ValueError(
        f"encoder: expected a folder of export_encoder, a checkpoint or the name of a timm model, "
        f"got {source!r}"
    )


def open_checkpoint(saved: dict[str, Any], path: Path) -> Encoder:
    """Open what was read from a training checkpoint or an authors' checkpoint."""
    return _of_training(saved, path) if "state_dict" in saved else _of_authors(path)


def _of_training(checkpoint: dict[str, Any], path: Path) -> Encoder:
    require_training(checkpoint, path)
    if "backbone" not in checkpoint:
        raise ValueError(
            f"encoder: {path} does not say how its backbone was built; STARModule notes that of "
            f"timm's models only"
        )
    try:
        backbone = rebuild_backbone(checkpoint["backbone"])
        prefix = "star.backbone."
        weights = checkpoint["state_dict"].items()
        backbone.load_state_dict({k.removeprefix(prefix): t for k, t in weights if prefix in k})
        data = checkpoint.get("ImageDataModule")
        if data is None:  # trained by a script of the user's own
            return _with_own_images(backbone, path)
        check_count("input_size", data["input_size"])
        channels, _, _ = image_shape(backbone)
        return Encoder(backbone, data["input_size"], check_normalize(data["normalize"], channels))
    except Exception as error:  # whatever comes of a damaged file
        raise ValueError(f"encoder: {path} does not hold a whole backbone: {error}") from error


def _fetch(name: str) -> Path:
    """The folder into which an encoder is fetched from the Hugging Face hub; ``OWNER/NAME@REV``."""
    repository, _, revision = name.partition("@")
    files = [hf_hub_download(repository, f, revision=revision or None) for f in (CONFIG, WEIGHTS)]
    return Path(files[0]).parent


def _is_model(name: str) -> bool:
    """Whether timm has it; timm itself takes ``resnet18.pth`` for a ResNet-18 too."""
    return is_model_pretrained(name) if "." in name else timm.is_model(name)


def _full_name(name: str) -> str:
    config = timm.get_pretrained_cfg(name)
    return f"{name}.{config.tag}" if config is not None and config.tag else f"hf-hub:timm/{name}"


def _of_authors(path: Path) -> Encoder:
    weights = load_official_checkpoint(path).backbone
    blocks = {tuple(name.split(".")[:2]) for name in weights if name.startswith("layer")}
    depth = tuple(sum(layer == f"layer{i}" for layer, _ in blocks) for i in (1, 2, 3, 4))
    bottlenecks = "layer1.0.conv3.weight" in weights
    name = _RESNETS.get((depth, bottlenecks))
    if name is None:
        raise ValueError(f"encoder: {path} holds a ResNet of {depth} blocks, which has no name")
    backbone = create_backbone(name)
    try:
        backbone.load_state_dict(weights)
    except Exception as error:  # whatever comes of a damaged file
        raise ValueError(f"encoder: {path} does not hold a whole {name}: {error}") from error
    if bottlenecks:  # the paper's ImageNet100 runs
        return Encoder(backbone, 224, IMAGENET_NORMALIZE)
    return Encoder(backbone, 96, STL10_NORMALIZE)


def _with_own_images(backbone: nn.Module, source: str | os.PathLike[str] = "") -> Encoder:
    model: Any = backbone
    try:
        config = model.pretrained_cfg
        channels, _, size = config["input_size"]
        check_count("input_size", size)
        normalize = {key: [float(v) for v in config[key]] for key in ("mean", "std")}
        return Encoder(backbone, size, check_normalize(normalize, channels))
    except Exception as error:  # whatever a file can hold
        raise ValueError(
            f"encoder: {source} does not say size, mean and std of its images: {error!r}"
        ) from error
