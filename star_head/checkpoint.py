"""Import of the checkpoints that STAR's authors released.

Source: the layout that the authors' training program saves (arXiv 2510.27222).
"""

import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from star_head._checkpoint_files import read_tensors
from star_head.augmentation import Parameter
from star_head.equivariance import StatisticsLike, resolve_statistics
from star_head.head import STARProjectionHead

_PARTS = ("backbone", "projectors", "p_projector", "eq_predictor", "gatingnetwork")


class OfficialCheckpoint(NamedTuple):
    """What an authors' checkpoint holds.

    Attributes:
        backbone: State dict of a ResNet without ``fc``, in torchvision's names, which are timm's.
        head: The head with its weights: experts, routers, parameter encoder and predictor.
    """

    backbone: dict[str, Tensor]
    head: STARProjectionHead


def load_official_checkpoint(
    path: str | os.PathLike[str], statistics: StatisticsLike | None = None
) -> OfficialCheckpoint:
    """Load an authors' checkpoint, of one GPU or several, on the CPU.

    The file is read with ``weights_only=True``: nothing in it is run.

    Args:
        path: Path of the file.
        statistics: Those of the augmentation parameters, which the file lacks; default: STL10's
            for a ResNet of basic blocks (the paper's ResNet-18), ImageNet100's for one of
            bottlenecks (its ResNet-50).

    Returns:
        Backbone weights and head. ``create_backbone("resnet18").load_state_dict(...)`` takes the
        former.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If ``statistics`` are none, or the file is truncated, holds anything but tensors
            and plain containers, or is no checkpoint of a routed head.
    """
    if statistics is not None:
        statistics = resolve_statistics(statistics, len(Parameter))
    saved = read_tensors(path, "path")
    missing = [part for part in _PARTS if not isinstance(_get(saved, part), Mapping)]
    if missing:
        raise ValueError(
            f"path: expected an authors' checkpoint with {', '.join(_PARTS)}; "
            f"{path} lacks {', '.join(missing)}"
        )
    try:
        # DDP wrapped some parts of a run on several GPUs.
        parts = {
            part: {re.sub(r"(^|\.)module\.", r"\1", name): t for name, t in saved[part].items()}
            for part in _PARTS
        }
        state = _head_state(parts)
        hidden_dim, input_dim = state["experts.layers.0.weight"].shape[1:]
        num_experts, output_dim, _ = state["experts.layers.6.weight"].shape
        if statistics is None:
            bottlenecks = "layer1.0.conv3.weight" in parts["backbone"]
            statistics = "imagenet100" if bottlenecks else "stl10"
        head = STARProjectionHead(
            input_dim,
            hidden_dim,
            output_dim,
            num_experts=num_experts,
            statistics=statistics,
            dtype=state["experts.layers.0.weight"].dtype,
        )
        own = head.state_dict()
        head.load_state_dict(
            state | {f"predictor.{name}": own[f"predictor.{name}"] for name in ("mean", "std")}
        )
    except Exception as error:  # whatever comes of a damaged file
        raise ValueError(f"path: {path} does not hold a whole routed head: {error}") from error
    return OfficialCheckpoint(parts["backbone"], head)


def _get(saved: Any, part: str) -> Any:
    return saved.get(part) if isinstance(saved, Mapping) else None


def _head_state(parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """A head's state dict: experts stacked, the two routers' rows one after the other."""
    projectors = parts["projectors"]
    experts = sorted({int(name.partition(".")[0]) for name in projectors})
    layers = sorted({name.partition(".")[2] for name in projectors})
    state = {}
    for layer in layers:
        stacked = torch.stack([projectors[f"{k}.{layer}"] for k in experts])
        if layer.endswith("num_batches_tracked"):
            stacked = stacked[0]
        elif layer.startswith(("1.", "4.")):  # norms span all experts' channels
            stacked = stacked.flatten()
        state[f"experts.layers.{layer}"] = stacked
    for kind in ("weight", "bias"):
        state[f"experts.router.{kind}"] = torch.cat(
            [parts["gatingnetwork"][f"gating_fc.{task}.{kind}"] for task in (0, 1)]
        )
        state[f"predictor.psi.{kind}"] = parts["p_projector"][f"0.{kind}"]
    return state | {f"predictor.phi.{name}": t for name, t in parts["eq_predictor"].items()}
