"""From a transform to the tree of what it does."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torchvision import transforms as first
from torchvision.transforms import v2 as second

from . import own, v1, v2
from .operation import Fixed, Known, Operation
from .tree import Choice, FixedLeaf, Node, RandomLeaf, Shuffled, Sometimes, Steps, Unrecorded

TAUGHT: dict[type, Operation] = {}
"""Classes that users have registered."""

# What each of these draws is more than numbers can hold.
_UNTOLD = {
    "AmplitudeRescaleTransform": "draws a number for every frequency",
    "AugMix": "draws a chain of operations within itself",
    "AutoAugment": "draws a choice of operations within itself",
    "CutMix": "mixes the images of a batch",
    "ElasticTransform": "draws a shift for every pixel",
    "FiveCrop": "makes several images",
    "GaussianMixtureMask": "draws a mask of any number of Gaussians",
    "GaussianNoise": "draws noise for every pixel",
    "MixUp": "mixes the images of a batch",
    "RandAugment": "draws a choice of operations within itself",
    "RandomChannelPermutation": "draws an order of any number of channels",
    "RandomFrequencyMaskTransform": "draws a mask of every frequency",
    "RandomIoUCrop": "draws by bounding boxes",
    "RandomPhotometricDistort": "draws an order of any number of channels",
    "TenCrop": "makes several images",
    "TrivialAugmentWide": "draws a choice of operations within itself",
}

# lightly's transforms that hold a torchvision transform and call it.
_VIEWS = {
    "BYOLView1Transform",
    "BYOLView2Transform",
    "DINOViewTransform",
    "FDAView1Transform",
    "FDAView2Transform",
    "IBOTViewTransform",
    "IJEPATransform",
    "MSNViewTransform",
    "RandomRotateDegrees",
    "SimCLRViewTransform",
    "SimSiamViewTransform",
    "SmoGViewTransform",
    "SwaVViewTransform",
    "ToTensor",
    "VICRegLViewTransform",
    "VICRegViewTransform",
}
# Those that put their one view into a list.
_LISTED = {"CAPITransform", "MAETransform"}
_MULTI = {"MultiViewTransform", "MultiViewTransformV2"}
# Whose views are each made by two: a crop, which gives a grid too, and the rest.
_GRIDS = {"ImageGridTransform"}
# Makes pieces of an image, which follow as they are.
_PIECES = {"Jigsaw"}

# get_params is called by the operation itself, and so by its entry, as it is overridden.
_NOT_BEHAVIOUR = {
    "get_params",
    "__init__",
    "__repr__",
    "__str__",
    "extra_repr",
    "__init_subclass__",
}


def _kin(of: type) -> list[type]:
    """A class, and the bases from which it has all that it does."""
    kin: list[type] = []
    for cls in of.__mro__:
        kin.append(cls)
        if any(callable(v) and k not in _NOT_BEHAVIOUR for k, v in vars(cls).items()):
            break
    return kin


def _lightlys(operation: Any, names: set[str]) -> bool:
    return any(
        cls.__module__.startswith("lightly.transforms.") and cls.__name__ in names
        for cls in _kin(type(operation))
    )


def lookup(of: type) -> Known | None:
    """What is known of a class of operations."""
    for cls in _kin(of):
        if cls in TAUGHT:
            return TAUGHT[cls]
        name = cls.__name__
        if getattr(second, name, None) is cls:
            return v2.KNOWN.get(name)
        if getattr(first, name, None) is cls:
            return v1.KNOWN.get(name)
        if cls.__module__.startswith("lightly.transforms."):
            return own.KNOWN.get(name)
    return None


def views_of(transform: Any) -> list[Any] | None:
    """The transforms of the views that a transform makes, or ``None`` where it makes one."""
    if _lightlys(transform, _MULTI | _GRIDS):
        return list(transform.transforms)
    if _lightlys(transform, _LISTED):
        return [transform.transform]
    return None


def gives_grids(transform: Any) -> bool:
    """Whether it gives the grids of its views after them."""
    return _lightlys(transform, _GRIDS)


def makes_pieces(transform: Any) -> bool:
    """Whether it makes pieces of an image rather than a view."""
    return _lightlys(transform, _PIECES)


class Builder:
    """Makes trees.

    Args:
        unrecorded: Operations, or classes of them, of which nothing is to be recorded.
    """

    def __init__(self, unrecorded: Sequence[Any]) -> None:
        self.unrecorded = list(unrecorded)
        self.met = [False] * len(self.unrecorded)

    def build(self, operation: Any, conditional: bool = False) -> Node:
        """The tree of a transform of one view.

        Args:
            operation: The transform.
            conditional: Whether something above it decides if it is reached.

        Raises:
            TypeError: If there is an operation in it that is not known.
        """
        name = type(operation).__name__
        for i, left_out in enumerate(self.unrecorded):
            if operation is left_out or type(operation) is left_out:
                self.met[i] = True
                return Unrecorded(operation)
        known = lookup(type(operation))
        if isinstance(known, Fixed):
            return FixedLeaf(operation, known, conditional)
        if known is not None:
            return RandomLeaf(operation, known, conditional)
        if isinstance(operation, list | tuple | nn.ModuleList):
            return Steps("list", [self.build(child, conditional) for child in operation])
        if _lightlys(operation, _VIEWS):
            return Steps(name, [self.build(operation.transform, conditional)])
        kin = _kin(type(operation))
        if first.Compose in kin or second.Compose in kin:
            return self._steps(name, operation.transforms, conditional)
        if nn.Sequential in kin:
            return self._steps(name, list(operation), conditional)
        if first.RandomApply in kin or second.RandomApply in kin:
            return self._sometimes(operation, first.RandomApply in kin, conditional)
        if first.RandomChoice in kin or second.RandomChoice in kin:
            return self._choice(operation, first.RandomChoice in kin, conditional)
        if first.RandomOrder in kin or second.RandomOrder in kin:
            children = [self.build(child, conditional) for child in operation.transforms]
            order = _shuffle if first.RandomOrder in kin else _permute
            return Shuffled(name, children, lambda: order(len(children)))
        raise TypeError(_unknown(operation))

    def _steps(self, name: str, children: Sequence[Any], conditional: bool) -> Steps:
        return Steps(name, [self.build(child, conditional) for child in children])

    def _sometimes(self, operation: Any, is_first: bool, conditional: bool) -> Node:
        p = operation.p
        steps = self._steps("steps", list(operation.transforms), conditional or p < 1)
        if p == 0:
            _silence(steps)

        def applied() -> bool:
            # The two generations differ where the draw equals the probability.
            drawn = torch.rand(1)
            return not p < drawn if is_first else not drawn >= p

        return Sometimes(type(operation).__name__, steps, applied, always=p == 1)

    def _choice(self, operation: Any, is_first: bool, conditional: bool) -> Node:
        count = len(operation.transforms)
        weights = operation.p or [1] * count
        several = sum(weight > 0 for weight in weights) > 1
        children = [self.build(child, conditional or several) for child in operation.transforms]
        for child, weight in zip(children, weights, strict=True):
            if not weight:
                _silence(child)

        def choose() -> int:
            if is_first:
                return random.choices(range(count), weights=operation.p)[0]
            return int(torch.multinomial(torch.tensor(operation.p), 1))

        return Choice(type(operation).__name__, children, choose)


def _silence(node: Node) -> None:
    """Take the numbers from what is never applied."""
    for leaf in node.leaves():
        leaf.parameters = ()


def _shuffle(count: int) -> list[int]:
    order = list(range(count))
    random.shuffle(order)
    return order


def _permute(count: int) -> list[int]:
    return torch.randperm(count).tolist()


def _unknown(operation: Any) -> str:
    cls = type(operation)
    if not callable(operation):
        return f"transform: expected an operation on images, got {operation!r}"
    if isinstance(operation, type):
        return (
            f"transform: expected an operation on images, got the class {operation.__name__}; "
            f"give {operation.__name__}(...)"
        )
    if cls.__module__.startswith("kornia."):
        return (
            f"transform: {cls.__module__}.{cls.__qualname__} is kornia's, for batches; "
            f"star_head.adapters.kornia.RecordedTransform records it"
        )
    name = getattr(operation, "__qualname__", f"{cls.__module__}.{cls.__qualname__}")
    theirs = cls.__module__.partition(".")[0] in ("torchvision", "lightly")
    reason = _UNTOLD.get(cls.__name__) if theirs else None
    return (
        f"transform: {name} {reason or 'is not a known operation'}, so it cannot be recorded; "
        f"teach it by star_head.adapters.torchvision.register, or leave it out of the parameters "
        f"by unrecorded=[...]. Where it makes several views, give the transform of one view; "
        f"copies= says how many are made"
    )
