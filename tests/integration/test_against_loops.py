"""Whole training runs beside loops that know the method's description and nothing of star_head.

Both start from the same weights and see the same views of digits; STARModule trains one under a
Trainer, the other takes its steps by hand.
"""

import copy
import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from star_head import STAR, STARLoss, STARProjectionHead, STARViews
from star_head.adapters.lightly import STARTransform
from star_head.adapters.lightning import STARModule
from star_head.adapters.timm import create_backbone
from star_head.head import Routing

SIDE, BATCH, EPOCHS, STEPS_PER_EPOCH = 16, 16, 5, 10
HIDDEN, DIM = 20, 12
EXPERTS: dict[Routing, int] = {"mmoe": 4, "shared": 3, "separate": 2, "invariant": 1}
TEMPERATURE, LAMBDA = 0.2, 0.7
RATE, MOMENTUM, WEIGHT_DECAY = 0.03, 0.9, 5e-4

pytestmark = pytest.mark.slow


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers: norm, ReLU and no bias but after the last, which has a bias alone."""
    layers: list[nn.Module] = []
    for d_in, d_out in pairwise(widths[:-1]):
        layers += [nn.Linear(d_in, d_out, bias=False), nn.BatchNorm1d(d_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


def nt_xent(first: Tensor, second: Tensor) -> Tensor:
    """Each embedding in turn has to tell its partner among all others."""
    z = torch.stack([row / row.square().sum().sqrt() for row in torch.cat([first, second])])
    total = torch.zeros_like(z[0, 0])
    for i in range(len(z)):
        similarities = z @ z[i] / TEMPERATURE
        others = torch.cat([similarities[:i], similarities[i + 1 :]])
        partner = (i + len(first)) % len(z)
        total = total + others.logsumexp(dim=0) - similarities[partner]
    return total / len(z)


class LoopSTAR(nn.Module):
    """The method by loops over tasks, experts, views and pairs."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, width: int, routing: Routing, params: Tensor) -> None:
        super().__init__()
        self.routing = routing
        self.backbone = backbone
        self.experts = nn.ModuleList(
            mlp(width, HIDDEN, HIDDEN, DIM) for _ in range(EXPERTS[routing])
        )
        if routing == "mmoe":
            self.routers = nn.ModuleList(nn.Linear(width, EXPERTS[routing]) for _ in range(2))
        if routing != "invariant":
            self.psi = nn.Linear(11, DIM)
            self.phi = mlp(2 * DIM, 4 * DIM, 4 * DIM, DIM)
        self.register_buffer("mean", params.mean(dim=0), persistent=False)
        self.register_buffer("std", params.std(dim=0), persistent=False)

    def embed(self, images: Tensor) -> list[Tensor]:
        """The invariant embedding and, where there is one, the equivariant one."""
        y = self.backbone(images.to(self.mean.dtype))
        outputs = [expert(y) for expert in self.experts]
        if self.routing in ("invariant", "separate"):
            return outputs
        if self.routing == "shared":
            invariant, equivariant, shared = outputs
            return [invariant + shared, equivariant + shared]
        embeddings = []
        for router in self.routers:
            shares = router(y).exp()
            z = torch.zeros_like(outputs[0])
            for k, output in enumerate(outputs):
                z = z + (shares[:, k] / shares.sum(dim=1))[:, None] * output
            embeddings.append(z)
        return embeddings

    def predict(self, e0: Tensor, params: Tensor) -> Tensor:
        encoded = self.psi((params - self.mean) / self.std)
        return e0 + self.phi(torch.cat([e0, encoded], dim=1))

    def forward(self, views: STARViews) -> dict[str, Tensor]:
        """The loss and its parts, under the names that STARModule logs."""
        x0, (x1, x2), (a1, a2) = views
        # The description leaves the order of the views open. Running statistics depend on it, and
        # nothing else: star-head takes the original last.
        z1, z2 = self.embed(x1), self.embed(x2)
        invariant = nt_xent(z1[0], z2[0])
        if self.routing == "invariant":
            return {"train_loss": invariant, "train_loss_invariant": invariant}
        e0 = self.embed(x0)[1]
        predicted = [self.predict(e0, a1), self.predict(e0, a2)]
        equivariant = nt_xent(torch.cat([z1[1], z2[1]]), torch.cat(predicted))
        return {
            "train_loss": invariant + LAMBDA * equivariant,
            "train_loss_invariant": invariant,
            "train_loss_equivariant": equivariant,
        }

    def fit(self, batches: list[STARViews]) -> list[dict[str, float]]:
        """SGD by hand; the losses of each step."""
        seen = []
        velocities = [torch.zeros_like(w) for w in self.parameters()]
        for step, views in enumerate(batches):
            epoch = step // STEPS_PER_EPOCH
            rate = RATE * BATCH / 256 * (1 + math.cos(math.pi * epoch / EPOCHS)) / 2
            losses = self(views)
            gradients = torch.autograd.grad(losses["train_loss"], [*self.parameters()])
            with torch.no_grad():
                for w, v, g in zip(self.parameters(), velocities, gradients, strict=True):
                    v.copy_(MOMENTUM * v + g + WEIGHT_DECAY * w)
                    w.sub_(rate * v)
            seen.append({name: loss.item() for name, loss in losses.items()})
        return seen


