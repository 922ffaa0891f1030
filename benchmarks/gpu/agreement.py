"""Losses and gradients of one training step on the device against the CPU's."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks.gpu.cases import Case, Figures
from benchmarks.gpu.sizes import Sizes
from benchmarks.precision import Precision, autocast
from star_head import STAR, Parameter, STARProjectionHead, STARViews


def cases(device: str, sizes: Sizes) -> Iterator[Case]:
    """Head and loss, in every precision; then a whole network."""
    width, experts, batch = sizes.heads[0]
    head = STARProjectionHead(width, width, 128, num_experts=experts, statistics="stl10")
    bare = STAR(nn.Identity(), head)
    run = partial(compare, device, bare, (batch, width))
    yield Case("head and loss, float64", partial(run, dtype=torch.float64))
    yield Case("head and loss, float32", run)
    yield Case("head and loss, bf16", partial(run, precision="bf16"))
    settings = sizes.steps[0]
    for precision in ("float32", "bf16"):
        whole = partial(compare_network, device, settings, precision)
        yield Case(f"{settings[0]}, whole step, {precision}", whole, needs=("timm",))


def compare_network(
    device: str, settings: tuple[str, int, int, int], precision: Precision
) -> Figures:
    """The same with a backbone."""
    from star_head.adapters.timm import create_backbone

    name, size, batch, experts = settings
    torch.manual_seed(0)
    backbone = create_backbone(name, input_size=size)
    width: Any = backbone.num_features
    head = STARProjectionHead(width, width, 128, num_experts=experts, statistics="stl10")
    shape = (min(batch, 32), 3, size, size)
    return compare(device, STAR(backbone, head), shape, precision)


def compare(
    device: str,
    model: STAR,
    shape: tuple[int, ...],
    precision: Precision = "float32",
    dtype: torch.dtype = torch.float32,
) -> Figures:
    """Relative differences of the loss and of all gradients together.

    Args:
        device: Held against the CPU, which computes in float32 or better.
        model: What is trained.
        shape: Of a view's images.
        precision: On the device.
        dtype: Of weights and images.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(3, *shape, generator=generator, dtype=dtype)
    params = torch.rand(2, shape[0], len(Parameter), generator=generator, dtype=dtype)
    views = STARViews(images[0], tuple(images[1:]), tuple(params))
    losses, gradients = [], []
    for place, wanted in (("cpu", "float32"), (device, precision)):
        model.to(place, dtype)
        model.zero_grad()
        with autocast(place, wanted):  # type: ignore[arg-type]
            loss = model(views.to(place)).total
        loss.backward()
        losses.append(loss.item())
        given = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        gradients.append(torch.cat(given).double().cpu())
    one, other = gradients
    name = "float64" if dtype is torch.float64 else precision
    return {
        f"{name} apart": abs(losses[1] / losses[0] - 1),
        f"{name} gradients apart": float((one - other).norm() / one.norm()),
    }
