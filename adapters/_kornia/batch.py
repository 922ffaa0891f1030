"""What is kept of a batch that kornia augmented."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor


class RecordedBatch(NamedTuple):
    """What was done to a batch to make one view of each image: enough to do it again.

    Attributes:
        view: Number of the view, from 0.
        shape: The batch's, (B, C, H, W).
        values: The numbers, in the order and units of the transform's ``parameters``: (B, P), or
            (P,) where it was drawn for one size.
        params: What kornia drew, as its containers take it by ``params=``.
        tree: The container's parts and their arguments, of which the draws are.
    """

    view: int
    shape: tuple[int, ...]
    values: Tensor
    params: list[Any]
    tree: tuple[str, ...]

    def vector(self) -> Tensor:
        """The numbers: float32, (B, P), or (P,) where it was drawn for one size.

        Raises:
            ValueError: If one is not finite.
        """
        if not bool(self.values.isfinite().all()):
            raise ValueError(f"record: expected finite parameters, got {self.values}")
        return self.values
