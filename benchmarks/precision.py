"""The precision of matrix products and convolutions that a measurement asks for."""

from typing import Literal, get_args

import torch

Precision = Literal["float32", "tf32", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def autocast(device: str, precision: Precision) -> torch.autocast:
    """Around a forward pass: bfloat16 or nothing. Sets for all that follows whether TF32 is used.

    PyTorch takes TF32 for convolutions unless told otherwise: "float32" is float32 here.

    Args:
        device: Where it runs.
        precision: What is asked for.
    """
    set_tf32(precision == "tf32")
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16")


def set_tf32(used: bool) -> None:
    """Use TF32 for matrix products and convolutions, or float32."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = used
