"""Whether a run is resumed with the settings it was started with."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from star_head.losses import NTXentLoss, STARLoss


def loss_settings(loss: nn.Module) -> dict[str, float]:
    """Temperatures that are not learned, as they were given, and the equivariant part's weight."""
    settings: dict[str, float] = {}
    for name, module in loss.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(module, STARLoss):
            settings[f"{prefix}equivariant_weight"] = float(module.equivariant_weight)
        elif isinstance(module, NTXentLoss) and module.given_temperature is not None:
            settings[f"{prefix}temperature"] = module.given_temperature
    return settings


def check_same_settings(saved: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Compare how a checkpoint's run was trained and how this one is to be.

    A resumed optimiser keeps the settings that it was saved with, while what is built anew takes
    the new ones: what came out would be no run that its settings tell.

    Args:
        saved: The checkpoint's settings; what it does not tell is not compared.
        own: This run's.

    Raises:
        ValueError: If a setting differs, by its name.
    """
    if differing := differing_settings(saved, own):
        raise ValueError(
            f"checkpoint: its run had {differing}; go on with a run as it was begun, or begin "
            f"another in a folder of its own"
        )


def differing_settings(saved: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """Settings that differ, by name and with both values; empty where none does.

    Example:
        >>> differing_settings({"rate": 1, "batch": 8}, {"rate": 2, "batch": 8, "seed": 0})
        'rate 1, and this has 2'
    """
    return "; ".join(
        f"{name} {saved[name]!r}, and this has {value!r}"
        for name, value in own.items()
        if name in saved and saved[name] != value
    )


def saved_settings(checkpoint: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a checkpoint tells; of version 0.1.0, those that its optimiser holds.

    Args:
        checkpoint: Checkpoint of a run of STARModule.
        own: This run's, of whose batch an older checkpoint's rate must have been.
    """
    if "settings" in checkpoint:
        return dict(checkpoint["settings"])
    optimizers = checkpoint.get("optimizer_states") or [{"param_groups": [{}]}]
    group = optimizers[0]["param_groups"][0]
    found = {name: group[name] for name in ("momentum", "weight_decay") if name in group}
    if "initial_lr" in group:
        batch = own["batch_size"] * own["accumulate_grad_batches"]
        found["learning_rate"] = own["learning_rate"]
        if group["initial_lr"] != own["learning_rate"] * batch / 256:
            found["learning_rate"] = group["initial_lr"] * 256 / batch
    return found
