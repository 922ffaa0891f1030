"""STAR as a LightningModule. Needs ``star-head[lightning]``.

Source: STAR (arXiv 2510.27222) for the recipe.
"""

import math
import time
import warnings
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from star_head._checks import check_count, check_not_negative
from star_head._gather import gather, rank, world_size
from star_head.losses import STARLossTerms
from star_head.metrics import expert_usage, mean_canonical_correlation, routing_divergence
from star_head.model import STAR, STAROutput

from ._batches import labelled_images, views_in

try:
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import GradientAccumulationScheduler
    from lightning_utilities.core.apply_func import apply_to_collection
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
    or dictionary, as a data set with ``STARTransform`` gives them. Validation takes two loaders of
    (images, labels), images without augmentation, or of dictionaries of both: the bank, then the
    queries, each of which is given the label of its nearest neighbour in the bank.

    Logs ``train_loss``, its parts, ``learning_rate`` and ``images_per_second`` every
    ``Trainer(log_every_n_steps=...)``; every ``monitor_every_n_steps`` the ``usage`` of each
    expert by each task, the ``routing_divergence`` of the two and their embeddings'
    ``batch_canonical_correlation``; and at validation ``knn_accuracy`` and
    ``mean_canonical_correlation``. The correlation within one batch is larger than that over many
    images, which validation gives, since few samples correlate by chance; only its course says
    something. It is left out of batches with no more images than the embedding has dimensions,
    and of an embedding that has collapsed.

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
        learning_rate: Of a batch of 256.
        momentum: Of SGD.
        weight_decay: Of SGD.
        decay_norm_and_bias: Apply weight decay also to norms and biases, as the paper does; else
            they are exempt, as are all other vectors and what ``star.no_weight_decay()`` names.
        channels_last: Keep the backbone's weights, and thereby its activations, in that layout.
        compile: Run forward and backward pass through ``torch.compile``.
        monitor_every_n_steps: How often the head is looked into.

    Raises:
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
        monitor_every_n_steps: int = 200,
    ) -> None:
        super().__init__()
        check_count("batch_size", batch_size)
        check_count("monitor_every_n_steps", monitor_every_n_steps)
        check_not_negative("learning_rate", learning_rate)
        check_not_negative("momentum", momentum)
        check_not_negative("weight_decay", weight_decay)
        self.star = star
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.decay_norm_and_bias = decay_norm_and_bias
        self.monitor_every_n_steps = monitor_every_n_steps
        if channels_last:
            self.star.backbone.to(memory_format=torch.channels_last)
        if compile:
            self.star.compile()
        self._losses = _FiniteLosses()
        self._random_states: list[dict[str, Tensor]] = []
        self._timer = 0, 0.0
        self._compared_with_batches = False
        self._bank: list[tuple[Tensor, Tensor]] = []
        self._queries: list[tuple[Tensor, Tensor]] = []
        self._embeddings: list[tuple[Tensor, Tensor]] = []

    def forward(self, images: Tensor) -> Tensor:
        """The backbone's features of (B, 3, S, S) images: (B, D)."""
        return self.star.features(images)

    def configure_optimizers(self) -> Any:
        """SGD at 0.03 x batch / 256, and a cosine to 0 stepped per epoch.

        A ``GradientAccumulationScheduler`` changes the batch between epochs, and the rate with it.
        """
        epochs = self.trainer.max_epochs
        if epochs is None or epochs < 1:
            raise ValueError(f"max_epochs: the cosine needs its length, got Trainer({epochs=})")
        accumulated = _accumulation(self.trainer)
        total_batch = self.batch_size * accumulated(0)
        optimizer = torch.optim.SGD(
            self._parameter_groups(),
            lr=self.learning_rate * total_batch / 256,
            momentum=self.momentum,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda epoch: (
                (1 + math.cos(math.pi * epoch / epochs)) / 2 * accumulated(epoch) / accumulated(0)
            ),
        )
        return [optimizer], [{"scheduler": schedule, "interval": "epoch"}]

    def on_train_start(self) -> None:
        """Take the rate from this run's cosine: a checkpoint's may be of another length."""
        for config in self.trainer.lr_scheduler_configs:
            schedule = config.scheduler
            if isinstance(schedule, torch.optim.lr_scheduler.LambdaLR):
                for group, base, factor in zip(
                    schedule.optimizer.param_groups,
                    schedule.base_lrs,
                    schedule.lr_lambdas,
                    strict=True,
                ):
                    group["lr"] = base * factor(schedule.last_epoch)

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

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Move all tensors of a batch without waiting for them."""
        return apply_to_collection(
            batch, dtype=_Movable, function=lambda data: data.to(device, non_blocking=True)
        )

    def on_train_epoch_start(self) -> None:
        """Start the clock: validation between epochs does not count."""
        self._timer = self.global_step, time.perf_counter()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Compute the loss of a batch and log it."""
        views = views_in(batch)
        if not self._compared_with_batches:
            self._compare_with_batches(len(views.original))
        first_of_step = batch_idx % self.trainer.accumulate_grad_batches == 0
        if self.global_step % self.monitor_every_n_steps == 0 and first_of_step:
            output = self.star.embed(views)
            terms = self.star.loss(*output.embeddings, *output.predicted)
            self._losses.add(self.global_step, terms)
            self._losses.check()  # before a measure refuses what is not finite
            self._log_head(output)
        else:
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
        self.star.warn_unless_gathering(size)
        total = size * world_size()
        if total != self.batch_size and rank() == 0:
            rate = self.trainer.optimizers[0].param_groups[0]["lr"]
            warnings.warn(
                f"batch_size: the loader's batches of {size} images on each of {world_size()} "
                f"processes are {total} together, and the learning rate, now {rate:g}, is that of "
                f"STARModule(batch_size={self.batch_size}); give batch_size={total}",
                stacklevel=2,
            )

    @torch.no_grad()
    def _log_head(self, output: STAROutput) -> None:
        """Log what the head made of the first views."""
        z = output.embeddings[0]
        if z.equivariant is None:
            return
        weights = self.star.head.routing_weights(output.features[0]).float()
        metrics = {
            f"usage/{task}_{expert:02d}": share
            for task, shares in zip(
                ("invariant", "equivariant"), expert_usage(weights).tolist(), strict=True
            )
            for expert, share in enumerate(shares)
        }
        metrics["routing_divergence"] = routing_divergence(weights).item()
        correlation = _mean_correlation(gather(z.invariant), gather(z.equivariant))
        if correlation is not None:
            metrics["batch_canonical_correlation"] = correlation
        # Not by self.log, which would repeat them at every step that it logs.
        for logger in self.loggers:
            logger.log_metrics(metrics, step=self.global_step)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log how many images a second all processes took together."""
        trainer: Any = self.trainer  # Lightning sets log_every_n_steps without declaring it
        (step, then), now = self._timer, time.perf_counter()
        every = trainer.log_every_n_steps
        if every and self.global_step > step and self.global_step % every == 0:
            steps = (self.global_step - step) * trainer.accumulate_grad_batches
            self.log("images_per_second", steps * self.batch_size / (now - then), prog_bar=True)
            self._timer = self.global_step, now

    def on_validation_epoch_start(self) -> None:
        """Forget the last validation."""
        self._bank, self._queries, self._embeddings = [], [], []

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Keep what the network makes of a batch of the bank (loader 0) or of the queries (1)."""
        images, labels = labelled_images(batch)
        features = self(images)
        # In bfloat16, the cosines of near neighbours would tie.
        kept = features.float(), labels
        if dataloader_idx == 1:
            self._queries.append(kept)
            return
        self._bank.append(kept)
        z = self.star.head(features)
        if z.equivariant is not None:
            self._embeddings.append((z.invariant, z.equivariant))

    def on_validation_epoch_end(self) -> None:
        """Log 1-nearest-neighbour accuracy, and the redundancy of the bank's two embeddings.

        With ``Trainer(num_sanity_val_steps=-1)`` also of the network before training, at step 0.
        Several processes see each data set padded to equal parts: a few images may count twice.
        """
        trainer = self.trainer
        complete = not trainer.sanity_checking or trainer.num_sanity_val_steps == math.inf
        if complete and self._bank and self._queries:
            metrics = self._evaluate()
            if trainer.sanity_checking:  # when self.log is deaf
                for logger in self.loggers:
                    logger.log_metrics({k: v.item() for k, v in metrics.items()}, step=0)
            else:
                self.log_dict(metrics, prog_bar=True, sync_dist=True)
        self.on_validation_epoch_start()

    def _evaluate(self) -> dict[str, Tensor]:
        accuracy = _nearest_neighbour_accuracy(
            *self._whole(self._bank), *self._whole(self._queries)
        )
        metrics = {"knn_accuracy": accuracy}
        if self._embeddings:
            correlation = _mean_correlation(*self._whole(self._embeddings))
            if correlation is not None:
                metrics["mean_canonical_correlation"] = torch.tensor(
                    correlation, device=accuracy.device
                )
        return metrics

    def _whole(self, parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Join batches and processes."""
        first, second = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        return gather(first), gather(second)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the random state and the backbone's description; refuse what is not finite."""
        self._losses.check()
        bad = [name for name, t in checkpoint["state_dict"].items() if not t.isfinite().all()]
        if bad:
            raise FloatingPointError(
                f"weights are not finite after step {self.global_step}, first {bad[0]}; {_ADVICE}"
            )
        checkpoint["random_states"] = _all_random_states()
        if hasattr(self.star.backbone, "pretrained_cfg"):
            from .timm import describe_backbone

            checkpoint["backbone"] = describe_backbone(self.star.backbone)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse another model's weights; keep the random state for when training starts."""
        saved, own = checkpoint["state_dict"], self.state_dict()
        differences = [
            f"{name} is {_shape(saved, name)} in the checkpoint and {_shape(own, name)} here"
            for name in sorted(saved.keys() | own.keys())
            if _shape(saved, name) != _shape(own, name)
        ]
        if differences:
            raise ValueError(
                f"checkpoint: its model is not this one; {len(differences)} tensors differ: "
                f"{'; '.join(differences[:3])}{' ...' * (len(differences) > 3)}"
            )
        self._random_states = checkpoint.get("random_states", [])

    def on_fit_start(self) -> None:
        """Go on with the random numbers where the checkpoint stopped.

        Before any loader is made, since loaders draw their seeds.
        """
        self._compared_with_batches = False
        if len(self._random_states) > rank():
            _set_random_state(self._random_states[rank()])
        self._random_states = []


_ADVICE = (
    "what helps: a lower learning rate, Trainer(gradient_clip_val=1.0), precision 'bf16-mixed' "
    "or '32-true' in place of '16-mixed', a higher temperature; what was saved before is whole"
)


class _FiniteLosses:
    """Raises at a loss that is not finite, without making a GPU wait for the check.

    On a GPU a step's losses are looked at when the next step begins, by when they are there.
    """

    def __init__(self) -> None:
        self._pending: tuple[int, Tensor, torch.cuda.Event | None] | None = None

    def add(self, step: int, terms: STARLossTerms) -> None:
        self.check()
        parts = torch.stack([t.detach().float() for t in terms[1:] if t is not None])
        event = None
        if parts.is_cuda:
            parts = torch.empty_like(parts, device="cpu", pin_memory=True).copy_(
                parts, non_blocking=True
            )
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        self._pending = step, parts, event
        if event is None:
            self.check()

    def check(self) -> None:
        if self._pending is None:
            return
        (step, parts, event), self._pending = self._pending, None
        if event is not None:
            event.synchronize()
        if not parts.isfinite().all():
            named = zip(("invariant", "equivariant"), parts.tolist(), strict=False)
            raise FloatingPointError(
                f"the loss is not finite at step {step}: "
                f"{', '.join(f'{name} part {value}' for name, value in named)}; {_ADVICE}"
            )


def _accumulation(trainer: Trainer) -> Callable[[int], int]:
    """How many batches make a step, by the epoch."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, GradientAccumulationScheduler):
            return callback.get_accumulate_grad_batches
    count = trainer.accumulate_grad_batches
    return lambda epoch: count


def _nearest_neighbour_accuracy(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, labels: Tensor
) -> Tensor:
    """Share of queries (m, D) whose nearest of the bank (n, D), by cosine, has their label."""
    bank = F.normalize(bank)
    parts = torch.split(F.normalize(queries), 1024)
    nearest = [(part @ bank.T).argmax(dim=1) for part in parts]
    return (bank_labels[torch.cat(nearest)] == labels).float().mean()


def _mean_correlation(z1: Tensor, z2: Tensor) -> float | None:
    """The mean canonical correlation; None of too few samples or of a collapsed embedding."""
    try:
        return mean_canonical_correlation(z1.float(), z2.float()).item()
    except ValueError:  # no reason to stop a run that trains
        return None


def _shape(state: dict[str, Tensor], name: str) -> tuple[int, ...] | str:
    return tuple(state[name].shape) if name in state else "absent"


def _all_random_states() -> list[dict[str, Tensor]]:
    """The random state of every process, in order of rank."""
    own = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        own["cuda"] = torch.cuda.get_rng_state()
    if world_size() == 1:
        return [own]
    states: list[dict[str, Tensor]] = [{} for _ in range(world_size())]
    dist.all_gather_object(states, own)
    return states


def _set_random_state(state: dict[str, Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


@runtime_checkable
class _Movable(Protocol):
    def to(self, *args: Any, **kwargs: Any) -> Any: ...
