"""Faster R-CNN on the C4 of a ResNet, and how MoCo trains it.

Sources: Faster R-CNN (arXiv 1506.01497); MoCo (arXiv 1911.05722), appendix, for the C4 backbone,
its box head and the schedule.
"""

from collections import OrderedDict
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning_utilities.core.apply_func import apply_to_collection
from timm.models.resnet import ResNet
from timm.optim import create_optimizer_v2
from torch import Tensor, nn
from torchmetrics.detection import MeanAveragePrecision
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign

from star_head.adapters._run_state import check_same_model
from star_head.evaluation.networks import Encoder

# What precedes layer4 in a ResNet of timm.
_C4 = ("conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3")
_WARM_UP = 100  # iterations


class BoxHead(nn.Module):
    """A ResNet's layer4 and a batch norm on regions of its layer3: (R, C, 14, 14) to (R, D).

    The norm is MoCo's: features that were not learned with labels differ much in their scale.
    """

    def __init__(self, layer4: nn.Module, channels: int) -> None:
        super().__init__()
        self.layer4 = layer4
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, regions: Tensor) -> Tensor:
        """Features of each region."""
        features: Tensor = self.norm(self.layer4(regions))
        return features.mean(dim=(2, 3))


def build_detector(encoder: Encoder, num_classes: int, short_side: int = 800) -> FasterRCNN:
    """Build a Faster R-CNN whose backbone and box head are an encoder's layers.

    Anchors, proposals and thresholds are those of Detectron2's C4 models, on which MoCo is
    measured, where torchvision's differ: 15 anchors a place, 12,000 proposals before and 2,000
    after suppression in training, 6,000 and 1,000 at test. Two differences are left: torchvision
    smooths the boxes' L1 loss near 0, and its region pooling is not shifted by half a pixel.

    Args:
        encoder: With a ResNet of timm; its modules are used, not copied.
        num_classes: With the background.
        short_side: To which images are resized, in pixels. In training it is drawn from 11 sizes
            between 0.6 of it and itself: 480 to 800.

    Raises:
        ValueError: If the encoder is no ResNet.
    """
    if not isinstance(encoder.backbone, ResNet):
        raise ValueError(
            f"encoder: expected a ResNet, of timm.models.resnet, whose layer3 and layer4 are "
            f"backbone and box head, got a {type(encoder.backbone).__name__}"
        )
    resnet: Any = encoder.backbone
    channels = {info["module"]: info["num_chs"] for info in resnet.feature_info}
    backbone: Any = nn.Sequential(OrderedDict((name, getattr(resnet, name)) for name in _C4))
    backbone.out_channels = channels["layer3"]
    sizes = ((32, 64, 128, 256, 512),)
    detector = FasterRCNN(
        backbone,
        min_size=tuple(round(short_side * k / 25) for k in range(15, 26)),
        max_size=round(short_side * 1333 / 800),
        image_mean=encoder.normalize["mean"],
        image_std=encoder.normalize["std"],
        rpn_anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),)),
        rpn_pre_nms_top_n_train=12000,
        rpn_pre_nms_top_n_test=6000,
        rpn_post_nms_top_n_train=2000,
        rpn_post_nms_top_n_test=1000,
        box_roi_pool=MultiScaleRoIAlign(["0"], output_size=14, sampling_ratio=0),
        box_head=BoxHead(resnet.layer4, channels["layer4"]),
        box_predictor=FastRCNNPredictor(channels["layer4"], num_classes),
    )
    for predictor in (detector.rpn.head, detector.roi_heads.box_predictor):
        predictor.register_forward_hook(_in_float32)
    return detector


def _in_float32(predictor: nn.Module, inputs: Any, outputs: Any) -> Any:
    """Under autocast, boxes would be rounded to a few pixels."""
    return apply_to_collection(outputs, Tensor, Tensor.float)


