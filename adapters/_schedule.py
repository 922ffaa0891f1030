"""A cosine to 0 that is a function of the epoch alone."""

import math
from collections.abc import Callable

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def accumulation(trainer: Trainer) -> Callable[[int], int]:
    """How many batches make a step, by the epoch."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, GradientAccumulationScheduler):
            return callback.get_accumulate_grad_batches
    count = trainer.accumulate_grad_batches
    return lambda epoch: count


def cosine(optimizer: Optimizer, epochs: int, accumulated: Callable[[int], int]) -> LambdaLR:
    """From the optimiser's rate, that of the first epoch's batches, to 0 over the epochs."""
    return LambdaLR(
        optimizer,
        lambda epoch: (
            (1 + math.cos(math.pi * epoch / epochs)) / 2 * accumulated(epoch) / accumulated(0)
        ),
    )


def take_own_rates(trainer: Trainer) -> None:
    """Take the rates from this run's schedules: a checkpoint's may be of another length."""
    for config in trainer.lr_scheduler_configs:
        schedule = config.scheduler
        if isinstance(schedule, LambdaLR):
            for group, base, factor in zip(
                schedule.optimizer.param_groups,
                schedule.base_lrs,
                schedule.lr_lambdas,
                strict=True,
            ):
                group["lr"] = base * factor(schedule.last_epoch)
