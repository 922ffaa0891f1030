"""From a container of kornia's to what its augmentations' parameters tell, image by image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from kornia import augmentation as kornias
from kornia.augmentation.auto.base import PolicyAugmentBase
from kornia.augmentation.base import _AugmentationBase
from torch import Tensor, nn

from star_head.augmentation import ParameterSpec

from .canvas import Canvas
from .geometry import GEOMETRY
from .intensity import INTENSITY
from .known import Known, probability

KNOWN = {**GEOMETRY, **INTENSITY}
TAUGHT: dict[type, Known] = {}
"""Classes that users have registered."""

# What each of these draws is more than numbers can hold, or not of one image.
_UNTOLD = {
    "AutoAugment": "draws a choice of operations within itself",
    "PatchMix": "mixes the images of a batch",
    "PatchSequential": "draws for every patch",
    "RandAugment": "draws a choice of operations within itself",
    "RandomChannelDropout": "draws a set of channels",
    "RandomChannelShuffle": "draws an order of channels",
    "RandomCutMixV2": "mixes the images of a batch",
    "RandomDissolving": "draws noise within itself, which cannot be replayed",
    "RandomElasticTransform": "draws a shift for every pixel",
    "RandomGaussianIllumination": "draws a field of light",
    "RandomGaussianNoise": "draws noise for every pixel",
    "RandomJigsaw": "draws an order of pieces",
    "RandomLinearCornerIllumination": "draws a field of light",
    "RandomLinearIllumination": "draws a field of light",
    "RandomMixUpV2": "mixes the images of a batch",
    "RandomMosaic": "mixes the images of a batch",
    "RandomPlasmaBrightness": "draws a field of light",
    "RandomPlasmaContrast": "draws a field of light",
    "RandomPlasmaShadow": "draws a field of light",
    "RandomRain": "draws a place for every drop",
    "RandomSaltAndPepperNoise": "draws noise for every pixel",
    "RandomSnow": "draws a field of snow",
    "RandomThinPlateSpline": "draws a shift for every point of a grid",
    "RandomTransplantation": "mixes the images of a batch",
    "TrivialAugment": "draws a choice of operations within itself",
    "VideoSequential": "is for videos",
}
# These leave the images' size as it is and draw nothing.
_PLAIN = ("kornia.color.", "kornia.enhance.", "kornia.filters.")
# kornia does not keep all that these draw.
_NOT_REPLAYED = ("RandomDissolving",)


def lookup(of: type) -> Known | None:
    """What is known of a class of augmentations."""
    if of in TAUGHT:
        return TAUGHT[of]
    return KNOWN.get(of.__name__) if getattr(kornias, of.__name__, None) is of else None


class Leaf:
    """An augmentation.

    Attributes:
        operation: It.
        known: What is known of it; ``None`` where nothing of it is recorded.
        parameters: Its numbers.
        columns: The column of each of them by its own name, given from outside.
    """

    def __init__(self, operation: nn.Module, known: Known | None, conditional: bool) -> None:
        self.operation = operation
        self.known = known
        self.parameters: tuple[ParameterSpec, ...] = ()
        self.columns: dict[str, int] = {}
        self.always = not conditional
        if known is not None and isinstance(operation, _AugmentationBase):
            often = probability(operation)
            names = known.recorded(operation, conditional or often < 1) if often else ()
            self.parameters = tuple(n for n in known.numbers if n.name in names)
            self.always = self.always and (often == 1 or not known.fixed)


class Tree:
    """A container.

    Args:
        container: kornia's.
        unrecorded: Augmentations, or classes of them, of which nothing is to be recorded.
        met: Gets the indices of those of ``unrecorded`` that are in it.
        conditional: Whether something above it decides if it is reached.

    Raises:
        TypeError: If there is something in it that is not known.
        ValueError: If it may choose an augmentation twice.
    """

    def __init__(
        self,
        container: Any,
        unrecorded: Sequence[Any],
        met: set[int],
        conditional: bool = False,
    ) -> None:
        self.container = container
        self.children: dict[str, Leaf | Tree] = {}
        weights = container.random_apply_weights.tolist()
        if container.random_apply:
            fewest, above = container.random_apply
            possible = sum(weight > 0 for weight in weights)
            if above - 1 > min(sum(weights), possible):
                raise ValueError(
                    f"augmentation: random_apply may choose {above - 1} of {possible} members "
                    f"with weights of {sum(weights):g} in all, and then one more than once, for "
                    f"which there is no one number; expected at most as many"
                )
            conditional = conditional or fewest < len(weights)
        for name, child in container.named_children():
            self.children[name] = self._build(child, unrecorded, met, conditional)

    def _build(
        self, child: nn.Module, unrecorded: Sequence[Any], met: set[int], conditional: bool
    ) -> Leaf | Tree:
        known = lookup(type(child))
        for i, left_out in enumerate(unrecorded):
            if child is left_out or type(child) is left_out:
                met.add(i)
                if not isinstance(child, _AugmentationBase | PolicyAugmentBase) or (
                    type(child).__name__ in _NOT_REPLAYED
                ):
                    raise TypeError(_unknown(child, remedy=False))
                leaf = Leaf(child, known, conditional)
                leaf.parameters = ()
                return leaf
        if known is not None:
            return Leaf(child, known, conditional)
        if type(child) in (kornias.AugmentationSequential, kornias.ImageSequential):
            return Tree(child, unrecorded, met, conditional)
        if type(child) is nn.Identity or type(child).__module__.startswith(_PLAIN):
            fixed = Known(original=lambda operation, images: operation(images), fixed=True)
            return Leaf(child, fixed, conditional)
        raise TypeError(_unknown(child))

    def leaves(self) -> Iterator[Leaf]:
        """The augmentations in it, in the order of the container."""
        for child in self.children.values():
            if isinstance(child, Leaf):
                yield child
            else:
                yield from child.leaves()

    def draws_for_batches(self) -> bool:
        """Whether anything is drawn for a whole batch that tells in the numbers."""
        own = bool(self.container.random_apply)
        return own or any(
            child.draws_for_batches()
            if isinstance(child, Tree)
            else getattr(child.operation, "same_on_batch", False)
            or getattr(child.operation, "p_batch", 1) < 1
            for child in self.children.values()
        )

    def parts(self) -> Iterator[str]:
        """What tells it from other containers."""
        yield f"{type(self.container).__name__}(random_apply={self.container.random_apply})"
        for child in self.children.values():
            if isinstance(child, Leaf):
                yield repr(child.operation)
            else:
                yield from child.parts()

    def read(self, params: Sequence[Any], canvas: Canvas, values: Tensor) -> Canvas:
        """Put into (B, P) values what a container's parameters tell; the canvas after it."""
        for item in params:
            child = self.children[item.name]
            if isinstance(child, Tree):
                canvas = child.read(item.data, canvas, values)
            elif child.known is not None and isinstance(item.data, Mapping):
                canvas = _read(child, child.known, item.data, canvas, values)
        return canvas

    def original(self, images: Tensor) -> Tensor:
        """Images as what is the same for every view leaves them."""
        for child in self.children.values():
            if isinstance(child, Tree):
                images = child.original(images)
            elif child.known is not None and child.always:
                images = child.known.original(child.operation, images)
        return images