class DetectionModule(LightningModule):
    """Trains a detector: SGD, 100 iterations of warm-up, two drops of the rate to a tenth.

    The drops come after 3/4 and 11/12 of the iterations: 18,000 and 22,000 of MoCo's 24,000.

    Args:
        detector: What :func:`build_detector` gives.
        batch_size: Images in a batch over all processes, in proportion to which the rate grows.
        iterations: Steps in all.
        finetune: Train the backbone too, its norms by the batch's statistics. Else it is frozen,
            conv1 to layer3, with its norms in evaluation mode; the box head, layer4, is trained
            either way.
        learning_rate: Learning rate for a batch of 16.
    """

    def __init__(
        self,
        detector: FasterRCNN,
        *,
        batch_size: int,
        iterations: int,
        finetune: bool = False,
        learning_rate: float = 0.02,
    ) -> None:
        super().__init__()
        self.detector = detector
        self.batch_size = batch_size
        self.iterations = iterations
        self.finetune = finetune
        self.learning_rate = learning_rate
        self.metric = MeanAveragePrecision(extended_summary=True)
        self.detector.backbone.requires_grad_(finetune)
        self.train()

    def train(self, mode: bool = True) -> "DetectionModule":
        """Leave a frozen backbone in evaluation mode."""
        super().train(mode)
        if not self.finetune:
            self.detector.backbone.eval()
        return self

    def configure_optimizers(self) -> Any:
        """SGD with momentum; norms and biases without weight decay."""
        total_batch = self.batch_size * self.trainer.accumulate_grad_batches
        optimizer = create_optimizer_v2(
            self.detector,
            "momentum",  # timm's "sgd" is Nesterov's
            lr=self.learning_rate * total_batch / 16,
            weight_decay=1e-4,
            momentum=0.9,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: _rate(step, self.iterations)
        )
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The sum of the four losses of a batch (images, targets)."""
        images, targets = batch
        losses = self.detector(images, targets)
        total: Tensor = sum(losses.values(), torch.zeros((), device=self.device))
        if not total.isfinite():
            parts = ", ".join(f"{name} {loss.item()}" for name, loss in losses.items())
            raise FloatingPointError(
                f"the loss is not finite at step {self.global_step}: {parts}; what helps: a lower "
                f"learning rate, --trainer.gradient_clip_val=10"
            )
        self.log("train_loss", total, prog_bar=True)
        self.log_dict({f"train_{name}": loss for name, loss in losses.items()})
        self.log("learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"])
        return total

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse another model's weights."""
        check_same_model(checkpoint["state_dict"], self.state_dict())

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Keep what is found in a batch (images, targets, whether each counts)."""
        images, targets, counts = batch
        found = self.detector(images)
        # One that does not count becomes an image without anything in it: torchmetrics wants
        # equally many of every process.
        found, targets = (
            [
                item if valid else {name: tensor[:0] for name, tensor in item.items()}
                for item, valid in zip(items, counts, strict=True)
            ]
            for items in (found, targets)
        )
        self.metric.update(found, targets)

    def on_test_epoch_end(self) -> None:
        """Log average precision."""
        # Every process computes the same from all of theirs.
        self.log_dict(average_precision(self.metric.compute()), sync_dist=True)
        self.metric.reset()


def _rate(step: int, iterations: int) -> float:
    drops = sum(step >= share * iterations for share in (3 / 4, 11 / 12))
    return float(min(1.0, (step + 1) / _WARM_UP) * 0.1**drops)


def average_precision(summary: dict[str, Any]) -> dict[str, float]:
    """AP, AP50 and AP75 out of what torchmetrics computes, in percent.

    Args:
        summary: What ``MeanAveragePrecision(extended_summary=True)`` computes.

    Returns:
        As COCO defines them, the mean of the precision at 101 recalls; and, with ``VOC07`` before
        the name, at 11 recalls, as VOC2007 does and with it Detectron2 for VOC2007.
    """
    # (IoU thresholds, recalls, classes, sizes of objects, counts of detections), -1 where a class
    # is absent; all sizes, and at most 100 detections.
    at_101 = summary["precision"][..., 0, -1]
    found = {}
    for prefix, precision in (("", at_101), ("VOC07 ", at_101[:, ::10])):
        for name, part in (("AP", precision), ("AP50", precision[:1]), ("AP75", precision[5:6])):
            present = part[part > -1]
            found[prefix + name] = 100 * present.mean().item() if len(present) else 0.0
    return found
