"""NT-Xent, and STAR's loss: an invariant and an equivariant part.

Sources: SimCLR (arXiv 2002.05709) for NT-Xent; STAR (arXiv 2510.27222) for the sum.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from star_head._checks import check_flag, check_matrix, check_not_negative, describe, meant
from star_head._gather import gather, rank, world_size
from star_head._info_nce import InfoNCE
from star_head._loss_checks import (
    TWO_TENSORS,
    check_loss,
    check_tensor,
    warn_of_separate_processes,
)
from star_head._parts import not_a_tensor
from star_head._temperature import check_temperature, describe_temperature, usable_temperature
from star_head.experts import reset_children
from star_head.head import STAREmbeddings


class NTXentLoss(nn.Module):
    """Normalised temperature-scaled cross-entropy of SimCLR, equal to lightly's.

    For 2n unit vectors u, n from each side: the mean over i of
    -log(exp(u_i . u_p(i) / t) / sum_{j != i} exp(u_i . u_j / t)), p(i) being i's counterpart.

    Similarities are computed in float32 or better, also under autocast (as TF32 where
    ``torch.set_float32_matmul_precision`` allows that). Memory grows with n, not
    with its square: the similarity matrix is never held whole. The gradient itself cannot be
    differentiated again.

    Args:
        temperature: t, greater than 0: a number, or a tensor of one. An ``nn.Parameter`` is
            learned with the network and is in the state_dict. Should it leave the positive
            numbers, that raises a ValueError on the CPU and makes the loss nan on a GPU, where
            looking would wait, and under ``torch.compile``.
        memory_bank_size: 0, as lightly's arguments are kept to in their order: this loss has no
            memory bank.
        gather_distributed: Compare with the samples of all processes. Each process averages over
            its own anchors and gradients flow back to the process that they belong to: W times
            those of the loss over the whole batch, so that averaging over W processes, as
            DistributedDataParallel does, gives exactly the whole batch's parameter gradients.
            Every process must bring the same number of samples.

    Raises:
        TypeError: If ``temperature`` is no number, ``gather_distributed`` is not True or False, or
            ``memory_bank_size`` is: ``gather_distributed`` comes third.
        ValueError: If ``temperature`` is not positive, a memory bank is asked for, or
            ``gather_distributed`` is asked of a PyTorch without ``torch.distributed``.

    Example:
        >>> loss = NTXentLoss(temperature=0.2)
        >>> loss(torch.randn(8, 16), torch.randn(8, 16)).shape
        torch.Size([])
        >>> NTXentLoss(temperature=nn.Parameter(torch.tensor(0.2)))
        NTXentLoss(temperature=0.2 (learned), gather_distributed=False)
    """

    temperature: float | Tensor

    def __init__(
        self,
        temperature: float | Tensor = 0.5,
        memory_bank_size: int | Sequence[int] = 0,
        gather_distributed: bool = False,
    ) -> None:
        super().__init__()
        if isinstance(memory_bank_size, bool):
            raise TypeError(
                f"memory_bank_size: expected 0, got {memory_bank_size}; give gather_distributed "
                f"by keyword: NTXentLoss({temperature}, gather_distributed={memory_bank_size})"
            )
        if memory_bank_size != 0:
            raise ValueError(
                f"memory_bank_size: expected 0, since this loss has no memory bank, got "
                f"{memory_bank_size}; lightly.loss.NTXentLoss(memory_bank_size=...) has one, and "
                f"STARLoss(invariant_loss=...) takes it"
            )
        check_temperature(temperature)
        check_flag("gather_distributed", gather_distributed)
        if gather_distributed and not dist.is_available():
            raise ValueError(
                "gather_distributed: this PyTorch was built without torch.distributed; "
                "set gather_distributed=False or install a build that has it"
            )
        self.temperature = temperature
        self.gather_distributed = gather_distributed
        self._initial_temperature: float | None = None
        if not isinstance(temperature, Tensor):
            self._initial_temperature = float(temperature)
        elif not temperature.is_meta:
            self._initial_temperature = temperature.item()

    @property
    def given_temperature(self) -> float | None:
        """The temperature as it was given, whatever a schedule made of it; ``None`` if learned."""
        learned = isinstance(self.temperature, Tensor) and self.temperature.requires_grad
        return None if learned else self._initial_temperature

    def reset_parameters(self) -> None:
        """Set a learned temperature to what it began with.

        Raises:
            ValueError: If it was made on the meta device, where it had no value.
        """
        if not isinstance(self.temperature, nn.Parameter):
            return
        if self._initial_temperature is None:
            raise ValueError(
                "temperature: was made on the meta device and has no value to begin with; "
                "make the parameter elsewhere, or load a state_dict"
            )
        nn.init.constant_(self.temperature, self._initial_temperature)

    def forward(self, out0: Tensor, out1: Tensor) -> Tensor:
        """Compare n samples' embeddings with their counterparts.

        Args:
            out0: (n, d).
            out1: (n, d); row i is the counterpart of ``out0``'s row i.

        Returns:
            The loss, a scalar.

        Raises:
            TypeError: If one of them is not a floating-point tensor.
            ValueError: If the shapes differ, there are fewer than two samples to compare, or a
                learned temperature is no longer positive.
        """
        check_matrix("out0", out0)
        check_matrix("out1", out1)
        if out0.shape != out1.shape:
            raise ValueError(
                f"out1: expected the shape of out0, {tuple(out0.shape)}, got {tuple(out1.shape)}"
            )
        gathering = self.gather_distributed and world_size() > 1
        n = len(out0)
        if n < 1 or (n < 2 and not gathering):
            raise ValueError(f"out0: expected at least 2 samples to compare, got {n}")
        dtype = torch.promote_types(out0.dtype, torch.float32)
        with torch.autocast(out0.device.type, enabled=False):
            u0, u1 = (F.normalize(z.to(dtype), dim=1) for z in (out0, out1))
            both = torch.cat([u0, u1])
            anchors = both / usable_temperature(self.temperature, like=both)
            candidates = torch.cat([gather(u) if gathering else u for u in (u0, u1)])
            first = torch.arange(n, device=out0.device) + (n * rank() if gathering else 0)
            second = first + len(candidates) // 2
            own, positive = torch.cat([first, second]), torch.cat([second, first])
            with_gradient = torch.is_grad_enabled() and anchors.requires_grad
            loss: Tensor = InfoNCE.apply(anchors, candidates, own, positive, with_gradient)
        return loss

    def extra_repr(self) -> str:
        """The settings, for printing."""
        temperature = describe_temperature(self.temperature)
        return f"temperature={temperature}, gather_distributed={self.gather_distributed}"


@not_a_tensor("what is minimised is terms.total")
class STARLossTerms(NamedTuple):
    """STAR's loss and its parts, scalars.

    Attributes:
        total: What is minimised.
        invariant: L_inv.
        equivariant: L_eq, unweighted, or ``None`` from a head without an equivariant task.
    """

    total: Tensor
    invariant: Tensor
    equivariant: Tensor | None


class STARLoss(nn.Module):
    """STAR's loss: L = L_inv + lambda L_eq.

    L_inv compares the two views' invariant embeddings, n pairs; L_eq compares the views'
    equivariant embeddings with those predicted for them, 2n pairs.

    Args:
        temperature: That of both NT-Xent losses, as in :class:`NTXentLoss`; a learned one is
            shared by the two.
        equivariant_weight: lambda, not negative.
        gather_distributed: As :class:`NTXentLoss` takes it. A warning tells once of losses that do
            not gather where there are several processes.
        invariant_loss: In place of NT-Xent, any module on two (n, d) tensors.
        equivariant_loss: In place of NT-Xent, any module on two (2n, d) tensors.

    Raises:
        TypeError: If a loss cannot be called, or ``gather_distributed`` is not True or False.
        ValueError: If ``equivariant_weight`` is out of range, or the ``temperature`` of an NT-Xent
            loss that is made here.

    Example:
        >>> z1, z2 = (STAREmbeddings(torch.randn(8, 16), torch.randn(8, 16)) for _ in range(2))
        >>> terms = STARLoss()(z1, z2, torch.randn(8, 16), torch.randn(8, 16))
        >>> bool(terms.total == terms.invariant + terms.equivariant)
        True
    """

    def __init__(
        self,
        temperature: float | Tensor = 0.2,
        equivariant_weight: float = 1.0,
        gather_distributed: bool = False,
        invariant_loss: Callable[[Tensor, Tensor], Tensor] | None = None,
        equivariant_loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        check_loss("invariant_loss", invariant_loss)
        check_loss("equivariant_loss", equivariant_loss)
        check_not_negative("equivariant_weight", equivariant_weight)
        self.equivariant_weight = equivariant_weight
        if invariant_loss is None:
            invariant_loss = NTXentLoss(temperature, gather_distributed=gather_distributed)
            if equivariant_loss is None and isinstance(temperature, nn.Parameter):
                # One module, or the meta device's to_empty() would make two parameters of one.
                equivariant_loss = invariant_loss
        if equivariant_loss is None:
            equivariant_loss = NTXentLoss(temperature, gather_distributed=gather_distributed)
        self.invariant_loss = invariant_loss
        self.equivariant_loss = equivariant_loss
        self._warned = False

    def reset_parameters(self) -> None:
        """Set a learned temperature to what it began with, and reset losses of the user's."""
        reset_children(self)

    def forward(
        self,
        z1: STAREmbeddings,
        z2: STAREmbeddings,
        predicted1: Tensor | None = None,
        predicted2: Tensor | None = None,
    ) -> STARLossTerms:
        """Compare two views' embeddings with each other and with the predictions.

        Args:
            z1: The first views' embeddings, (n, d) each.
            z2: The second views'.
            predicted1: The first views' predicted equivariant embeddings, (n, d); ``None`` only
                where the embeddings have no equivariant part.
            predicted2: The second views'.

        Returns:
            The loss and its parts.

        Raises:
            TypeError: If anything but embeddings and predictions came, or a loss gave anything but
                a tensor.
            ValueError: If the number of predictions differs from that of the equivariant
                embeddings, or a shape does not fit.
        """
        for name, z in (("z1", z1), ("z2", z2)):
            if not isinstance(z, STAREmbeddings):
                raise TypeError(
                    f"{name}: expected STAREmbeddings, as a STARProjectionHead makes them of "
                    f"features, got {describe(z)}{meant(z) or TWO_TENSORS}"
                )
        for name, p in (("predicted1", predicted1), ("predicted2", predicted2)):
            if p is not None and not isinstance(p, Tensor):
                raise TypeError(
                    f"{name}: expected a tensor, what head.predict gives, got {describe(p)}"
                )
        if self.training and not torch.compiler.is_compiling():
            self.warn_unless_gathering(len(z1.invariant), z1.equivariant is not None)
        invariant = check_tensor("invariant_loss", self.invariant_loss(z1.invariant, z2.invariant))
        equivariant = [z.equivariant for z in (z1, z2) if z.equivariant is not None]
        predicted = [p for p in (predicted1, predicted2) if p is not None]
        if len(predicted) != len(equivariant):
            remedy = (
                "; head.predict(original.equivariant, params) makes each" if equivariant else ""
            )
            raise ValueError(
                f"predicted: expected one for each equivariant embedding, {len(equivariant)}, "
                f"got {len(predicted)}{remedy}"
            )
        if not equivariant:
            return STARLossTerms(invariant, invariant, None)
        for i, (prediction, embedding) in enumerate(zip(predicted, equivariant, strict=True), 1):
            if prediction.shape != embedding.shape:
                raise ValueError(
                    f"predicted{i}: expected the shape of the equivariant embedding, "
                    f"{tuple(embedding.shape)}, got {tuple(prediction.shape)}"
                )
        loss = self.equivariant_loss(torch.cat(equivariant), torch.cat(predicted))
        loss = check_tensor("equivariant_loss", loss)
        return STARLossTerms(invariant + self.equivariant_weight * loss, invariant, loss)

    def extra_repr(self) -> str:
        """The weight, for printing."""
        return f"equivariant_weight={self.equivariant_weight}"

    def warn_unless_gathering(self, batch_size: int, equivariant: bool = True) -> None:
        """Warn once, where there are several processes, of a loss that sees one's samples alone.

        ``forward`` does so in training, unless compiled.

        Args:
            batch_size: Images in a process's batch.
            equivariant: Whether the equivariant loss is computed.
        """
        if not self._warned and world_size() > 1:
            self._warned = True
            parts = (self.invariant_loss, self.equivariant_loss)[: 1 + equivariant]
            warn_of_separate_processes(parts, batch_size)