def number_columns(before: Sequence[ParameterSpec], tree: Tree) -> tuple[ParameterSpec, ...]:
    """Give every number of a tree its column after some others; a name that is taken is counted."""
    columns = list(before)
    taken = {number.name for number in before}
    for leaf in tree.leaves():
        for number in leaf.parameters:
            name, count = number.name, 1
            while name in taken:
                count += 1
                name = f"{number.name} {count}"
            taken.add(name)
            leaf.columns[number.name] = len(columns)
            columns.append(number._replace(name=name))
    return tuple(columns)


def _read(
    leaf: Leaf, known: Known, params: Mapping[str, Tensor], canvas: Canvas, values: Tensor
) -> Canvas:
    # On the CPU, whichever device kornia draws on.
    kept = {key: value.detach().cpu() for key, value in params.items() if _is_tensor(value)}
    applied = (kept["batch_prob"].reshape(-1) > 0.5).expand(len(values))
    if leaf.columns:
        told = known.read(leaf.operation, kept, canvas)
        missing = [name for name in leaf.columns if name not in told]
        if missing:
            raise ValueError(
                f"read: expected values of {list(leaf.columns)} for "
                f"{type(leaf.operation).__name__}, without {missing}: got {list(told)}"
            )
        for name, column in leaf.columns.items():
            value = told[name].to(values).expand(len(values))
            values[:, column] = torch.where(applied, value, values[:, column])
    return known.after(leaf.operation, kept, canvas, applied)


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


def _unknown(operation: nn.Module, remedy: bool = True) -> str:
    cls = type(operation)
    theirs = cls.__module__.startswith("kornia.")
    reason = _UNTOLD.get(cls.__name__) if theirs else None
    if not isinstance(operation, _AugmentationBase | PolicyAugmentBase):
        return (
            f"augmentation: {cls.__module__}.{cls.__qualname__} "
            f"{reason or 'is none of the augmentations whose draws kornia keeps'}, so it cannot be "
            f"replayed; apply it before or after"
        )
    told = f"augmentation: {cls.__module__}.{cls.__qualname__} {reason or 'is not known'}"
    if not remedy or cls.__name__ in _NOT_REPLAYED:
        return f"{told}; apply it before or after"
    return (
        f"{told}, so it cannot be recorded; teach it by star_head.adapters.kornia.register, or "
        f"leave it out of the parameters by unrecorded=[...]"
    )
