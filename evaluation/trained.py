"""Opening all that a pretraining checkpoint holds: the encoder, its head and its views."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

try:
    import yaml

    from star_head.adapters._recorded_rgb import RecordedRGBTransform
    from star_head.adapters.lightly import STARTransform, STARViewTransform
    from star_head.adapters.torchvision import RecordedTransform
except ImportError as error:
    raise ImportError(
        "star_head.evaluation opens checkpoints by lightly and PyYAML: pip install "
        '"star-head[evaluation]"'
    ) from error

from star_head import STARProjectionHead
from star_head._checkpoint_files import read_checkpoint
from star_head._checks import check_path, describe
from star_head.checkpoint import load_official_checkpoint
from star_head.evaluation.known_transforms import build_transform
from star_head.evaluation.networks import open_checkpoint
from star_head.evaluation.preparation import Encoder
from star_head.head import Routing

_HEAD = "star.head."


class Trained(NamedTuple):
    """A pretrained network, in evaluation mode.

    Attributes:
        backbone: From images (B, 3, S, S) to features (B, D).
        head: From features to embeddings.
        transform: Makes the views that it was trained on, and names their ``parameters``.
        settings: What the checkpoint says of its run, for a reader.
    """

    backbone: nn.Module
    head: STARProjectionHead
    transform: STARViewTransform | RecordedTransform
    settings: dict[str, str]


def open_trained(
    checkpoint: str | Path, *, transform: STARViewTransform | RecordedTransform | None = None
) -> Trained:
    """Open a checkpoint of examples/pretrain.py or of the authors; nothing in the file is run.

    How views are made is read from the run's config.yaml, where that lies above the checkpoint's
    folder, as examples/pretrain.py leaves it; else they are made by the paper's settings, at the
    size and with the normalisation that the encoder was trained with. Of classes in that file,
    torchvision's, lightly's and star_head's transforms are known; no other is imported.

    Args:
        checkpoint: Path of the file.
        transform: What made the views, where the file names other classes or there is none;
            default: read from the file.

    Raises:
        TypeError: If ``transform`` records nothing.
        ValueError: If there is no such file, it holds no backbone and head, or its head or views
            are not such as examples/pretrain.py makes.
    """
    if not isinstance(transform, STARViewTransform | RecordedTransform | None):
        raise TypeError(
            f"transform: expected a STARTransform or a RecordedTransform, got {describe(transform)}"
        )
    path = check_path("checkpoint", checkpoint)
    if not path.is_file():
        raise ValueError(
            f"checkpoints: expected files of examples/pretrain.py or of the authors, which hold "
            f"the head too, got {str(checkpoint)!r}"
        )
    saved = read_checkpoint(path)
    encoder = open_checkpoint(saved, path)
    if "state_dict" in saved:
        head = _head_of_training(saved["state_dict"], path)
        transform, views = _views_of_training(encoder, path, transform)
        _check_width(head, transform, path)
        data = saved.get("ImageDataModule", {})
        epochs = saved["epoch"] + 1
        settings = {
            "checkpoint": f"{path}, after {epochs} epoch{'s' * (epochs != 1)}",
            "trained on": (
                f"{data['images']:,} images of {data['dataset']}, batch {data['batch_size']}, "
                f"seed {data['seed']}"
                if data
                else "unknown: of a script of the user's own"
            ),
            "views": views,
        }
        beside = _beside(saved["state_dict"])
    else:
        # In the backbone's precision, whatever the file's.
        head = load_official_checkpoint(path).head.float()
        if transform is None:
            transform = STARTransform(encoder.input_size, normalize=encoder.normalize)
        _check_width(head, transform, path)
        settings = {
            "checkpoint": f"{path}, of the authors",
            "trained on": "ImageNet100" if encoder.input_size == 224 else "STL10",
            "views": f"{encoder.input_size} pixels, the paper's settings",
        }
        beside = ""
    settings["backbone"] = _describe(encoder.backbone)
    settings["head"] = _describe_head(head) + beside
    return Trained(encoder.backbone.eval(), head.eval(), transform, settings)


def _head_of_training(state: Mapping[str, Tensor], path: Path) -> STARProjectionHead:
    weights = {k.removeprefix(_HEAD): t for k, t in state.items() if k.startswith(_HEAD)}
    linear = [t for k, t in weights.items() if k.startswith("experts.layers.") and t.ndim == 3]
    if not linear:
        raise ValueError(f"checkpoints: {path} holds no head of star_head")
    num_experts, hidden_dim, input_dim = linear[0].shape
    # Fixed routings are not saved; they tell themselves by the number of experts.
    fixed: dict[int, Routing] = {1: "invariant", 2: "separate", 3: "shared"}
    learned = "experts.router.weight" in weights
    mean = weights.get("predictor.mean")
    try:
        head = STARProjectionHead(
            input_dim,
            hidden_dim,
            linear[-1].shape[1],
            num_experts=num_experts,
            num_layers=len(linear),
            routing="mmoe" if learned else fixed[num_experts],
            parameter_dim=None if mean is None else len(mean),
        )
        head.load_state_dict(weights)
    except Exception as error:  # whatever comes of a damaged file
        raise ValueError(
            f"checkpoints: the head in {path} is not such as examples/pretrain.py builds: {error}"
        ) from error
    return head


def _beside(state: Mapping[str, Tensor]) -> str:
    """What stood beside the head: AugSelf has a head for each of its tasks."""
    task = [name for name in state if name.startswith("star.task.")]
    if not task:
        return ""
    several = any(name.startswith("star.task.heads.") for name in task)
    return f", with {'AugSelf' if several else 'E-SSL'}"


def _check_width(
    head: STARProjectionHead, transform: STARViewTransform | RecordedTransform, path: Path
) -> None:
    if head.predictor is None or head.predictor.parameter_dim == len(transform.parameters):
        return
    raise ValueError(
        f"transform: expected the one that {path} was trained with, whose head takes "
        f"{head.predictor.parameter_dim} parameters, got one that records "
        f"{len(transform.parameters)}; pass open_trained(checkpoint, transform=...)"
    )


def _views_of_training(
    encoder: Encoder, path: Path, given: STARViewTransform | RecordedTransform | None
) -> tuple[STARViewTransform | RecordedTransform, str]:
    if given is not None:
        return given, f"{encoder.input_size} pixels, {_describe_transform(given)}"
    config = path.parent.parent / "config.yaml"
    if not config.is_file():
        views = STARTransform(encoder.input_size, normalize=encoder.normalize)
        written = f"{encoder.input_size} pixels, the paper's settings"
        return views, f"{written}, since the run has left no config.yaml"
    try:
        data = yaml.safe_load(config.read_text(encoding="utf-8"))["data"]
        chosen = data["transform"]
        if chosen is None or str(chosen["class_path"]).rpartition(".")[2] == "STARTransform":
            return _star_views(encoder, {} if chosen is None else chosen["init_args"])
        return _recorded_views(encoder, chosen, data)
    except Exception as error:  # whatever a file can hold
        raise ValueError(
            f"checkpoints: {config} does not say how views are made: {error}; if this is your own "
            f"run, pass open_trained(checkpoint, transform=...) with its transform"
        ) from error


def _star_views(encoder: Encoder, given: Mapping[str, Any]) -> tuple[STARTransform, str]:
    """STARTransform as a run's config.yaml gives its arguments."""
    own: dict[str, Any] = {"input_size": encoder.input_size, "normalize": encoder.normalize}
    arguments = dict(given)
    defaults = inspect.signature(STARTransform).parameters
    unknown = arguments.keys() - defaults.keys()
    if unknown:
        raise ValueError(f"{', '.join(map(str, unknown))}: no arguments of STARTransform")
    STARTransform(**arguments)  # refuses what is out of range
    others = [
        f"{name} {value}"
        for name, value in arguments.items()
        if name not in own and value != _as_yaml(defaults[name].default)
    ]
    settings = f"{encoder.input_size} pixels, the paper's settings"
    return STARTransform(**arguments | own), ", ".join([settings, *others])


