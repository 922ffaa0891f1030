"""Gathering a batch from all processes, with gradients."""

from typing import Any

import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of processes; 1 where torch.distributed is not running."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Index of this process; 0 where torch.distributed is not running."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def gather(tensor: Tensor) -> Tensor:
    """Stack the (n, ...) tensors of W processes to (W n, ...), in order of rank.

    The backward pass sums every process's gradient for the rows gathered here. All processes must
    give the same n; a single process gets its tensor back. ``torch.compile`` traces it.
    """
    if world_size() == 1:
        return tensor
    from torch.distributed import _functional_collectives as collectives  # not in every build

    world = dist.distributed_c10d._get_default_group()
    # Older versions know it by its first name only.
    old: Any = getattr(collectives, "all_gather_tensor_autograd", None)
    all_gather: Any = getattr(collectives, "all_gather_single_autograd", old)
    gathered: Tensor = all_gather(tensor.contiguous(), 0, world)
    return gathered
