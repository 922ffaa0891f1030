"""A timm model with a linear classifier, and how both are trained together."""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from timm.data import Mixup
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from star_head.adapters._run_state import check_same_model
from star_head.evaluation.networks import Encoder
from star_head.examples.data.transfer_data import Metric


class FinetuneModule(LightningModule):
    """Trains a timm model with its classifier.

    Args:
        model: From images (B, 3, S, S) to logits (B, classes).
        num_classes: Number of classes of the classifier.
        batch_size: Images in a batch over all processes, in proportion to which the rate grows.
        batches: In an epoch.
        learning_rate: Learning rate for a batch of 256, in the classifier.
        layer_decay: Factor on the rate from each layer to the one before it.
        weight_decay: Weight decay of AdamW; norms and biases are exempt.
        warmup_epochs: While which the rate grows from a hundredth.
        mixup: Alpha of the share by which two images are mixed; 0 for none.
        label_smoothing: Share of a label that goes to all classes alike.
        metric: Share of images that are right, or the mean of the classes' shares.
    """

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        *,
        batch_size: int,
        batches: int,
        learning_rate: float = 1e-3,
        layer_decay: float = 0.75,
        weight_decay: float = 0.05,
        warmup_epochs: int = 5,
        mixup: float = 0.2,
        label_smoothing: float = 0.1,
        metric: Metric = "top-1",
    ) -> None:
        super().__init__()
        self.model = model
        self.batch_size = batch_size
        self.batches = batches
        self.learning_rate = learning_rate
        self.layer_decay = layer_decay
        self.weight_decay = weight_decay
        self.warmup_epochs = warmup_epochs
        self.label_smoothing = label_smoothing
        self.mixup = (
            Mixup(mixup_alpha=mixup, label_smoothing=0.0, num_classes=num_classes)
            if mixup > 0
            else None
        )
        average: Literal["micro", "macro"] = "micro" if metric == "top-1" else "macro"
        self.accuracy = MulticlassAccuracy(num_classes, average=average)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, 3, S, S)."""
        logits: Tensor = self.model(images)
        return logits

    def configure_optimizers(self) -> Any:
        """AdamW with layer decay, a warm-up and a cosine to 0."""
        epochs = self.trainer.max_epochs
        assert epochs is not None
        accumulated = self.trainer.accumulate_grad_batches
        rate = self.learning_rate * self.batch_size * accumulated / 256
        optimizer = create_optimizer_v2(
            self.model,
            "adamw",
            lr=rate,
            weight_decay=self.weight_decay,
            layer_decay=self.layer_decay,
        )
        schedule, _ = create_scheduler_v2(
            optimizer,
            "cosine",
            num_epochs=epochs,
            warmup_epochs=min(self.warmup_epochs, epochs - 1),
            warmup_lr=rate / 100,
            step_on_epochs=False,
            updates_per_epoch=math.ceil(self.batches / accumulated),
        )
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Timm's schedules are told the step."""
        scheduler.step_update(self.global_step)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Cross-entropy of a batch (images, labels)."""
        images, labels = batch
        if self.mixup is not None:
            images, labels = self.mixup(images, labels)
        loss = F.cross_entropy(self(images), labels, label_smoothing=self.label_smoothing)
        if not loss.isfinite():
            raise FloatingPointError(
                f"the loss is not finite at step {self.global_step}; what helps: a lower learning "
                f"rate, --trainer.gradient_clip_val=1"
            )
        self.log("train_loss", loss, prog_bar=True)
        rates = [group["lr"] for group in self.trainer.optimizers[0].param_groups]
        self.log("learning_rate", max(rates))  # the classifier's
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Count what is right in a batch (images, labels, whether each counts)."""
        images, labels, counts = batch
        self.accuracy.update(self(images)[counts], labels[counts])

    def on_validation_epoch_end(self) -> None:
        """Log the accuracy over all processes together."""
        self.log("test_accuracy", self.accuracy.compute(), prog_bar=True, sync_dist=True)
        self.accuracy.reset()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse another model's weights."""
        check_same_model(checkpoint["state_dict"], self.state_dict())


def add_classifier(encoder: Encoder, num_classes: int) -> nn.Module:
    """Give an encoder's timm model a linear layer on its features, and set it to training.

    Raises:
        ValueError: If it then gives no logits (B, classes).
    """
    model: Any = encoder.backbone
    model.reset_classifier(num_classes)
    size = encoder.input_size
    with torch.no_grad():
        got = tuple(model.eval()(torch.zeros(2, 3, size, size)).shape)
    if got != (2, num_classes):
        raise ValueError(
            f"encoder: expected a model that gives logits {(2, num_classes)} of 2 images once it "
            f"has a classifier, got {got} of {type(model).__name__}"
        )
    trained: nn.Module = model.train()
    return trained
