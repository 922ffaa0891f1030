"""STAR as a LightningModule. Needs ``star-head[lightning]``.

Source: STAR (arXiv 2510.27222) for the recipe.
"""

import time
import warnings
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from star_head._checks import check_count, check_not_negative, describe
from star_head._devices import to_device
from star_head._gather import rank, world_size
from star_head.losses import STARLoss
from star_head.model import STAR

from ._batches import views_in
from ._finite import FiniteLosses, check_finite_weights
from ._run_state import all_random_states, check_readable, check_same_model, set_random_state
from ._settings import check_same_settings, loss_settings, saved_settings

try:
    from lightning.pytorch import LightningModule
    from lightning_utilities.core.apply_func import apply_to_collection

    from ._schedule import accumulation, cosine, take_own_rates
except ImportError as error:
    raise ImportError(
        'star_head.adapters.lightning needs Lightning: pip install "star-head[lightning]"'
    ) from error


class STARModule(LightningModule):
    """Trains :class:`star_head.STAR` by the paper's recipe under a Lightning ``Trainer``.

    SGD with momentum, a learning rate in proportion to the batch, a cosine to 0 over
    ``Trainer(max_epochs=...)`` stepped per epoch, weight decay on every parameter. The schedule
    is a function of the epoch alone: a run that is resumed with more epochs follows the longer
    cosine from there.

    Training batches are :class:`star_head.STARViews`, alone or with labels and the like in a tuple
    or dictionary, as a data set with ``STARTransform`` gives them. Logs ``train_loss``, its parts,
    ``learning_rate`` and ``images_per_second`` every ``Trainer(log_every_n_steps=...)``.

    What is learned meanwhile is measured by the callbacks of ``star_head.adapters.callbacks``, to
    which ``"star.backbone"`` is what makes features. Validation computes nothing of its own: it is
    there for those of them that read the Trainer's validation loaders.

    Checkpoints also hold the state of torch's generators in each process, which Lightning leaves
    out, and how timm built the backbone. One that does not fit is refused by name, and weights or
    losses that are not finite stop the run and are never saved.

    Args:
        star: Backbone, head and loss. For several processes build its loss with
            ``gather_distributed=True``, as STAR's default is; a warning tells of one that compares
            within each process alone.
        batch_size: Images in a batch over all processes, to which the learning rate is scaled;
            gradient accumulation multiplies it. A warning tells of a loader whose batches are
            others.
        learning_rate: Learning rate for a batch of 256.
        momentum: Momentum of SGD.
        weight_decay: Weight decay of SGD.
        decay_norm_and_bias: Apply weight decay also to norms and biases, as the paper does; else
            they are exempt, as are all other vectors and what ``star.no_weight_decay()`` names.
        channels_last: Keep the backbone's weights, and thereby its activations, in that layout.
        compile: Run forward and backward pass through ``torch.compile``.

    Raises:
        TypeError: If ``star`` is a backbone or a head alone.
        ValueError: If a number is out of range.

    Example:
        >>> from star_head import STARProjectionHead
        >>> backbone = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 32))
        >>> star = STAR(backbone, STARProjectionHead(32, 32, 16, num_experts=4, statistics="stl10"))
        >>> module = STARModule(star, batch_size=512)
        >>> images, params = torch.rand(6, 3, 8, 8), torch.rand(6, 11)
        >>> module(images).shape
        torch.Size([6, 32])
    """

    def __init__(
        self,
        star: STAR,
        *,
        batch_size: int = 256,
        learning_rate: float = 0.03,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        decay_norm_and_bias: bool = True,
        channels_last: bool = False,
        compile: bool = False,
    ) -> None:
        super().__init__()
        if isinstance(star, type) or not hasattr(star, "embed"):
            raise TypeError(f"star: expected STAR(backbone, head), got {describe(star)}")
        check_count("batch_size", batch_size)
        check_not_negative("learning_rate", learning_rate)
        check_not_negative("momentum", momentum)
        check_not_negative("weight_decay", weight_decay)
        self.star = star
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.decay_norm_and_bias = decay_norm_and_bias
        if channels_last:
            self.star.backbone.to(memory_format=torch.channels_last)
        if compile:
            self.star.compile()
        self._backbone_is_proved = False
        self._losses = FiniteLosses()
        self._random_states: list[dict[str, Tensor]] = []
        self._timer = 0, 0.0
        self._compared_with_batches = False

    def forward(self, images: Tensor) -> Tensor:
        """The backbone's features of (B, 3, S, S) images: (B, D)."""
        return self.star.features(images)

    def configure_optimizers(self) -> Any:
        """SGD at ``learning_rate`` x batch / 256, and a cosine to 0 stepped per epoch.

        A ``GradientAccumulationScheduler`` changes the batch between epochs, and the rate with it.
        """
        epochs = self.trainer.max_epochs
        if epochs is None or epochs < 1:
            raise ValueError(f"max_epochs: the cosine needs its length, got Trainer({epochs=})")
        accumulated = accumulation(self.trainer)
        total_batch = self.batch_size * accumulated(0)
        optimizer = torch.optim.SGD(
            self._parameter_groups(),
            lr=self.learning_rate * total_batch / 256,
            momentum=self.momentum,
        )
        schedule = cosine(optimizer, epochs, accumulated)
        return [optimizer], [{"scheduler": schedule, "interval": "epoch"}]

    def setup(self, stage: str) -> None:
        """Find out before training whether a checkpoint can say how the backbone is built."""
        if stage == "fit":
            self._describe_backbone()

    def _describe_backbone(self) -> dict[str, Any] | None:
        backbone = self.star.backbone
        if not hasattr(backbone, "pretrained_cfg"):
            return None
        from .timm import describe_backbone, prove_description

        if self._backbone_is_proved:
            return describe_backbone(backbone)
        self._backbone_is_proved = True
        return prove_description(backbone)

    def on_train_start(self) -> None:
        """Take the rate from this run's cosine: a checkpoint's may be of another length."""
        take_own_rates(self.trainer)

    def _parameter_groups(self) -> list[dict[str, Any]]:
        decayed: list[nn.Parameter] = []
        exempt: list[nn.Parameter] = []
        named = self.star.no_weight_decay()
        for name, parameter in self.star.named_parameters():
            # A bank's biases are matrices, a row for each expert.
            spared = parameter.ndim <= 1 or name.endswith("bias") or name in named
            (exempt if spared and not self.decay_norm_and_bias else decayed).append(parameter)
        groups = [(decayed, self.weight_decay), (exempt, 0.0)]
        return [{"params": p, "weight_decay": decay} for p, decay in groups if p]

    def _settings(self) -> dict[str, Any]:
        """How it is trained, beside the model and the data."""
        settings: dict[str, Any] = {
            "learning_rate": float(self.learning_rate),
            "momentum": float(self.momentum),
            "weight_decay": float(self.weight_decay),
            "decay_norm_and_bias": self.decay_norm_and_bias,
            "batch_size": self.batch_size,
            # A Trainer can save a module that it was connected to and has not yet trained.
            "accumulate_grad_batches": accumulation(self.trainer)(0) if self._trainer else 1,
        }
        return settings | loss_settings(self.star.loss)

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Move all tensors of a batch, to a CUDA device without waiting for them."""
        return apply_to_collection(batch, dtype=_Movable, function=to_device, device=device)

    def on_train_epoch_start(self) -> None:
        """Start the clock: validation between epochs does not count."""
        self._timer = self.global_step, time.perf_counter()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Compute the loss of a batch and log it."""
        views = views_in(batch)
        if not self._compared_with_batches:
            self._compare_with_batches(len(views.original))
        terms = self.star(views)
        self._losses.add(self.global_step, terms)
        self.log("learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"])
        self.log("train_loss", terms.total, prog_bar=True)
        self.log("train_loss_invariant", terms.invariant)
        if terms.equivariant is not None:
            self.log("train_loss_equivariant", terms.equivariant)
        total: Tensor = terms.total
        return total

    def _compare_with_batches(self, size: int) -> None:
        """Warn, once a run, where batches or losses differ from what was probably meant."""
        self._compared_with_batches = True
        if isinstance(self.star.loss, STARLoss):  # which would not say so when compiled
            self.star.loss.warn_unless_gathering(size, self.star.head.predictor is not None)
        total = size * world_size()
        if total != self.batch_size and rank() == 0:
            rate = self.trainer.optimizers[0].param_groups[0]["lr"]
            warnings.warn(
                f"batch_size: the loader's batches of {size} images on each of {world_size()} "
                f"processes are {total} together, and the learning rate, now {rate:g}, is that of "
                f"STARModule(batch_size={self.batch_size}); give batch_size={total}",
                stacklevel=2,
            )

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log how many images a second all processes took together."""
        trainer: Any = self.trainer  # Lightning sets log_every_n_steps without declaring it
        (step, then), now = self._timer, time.perf_counter()
        every = trainer.log_every_n_steps
        if every and self.global_step > step and self.global_step % every == 0:
            steps = (self.global_step - step) * trainer.accumulate_grad_batches
            self.log("images_per_second", steps * self.batch_size / (now - then), prog_bar=True)
            self._timer = self.global_step, now

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Leave the batch to the callbacks that read validation loaders."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add random state, settings and the backbone's description; refuse what is not finite."""
        self._losses.check()
        check_finite_weights(checkpoint["state_dict"], self.global_step)
        check_readable(checkpoint["state_dict"])
        checkpoint["random_states"] = all_random_states()
        checkpoint["settings"] = self._settings()
        description = self._describe_backbone()
        if description is not None:
            checkpoint["backbone"] = description

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse another model's weights, and to train on with other settings than the run's.

        The random state is kept for when training starts.
        """
        check_same_model(checkpoint["state_dict"], self.state_dict())
        if self._trainer is not None and self._trainer.training:
            check_same_settings(saved_settings(checkpoint, self._settings()), self._settings())
        self._random_states = checkpoint.get("random_states", [])

    def on_fit_start(self) -> None:
        """Go on with the random numbers where the checkpoint stopped.

        Before any loader is made, since loaders draw their seeds.
        """
        self._compared_with_batches = False
        check_readable(self.state_dict())
        if len(self._random_states) > rank():
            set_random_state(self._random_states[rank()])
        self._random_states = []


@runtime_checkable
class _Movable(Protocol):
    def to(self, *args: Any, **kwargs: Any) -> Any: ...