class Digits(Dataset):
    """Digits, and three over that do not fill a batch."""

    def __init__(self) -> None:
        pixels = load_digits().images[: BATCH * STEPS_PER_EPOCH + 3]
        self.images = [Image.fromarray((p * 255 / 16).astype(np.uint8)) for p in pixels]
        self.transform = STARTransform(SIDE)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> STARViews:
        return self.transform(self.images[index])


def make_loader() -> DataLoader:
    """One seed gives the same batches, a view being drawn when it is asked for."""
    torch.manual_seed(7)
    return DataLoader(Digits(), BATCH, shuffle=True, drop_last=True)


@pytest.fixture(scope="module")
def batches() -> list[STARViews]:
    loader = make_loader()
    return [views for _ in range(EPOCHS) for views in loader]


def make_pair(
    name: str,
    routing: Routing,
    batches: list[STARViews],
    dtype: torch.dtype = torch.float64,
    **kwargs: object,
) -> tuple[STAR, LoopSTAR]:
    """star-head's model and the loops with its weights, on a backbone of timm's."""
    torch.manual_seed(1)
    backbone = create_backbone(name, input_size=SIDE, **kwargs)
    width = backbone.num_features
    params = torch.cat([a for views in batches for a in views.params]).double()
    head = STARProjectionHead(
        width,
        HIDDEN,
        DIM,
        num_experts=EXPERTS[routing],
        routing=routing,
        statistics=(params.mean(dim=0), params.std(dim=0)),
        dtype=dtype,
    )
    star = STAR(backbone.to(dtype), head, STARLoss(TEMPERATURE, LAMBDA))
    loop = LoopSTAR(copy.deepcopy(backbone), width, routing, params).to(dtype)
    loop.load_state_dict(dict(unstacked(star)))
    return star, loop


def unstacked(star: STAR) -> Iterator[tuple[str, Tensor]]:
    """star-head's state under the loops' names: a part for each expert and router."""
    for name, tensor in star.state_dict().items():
        if name.startswith("backbone."):
            yield name, tensor
        elif name.startswith("head.predictor."):
            if not name.endswith((".mean", ".std")):  # known, not learned
                yield name.removeprefix("head.predictor."), tensor
        else:
            _, _, kind, rest = name.split(".", 3)
            owner = "routers" if kind == "router" else "experts"
            count = 2 if kind == "router" else star.head.experts.num_experts
            parts = tensor.chunk(count) if tensor.ndim else [tensor] * count
            for k, part in enumerate(parts):
                # Linear layers are stacked along an axis of their own, norms along their channels.
                yield f"{owner}.{k}.{rest}", part.squeeze(0)


class Losses(Callback):
    def __init__(self) -> None:
        self.seen: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        metrics = trainer.callback_metrics
        self.seen.append({n: metrics[n].item() for n in metrics if n.startswith("train_loss")})


def fit_module(star: STAR, folder: Path, precision: str) -> list[dict[str, float]]:
    """Train by STARModule under a Trainer; the losses of each step."""
    losses = Losses()
    trainer = Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        max_epochs=EPOCHS,
        precision=precision,
        callbacks=[losses],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(STARModule(star, batch_size=BATCH), make_loader())
    return losses.seen


@pytest.mark.parametrize("routing", EXPERTS)
def test_a_run_equals_the_loops(routing: Routing, batches: list[STARViews], tmp_path: Path) -> None:
    star, loop = make_pair("test_resnet", routing, batches, init="paper", channels=(8, 8, 12, 16))
    ours, expected = fit_module(star, tmp_path, "64-true"), loop.fit(batches)
    assert len(ours) == EPOCHS * STEPS_PER_EPOCH
    # What differs is the order of sums: measured at most 2e-11 of a loss, and 3e-11 in the state.
    for step, (seen, losses) in enumerate(zip(ours, expected, strict=True)):
        assert seen == pytest.approx(losses, rel=1e-9), f"step {step}"
    assert ours[-1]["train_loss"] < ours[0]["train_loss"] - 0.5
    torch.testing.assert_close(dict(unstacked(star)), dict(loop.state_dict()), rtol=1e-9, atol=1e-9)


def test_a_run_in_float32_stays_near_the_loops(batches: list[STARViews], tmp_path: Path) -> None:
    # Rounding alone grows from 1e-7 of a loss to 3e-6. It leaps where a ReLU's input is so near 0
    # that the two sides disagree on its sign: measured first at step 19, at nearly every step from
    # 31 on, and 3e-4 of a loss at most. This ViT has no ReLUs but the head's; on the ResNet above
    # two float32 runs are 4% apart within 10 steps, and nothing can be told. In the end the weights
    # are up to 1.6% of their way apart, by the number of threads that add them up.
    star, loop = make_pair("test_vit", "mmoe", batches, torch.float32, patch_size=8)
    start = flat(loop.state_dict())
    ours, expected = fit_module(star, tmp_path, "32-true"), loop.fit(batches)
    for step, (seen, losses) in enumerate(zip(ours, expected, strict=True)):
        assert seen == pytest.approx(losses, rel=1e-5 if step < 5 else 1e-2), f"step {step}"
    end = flat(loop.state_dict())
    assert (flat(dict(unstacked(star))) - end).norm() < 5e-2 * (end - start).norm()


def flat(state: dict[str, Tensor]) -> Tensor:
    """All weights and running statistics as one vector."""
    return torch.cat([state[n].flatten() for n in sorted(state) if state[n].is_floating_point()])
