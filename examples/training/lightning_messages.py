"""Lightning's messages that tell a user of nothing to change, left out."""

import logging
import warnings

_WARNINGS = (
    # Lightning's own use of PyTorch.
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    # STARModule moves its views itself, whatever the data module.
    r"You have overridden `transfer_batch_to_device` in `LightningModule`",
    # The run's own checkpoints, where it goes on; another run's folder is refused before.
    r"Checkpoint directory .* exists and is not empty",
    # Monitors may be turned off, and other checkpoints kept, where a run goes on.
    r"Be aware that when using `ckpt_path`, callbacks used to create the checkpoint",
)

# All of these log through one variable, which whoever is imported last has set.
_LOGGERS = [
    f"{package}.utilities.rank_zero"
    for package in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning")
]


def leave_out_needless_messages() -> None:
    """Silence warnings of what the scripts do on purpose, and tips for other products.

    What a user could change, such as a logging interval longer than an epoch, is still said.
    """
    for message in _WARNINGS:
        warnings.filterwarnings("ignore", message)
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_is_no_tip)


def _is_no_tip(record: logging.LogRecord) -> bool:
    return "Tip: For seamless cloud" not in record.getMessage()
