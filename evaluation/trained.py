"""Opening all that a pretraining checkpoint holds: the encoder, its head and its views."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

try:
    import yaml

    from star_head.adapters.lightly import STARTransform, STARViewTransform
except ImportError as error:
    raise ImportError(
        "star_head.evaluation opens checkpoints by lightly and PyYAML: pip install "
        '"star-head[evaluation]"'
    ) from error

from star_head import STARProjectionHead
from star_head._checkpoint_files import read_checkpoint
from star_head._checks import check_path
from star_head.checkpoint import load_official_checkpoint
from star_head.evaluation.networks import open_checkpoint
from star_head.evaluation.preparation import Encoder
from star_head.head import Routing

_HEAD = "star.head."


class Trained(NamedTuple):
    """A pretrained network, in evaluation mode.

    Attributes:
        backbone: From images (B, 3, S, S) to features (B, D).
        head: From features to embeddings.
        transform: Makes the views that it was trained on.
        settings: What the checkpoint says of its run, for a reader.
    """

    backbone: nn.Module
    head: STARProjectionHead
    transform: STARViewTransform
    settings: dict[str, str]


def open_trained(checkpoint: str | Path) -> Trained:
    """Open a checkpoint of examples/pretrain.py or of the authors; nothing in the file is run.

    How views are made is read from the run's config.yaml, where that lies above the checkpoint's
    folder, as examples/pretrain.py leaves it; else they are made by the paper's settings, at the
    size and with the normalisation that the encoder was trained with.

    Args:
        checkpoint: Path of the file.

    Raises:
        ValueError: If there is no such file, it holds no backbone and head, or its head or views
            are not such as examples/pretrain.py makes.
    """
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
        transform, views = _views_of_training(encoder, path)
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
    else:
        # In the backbone's precision, whatever the file's.
        head = load_official_checkpoint(path).head.float()
        transform = STARTransform(encoder.input_size, normalize=encoder.normalize)
        settings = {
            "checkpoint": f"{path}, of the authors",
            "trained on": "ImageNet100" if encoder.input_size == 224 else "STL10",
            "views": f"{encoder.input_size} pixels, the paper's settings",
        }
    settings["backbone"] = _describe(encoder.backbone)
    settings["head"] = _describe_head(head)
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
    try:
        head = STARProjectionHead(
            input_dim,
            hidden_dim,
            linear[-1].shape[1],
            num_experts=num_experts,
            num_layers=len(linear),
            routing="mmoe" if learned else fixed[num_experts],
        )
        head.load_state_dict(weights)
    except Exception as error:  # whatever comes of a damaged file
        raise ValueError(
            f"checkpoints: the head in {path} is not such as examples/pretrain.py builds: {error}"
        ) from error
    return head


def _views_of_training(encoder: Encoder, path: Path) -> tuple[STARTransform, str]:
    own: dict[str, Any] = {"input_size": encoder.input_size, "normalize": encoder.normalize}
    settings = f"{encoder.input_size} pixels, the paper's settings"
    config = path.parent.parent / "config.yaml"
    if not config.is_file():
        return STARTransform(**own), f"{settings}, since the run has left no config.yaml"
    try:
        arguments = _arguments_of_views(config)
    except Exception as error:  # whatever a file can hold
        raise ValueError(
            f"checkpoints: {config} does not say how STARTransform makes views: {error}"
        ) from error
    defaults = inspect.signature(STARTransform).parameters
    others = [
        f"{name} {value}"
        for name, value in arguments.items()
        if name not in own and value != _as_yaml(defaults[name].default)
    ]
    return STARTransform(**arguments | own), ", ".join([settings, *others])


def _arguments_of_views(config: Path) -> dict[str, Any]:
    """STARTransform's arguments as a run's config.yaml gives them; no other is made of them."""
    chosen = yaml.safe_load(config.read_text(encoding="utf-8"))["data"]["transform"]
    if chosen is None:
        return {}
    name = chosen["class_path"]
    if name.rpartition(".")[2] != "STARTransform":
        raise ValueError(f"views are made by STARTransform, and it names {name}")
    arguments = dict(chosen["init_args"])
    unknown = arguments.keys() - inspect.signature(STARTransform).parameters.keys()
    if unknown:
        raise ValueError(f"{', '.join(map(str, unknown))}: no arguments of STARTransform")
    STARTransform(**arguments)  # refuses what is out of range
    return arguments


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
