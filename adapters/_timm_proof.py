"""Proof that a description of a model gives the model: rebuild it, and compare features."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from timm.models._manipulate import reinit_non_persistent_buffers
from torch import Tensor, nn
from torch.func import functional_call

from ._timm_backbones import describe_backbone, rebuild_backbone
from ._timm_width import image_shape

_REMEDY = (
    "what was changed by hand is not in the description: give it to create_backbone as an "
    "argument; or wrap the model in a module of your own, such as nn.Sequential(model), and save "
    "its state_dict with torch.save"
)


def prove_description(backbone: nn.Module) -> dict[str, Any]:
    """Describe a timm model as :func:`describe_backbone` does, and show that this is the model.

    Raises:
        ValueError: If the model that is rebuilt has other weights, or computes other features
            with the same; the error says what differs.
    """
    description = describe_backbone(backbone)
    rebuild_with_weights(backbone, description)
    return description


def rebuild_with_weights(backbone: nn.Module, description: Mapping[str, Any]) -> Any:
    """Build a model as described on the memory of another's weights; compare the two's features.

    Built on the meta device, it takes neither time to initialise nor memory. Both see one image
    in evaluation mode, less than a hundredth of a training step of 64 images with three views
    each. The random state stays as it is.

    Args:
        backbone: A model, of timm or not, which stays as it is.
        description: As :func:`describe_backbone` writes it; a classifier is added.

    Returns:
        The model that was rebuilt, which shares the other's weights.

    Raises:
        ValueError: If its weights have other names or shapes, or its features differ.
    """
    state = backbone.state_dict()

    def build() -> Any:
        rebuilt: Any = rebuild_backbone(description)
        if getattr(backbone, "num_classes", 0) and hasattr(backbone, "pretrained_cfg"):
            rebuilt.reset_classifier(backbone.num_classes)
        _compare_weights(state, rebuilt.state_dict())
        rebuilt.load_state_dict(state, assign=True)
        return rebuilt

    rebuilt = _build_without_memory(build)
    rebuilt.to(next(iter(backbone.parameters())).device)
    rebuilt.train(backbone.training)
    _compare_features(backbone, rebuilt)
    return rebuilt


def _build_without_memory(build: Callable[[], Any]) -> Any:
    """Build on the meta device, or in memory where buffers that are not saved need that."""
    with torch.device("meta"):
        rebuilt = build()
    for module in rebuilt.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta:
                module.register_buffer(name, _unset(buffer), persistent=False)
    reinit_non_persistent_buffers(rebuilt)
    if any(torch.equal(buffer, _unset(buffer)) for buffer in rebuilt.buffers()):
        with torch.random.fork_rng(devices=[]):
            rebuilt = build()
    return rebuilt


def _unset(buffer: Tensor) -> Tensor:
    """A tensor of values that no buffer has."""
    value = float("inf") if buffer.is_floating_point() else torch.iinfo(buffer.dtype).min
    return torch.full_like(buffer, value, device="cpu")


def _compare_weights(state: Mapping[str, Any], described: Mapping[str, Any]) -> None:
    def shape(tensors: Mapping[str, Any], name: str) -> Any:
        if name not in tensors:
            return "absent"
        value = tensors[name]
        return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__

    _refuse_if(
        [
            f"{name} is {shape(state, name)}, and {shape(described, name)} as described"
            for name in sorted(state.keys() | described.keys())
            if shape(state, name) != shape(described, name)
        ],
        "weights",
    )


@torch.no_grad()
def _compare_features(backbone: nn.Module, rebuilt: nn.Module) -> None:
    """Raise unless both make the same of an image, also of branches that have just been begun.

    Many a model starts branches at zero, by a norm's or a layer's scale: vectors, which are moved
    away from zero in both.
    """
    weight = next(iter(backbone.parameters()))
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, *image_shape(rebuilt), generator=generator).to(weight)
    vectors = {
        name: torch.where(tensor.abs() < 0.1, tensor + 0.5, tensor)
        for name, tensor in backbone.named_parameters()
        if tensor.is_floating_point() and tensor.numel() == max(tensor.shape, default=1)
    }
    ours = _features(backbone, vectors, images)
    theirs = _features(rebuilt, vectors, images)
    # The same operations on the same memory: only a kernel chosen anew could round otherwise.
    tolerance = 16 * torch.finfo(weight.dtype).eps
    if ours.shape == theirs.shape and torch.allclose(
        ours, theirs, rtol=tolerance, atol=tolerance * ours.abs().max().item(), equal_nan=True
    ):
        return
    others = dict(rebuilt.named_modules())
    differences = [
        f"{name or 'the model'} is {_say(module)}, and {_say(others.get(name))} as described"
        for name, module in backbone.named_modules()
        if _say(module) != _say(others.get(name))
    ]
    # What is merely named otherwise says the least.
    differences.sort(key=lambda said: said.endswith("absent as described"))
    _refuse_if(
        differences
        or ["the layers are the same: a forward pass, a hook, a buffer or an attribute is not"],
        "features",
    )


def _features(model: nn.Module, vectors: dict[str, Tensor], images: Tensor) -> Tensor:
    device = images.device.type
    with (
        _evaluating(model),
        torch.autocast(device, enabled=False),
        torch.compiler.set_stance("force_eager"),
    ):
        # Untied: PyTorch puts back the wrong tensor where modules are shared.
        features = functional_call(model, vectors, (images,), tie_weights=False)
    if not isinstance(features, Tensor):
        raise ValueError(f"backbone: expected features (B, D), got {type(features).__name__}")
    return features.float() if features.dtype.itemsize < 4 else features


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and each module's own mode after."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _say(module: nn.Module | None) -> str:
    if module is None:
        return "absent"
    own = module.extra_repr() if not list(module.children()) else ""
    return f"{type(module).__name__}({own})"


def _refuse_if(differences: list[str], kind: str) -> None:
    if differences:
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise ValueError(
            f"backbone: the model that is rebuilt from its description has other {kind}: "
            f"{'; '.join(differences[:3])}{more}; {_REMEDY}"
        )
