"""Stops where losses or weights are not finite."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from star_head.losses import STARLossTerms

_ADVICE = (
    "what helps a run begun anew: a lower learning rate, Trainer(gradient_clip_val=1.0), "
    "precision 'bf16-mixed' or '32-true' in place of '16-mixed', a higher temperature; what was "
    "saved before is whole"
)


class FiniteLosses:
    """Raises at a loss that is not finite, without making a GPU wait for the check.

    On a GPU a step's losses are looked at when the next step begins, by when they are there.
    """

    def __init__(self) -> None:
        self._pending: tuple[int, Tensor, torch.cuda.Event | None] | None = None

    def add(self, step: int, terms: STARLossTerms) -> None:
        """Note a step's losses, and check those of the step before."""
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
        """Look at what was noted last.

        Raises:
            FloatingPointError: If a loss is not finite.
        """
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


def check_finite_weights(state: Mapping[str, Any], step: int) -> None:
    """Look at the tensors of a state; what modules add to it beside them is their own.

    Raises:
        FloatingPointError: If a weight is not finite.
    """
    bad = [name for name, value in state.items() if not _is_finite(name, value)]
    if bad:
        raise FloatingPointError(
            f"weights are not finite after step {step}, first {bad[0]}; {_ADVICE}"
        )


def _is_finite(name: str, value: Any) -> bool:
    if name.endswith("_extra_state") or not isinstance(value, Tensor):
        return True
    if not (value.is_floating_point() or value.is_complex()):
        return True
    # Not every operation knows the dtypes of one byte.
    return bool((value.float() if value.element_size() == 1 else value).isfinite().all())