def _recorded_views(
    encoder: Encoder, chosen: Any, data: Mapping[str, Any]
) -> tuple[RecordedTransform, str]:
    """Any other transform, as the run had it."""
    wide = {
        name: None if data.get(name) is None else tuple(data[name])
        for name in ("pixel_range", "background")
    }
    transform = RecordedRGBTransform(build_transform(chosen), **wide)
    if transform.input_size != encoder.input_size or transform.normalize != encoder.normalize:
        raise ValueError(
            f"the encoder was trained on views of {encoder.input_size} pixels, normalised by "
            f"{encoder.normalize}, and the transform makes them of {transform.input_size}, by "
            f"{transform.normalize}"
        )
    return transform, f"{encoder.input_size} pixels, {_describe_transform(transform)}"


def _describe_transform(transform: STARViewTransform | RecordedTransform) -> str:
    wrapped = getattr(transform, "transform", transform)
    return f"{type(wrapped).__name__}, {len(transform.parameters)} parameters recorded"


def _as_yaml(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _describe(backbone: nn.Module) -> str:
    model: Any = backbone
    parameters = sum(p.numel() for p in model.parameters())
    name = model.pretrained_cfg["architecture"]
    return f"{name}, {parameters / 1e6:.1f} million parameters, {model.num_features:,} features"


def _describe_head(head: STARProjectionHead) -> str:
    experts = head.experts.num_experts
    names = {
        "mmoe": f"STAR-MMoE, {experts} experts",
        "shared": "STAR-SS, 3 experts",
        "separate": "separate heads, 2 experts",
        "invariant": "SimCLR, 1 expert",
    }
    return names[head.routing]
