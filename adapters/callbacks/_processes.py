"""Rows of all processes, in the order in which one process would have had them."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from star_head._gather import world_size


def gather_rows(parts: Sequence[Tensor] | None, device: torch.device) -> list[Tensor] | None:
    """Join the rows of all processes: the first of each, the second of each, and so on.

    Args:
        parts: Tensors of as many rows each, (m, ...); ``None`` where there are none. Processes may
            differ in m.
        device: Where the module is, on which processes exchange.

    Returns:
        The same for every process; ``None`` if a process has no rows.
    """
    own = -1 if parts is None else len(parts[0])
    if world_size() == 1:
        return list(parts) if parts is not None and own > 0 else None
    counts = torch.stack(_all(torch.tensor(own, device=device)))
    if (counts < 1).any() or parts is None:
        return None
    most = int(counts.max())
    there = torch.arange(most, device=device).unsqueeze(1) < counts
    gathered = []
    for part in parts:
        padded = part.new_zeros(most, *part.shape[1:], device=device)
        padded[:own] = part
        gathered.append(torch.stack(_all(padded), dim=1)[there])
    return gathered


def _all(tensor: Tensor) -> list[Tensor]:
    found = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(found, tensor.contiguous())
    return found
