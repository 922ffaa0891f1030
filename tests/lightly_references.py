"""Each method's step as lightly's documentation writes it, in plain torch on a method's weights.

A function returns the invariant task's loss of a batch of views; lightly's losses are built here
anew, as the method's own documentation sets them.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from lightly.loss import (
    BarlowTwinsLoss,
    DCLLoss,
    DINOLoss,
    NTXentLoss,
    SwaVLoss,
    VICRegLoss,
)
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, linear, normalize

from star_head import STARViews


def embed(method: Any, x: Tensor, momentum: str = "") -> Tensor:
    """The invariant embedding, by the online or the momentum network."""
    backbone, head = (getattr(method, name + momentum) for name in ("backbone", "projection_head"))
    z: Tensor = head(backbone(x).flatten(1)).invariant
    return z


@torch.no_grad()
def follow(method: Any, *names: str) -> None:
    """Move the momentum networks towards the online ones: from 0.99 to 1 along a cosine."""
    trainer = method.trainer
    progress = trainer.global_step / (trainer.estimated_stepping_batches - 1)
    m = 1 - 0.01 * (math.cos(math.pi * progress) + 1) / 2
    for name in names:
        online, target = getattr(method, name), getattr(method, f"{name}_momentum")
        for p, q in zip(online.parameters(), target.parameters(), strict=True):
            q.copy_(m * q + (1 - m) * p)


def simclr(method: Any, views: list[Tensor]) -> Tensor:
    return NTXentLoss(0.2)(*(embed(method, x) for x in views))


def dcl(method: Any, views: list[Tensor]) -> Tensor:
    return DCLLoss()(*(embed(method, x) for x in views))


def barlow_twins(method: Any, views: list[Tensor]) -> Tensor:
    return BarlowTwinsLoss()(*(embed(method, x) for x in views))


def vicreg(method: Any, views: list[Tensor]) -> Tensor:
    return VICRegLoss()(*(embed(method, x) for x in views))


def moco(method: Any, views: list[Tensor]) -> Tensor:
    follow(method, "backbone", "projection_head")
    query = normalize(embed(method, views[0]), dim=1)
    with torch.no_grad():
        key = normalize(embed(method, views[1], "_momentum"), dim=1)
    bank = method.criterion.memory_bank.bank.clone()
    logits = torch.cat([(query * key).sum(1, keepdim=True), query @ bank.t()], dim=1)
    loss = nn.functional.cross_entropy(logits / 0.2, torch.zeros(len(key), dtype=torch.long))
    method.criterion.memory_bank.bank[: len(key)] = key
    return loss


def byol(method: Any, views: list[Tensor]) -> Tensor:
    follow(method, "backbone", "projection_head")
    with torch.no_grad():
        targets = [embed(method, x, "_momentum") for x in views]
    predicted = [method.prediction_head(embed(method, x)) for x in views]
    parts = [cosine_similarity(predicted[i], targets[1 - i]).mean() for i in range(2)]
    return -(parts[0] + parts[1]) / 2


def simsiam(method: Any, views: list[Tensor]) -> Tensor:
    z = [method.projection_norm(embed(method, x)) for x in views]
    predicted = [method.prediction_head(i) for i in z]
    parts = [cosine_similarity(predicted[i], z[1 - i].detach()).mean() for i in range(2)]
    return -(parts[0] + parts[1]) / 2


def nnclr(method: Any, views: list[Tensor]) -> Tensor:
    z = [method.projection_norm(embed(method, x)) for x in views]
    predicted = [method.prediction_head(i) for i in z]
    # Both look for neighbours among the bank as it was; the second view's enter it then.
    bank = method.memory_bank.bank.clone()
    neighbours = []
    for i in z:
        similarity = normalize(i.detach(), dim=1) @ normalize(bank, dim=1).t()
        neighbours.append(bank[similarity.argmax(dim=1)])
    method.memory_bank.bank[: len(z[1])] = z[1].detach()
    loss = NTXentLoss(0.2)
    return 0.5 * (loss(neighbours[0], predicted[1]) + loss(neighbours[1], predicted[0]))


def swav(method: Any, views: list[Tensor]) -> Tensor:
    prototypes = method.prototypes.heads[0]
    with torch.no_grad():
        prototypes.weight.copy_(normalize(prototypes.weight, dim=1))
    scores = [prototypes(normalize(embed(method, x), dim=1)) for x in views]
    return SwaVLoss()(scores[:2], scores[2:])


def dino(method: Any, views: list[Tensor]) -> Tensor:
    follow(method, "backbone", "projection_head", "last_layer")

    def outputs(x: Tensor, momentum: str = "") -> Tensor:
        z = normalize(embed(method, x, momentum), dim=1)
        layer = getattr(method, f"last_layer{momentum}")
        return linear(z, normalize(layer.parametrizations.weight.original1, dim=1))

    with torch.no_grad():
        teacher = [outputs(x, "_momentum") for x in views[:2]]
    criterion = DINOLoss(output_dim=1024, warmup_teacher_temp_epochs=5).double()
    criterion.center.copy_(method.criterion.center)
    return criterion(teacher, [outputs(x) for x in views], epoch=method.trainer.current_epoch)


class Reference(NamedTuple):
    """What a method's example is held against.

    Attributes:
        invariant: The method's own loss.
        criterion: Of the equivariant task, on (embeddings, predictions).
        weight: The equivariant task's.
        recorded: How many of the views serve it.
    """

    invariant: Callable[[Any, list[Tensor]], Tensor]
    criterion: Callable[[Tensor, Tensor], Tensor]
    weight: float = 1.0
    recorded: int = 2


REFERENCES = {
    "barlow_twins": Reference(barlow_twins, BarlowTwinsLoss()),
    "byol": Reference(byol, VICRegLoss(), weight=1 / 25),
    "dcl": Reference(dcl, NTXentLoss(0.2)),
    "dino": Reference(dino, VICRegLoss(), weight=1 / 25),
    "moco": Reference(moco, NTXentLoss(0.2), recorded=1),
    "nnclr": Reference(nnclr, NTXentLoss(0.2)),
    "simclr": Reference(simclr, NTXentLoss(0.2)),
    "simsiam": Reference(simsiam, VICRegLoss(), weight=1 / 25),
    "swav": Reference(swav, NTXentLoss(0.2)),
    "vicreg": Reference(vicreg, VICRegLoss()),
}


def step(name: str, method: Any, views: STARViews, with_star: bool) -> Tensor:
    """The whole loss of a training step."""
    reference = REFERENCES[name]
    loss = reference.invariant(method, list(views.views))
    if not with_star:
        return loss
    original, *viewed = (
        method.projection_head(method.backbone(x).flatten(1)).equivariant
        for x in (views.original, *views.views[: reference.recorded])
    )
    predicted = [method.projection_head.predictor(original, p) for p in views.params]
    pairs = list(zip(viewed, predicted, strict=False))
    equivariant = reference.criterion(*(torch.cat(side) for side in zip(*pairs, strict=True)))
    return loss + reference.weight * equivariant
