"""What runs of ``star-head pretrain`` need, and how they are told where to train."""

import torch

# The packages of star-head[examples] that are imported on the way.
NEEDS = (
    *("lightly", "timm", "lightning", "jsonargparse", "sklearn", "scipy", "tensorboard"),
    *("torchmetrics", "matplotlib", "safetensors", "yaml", "tqdm"),
)


def accelerator(device: str) -> tuple[str, ...]:
    """Flags that train on one device of this kind."""
    kind = torch.device(device).type
    return f"--trainer.accelerator={'gpu' if kind == 'cuda' else kind}", "--trainer.devices=1"
