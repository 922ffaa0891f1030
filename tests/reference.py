"""Slow and obvious float64 counterparts of what star_head computes."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from star_head import EquivariantPredictor, RoutedExperts


def expert(bank: RoutedExperts, k: int) -> nn.Sequential:
    """Expert ``k`` of a batch-norm bank as a plain ``nn.Sequential`` with its weights."""
    layers: list[nn.Module] = []
    for stacked in bank.layers:
        layer: nn.Module
        if isinstance(stacked, nn.BatchNorm1d):
            width = stacked.num_features // bank.num_experts
            rows = slice(k * width, (k + 1) * width)
            layer = nn.BatchNorm1d(width).double()
            state = stacked.state_dict()
            layer.load_state_dict({n: v[rows] if v.ndim else v for n, v in state.items()})
        elif hasattr(stacked, "weight"):
            _, d_out, d_in = stacked.weight.shape
            layer = nn.Linear(d_in, d_out, bias=stacked.bias is not None).double()
            layer.weight.data.copy_(stacked.weight[k])
            if stacked.bias is not None:
                layer.bias.data.copy_(stacked.bias[k])
        else:
            layer = type(stacked)()
        layers.append(layer)
    return nn.Sequential(*layers).train(bank.training)


def mix(experts: Sequence[nn.Module], weights: Tensor, features: Tensor) -> Tensor:
    """sum_k R_t(y)_k E_k(y) by loops over tasks and experts: (B, T, d)."""
    outputs = [e(features) for e in experts]
    tasks = []
    for t in range(weights.shape[1]):
        tasks.append(sum(weights[:, t, k, None] * outputs[k] for k in range(len(outputs))))
    return torch.stack(tasks, dim=1)


def predict(predictor: EquivariantPredictor, e0: Tensor, params: Tensor) -> Tensor:
    """e0 + phi([e0, psi(a)]), row by row where no batch statistics are involved."""
    rows = []
    for i in range(len(e0)):
        a = [(params[i, j] - predictor.mean[j]) / predictor.std[j] for j in range(params.shape[1])]
        encoded = predictor.psi.weight @ torch.stack(a) + predictor.psi.bias
        rows.append(torch.cat([e0[i], encoded]))
    return e0 + predictor.phi(torch.stack(rows))


def nt_xent(out0: Tensor, out1: Tensor, temperature: float) -> Tensor:
    """NT-Xent by a triple loop: anchors, candidates, and the dimensions of their product."""
    n, d = out0.shape
    z = [row / row.norm() for row in torch.cat([out0, out1])]
    losses = []
    for i in range(2 * n):
        logits = []
        for j in range(2 * n):
            if j != i:
                logits.append(sum(z[i][c] * z[j][c] for c in range(d)) / temperature)
        positive = (i + n) % (2 * n)
        index = positive - (positive > i)
        losses.append(F.cross_entropy(torch.stack(logits)[None], torch.tensor([index])))
    return torch.stack(losses).mean()
