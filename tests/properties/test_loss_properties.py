import math

import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st

from star_head import NTXentLoss, STAREmbeddings, STARLoss

SEEDS = st.integers(0, 2**32 - 1)
COUNTS = st.integers(2, 40)
WIDTHS = st.integers(1, 12)
TEMPERATURES = st.floats(0.05, 5)


def pair(n: int, d: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    z0, z1 = torch.randn(2, n, d, dtype=torch.float64).unbind()
    return z0, z1


@given(st.integers(2, 5), st.integers(1, 4), SEEDS, TEMPERATURES)
def test_nt_xent_is_its_formula(n: int, d: int, seed: int, temperature: float) -> None:
    z0, z1 = pair(n, d, seed)
    expected = reference.nt_xent(z0, z1, temperature)
    torch.testing.assert_close(NTXentLoss(temperature)(z0, z1), expected)


@given(COUNTS, WIDTHS, SEEDS, TEMPERATURES)
def test_nt_xent_knows_neither_order_nor_direction_nor_length(
    n: int, d: int, seed: int, temperature: float
) -> None:
    loss = NTXentLoss(temperature)
    z0, z1 = pair(n, d, seed)
    expected = loss(z0, z1)
    order = torch.randperm(n)
    rotation = torch.linalg.qr(torch.randn(d, d, dtype=torch.float64)).Q
    length0, length1 = torch.logspace(-3, 3, n).double()[torch.stack([order, order.flip(0)])]
    torch.testing.assert_close(loss(z1, z0), expected)
    torch.testing.assert_close(loss(z0[order], z1[order]), expected)
    torch.testing.assert_close(loss(z0 @ rotation, z1 @ rotation), expected)
    torch.testing.assert_close(loss(z0 * length0[:, None], z1 * length1[:, None]), expected)


@given(COUNTS, WIDTHS, SEEDS, TEMPERATURES)
def test_nt_xent_keeps_its_bounds(n: int, d: int, seed: int, temperature: float) -> None:
    # All of the 2n - 2 others as far away, or as near, as they can be.
    lowest, highest = (math.log1p((2 * n - 2) * math.exp(s / temperature)) for s in (-2, 2))
    for z0, z1 in (pair(n, d, seed), (pair(n, d, seed)[0],) * 2):
        assert lowest - 1e-9 <= NTXentLoss(temperature)(z0, z1).item() <= highest + 1e-9
    same = torch.ones(n, d, dtype=torch.float64)
    loss = NTXentLoss(temperature)(same, same).item()
    assert loss == pytest.approx(math.log(2 * n - 1))


@given(COUNTS, WIDTHS, SEEDS, TEMPERATURES)
def test_gradients_do_not_lengthen_embeddings(
    n: int, d: int, seed: int, temperature: float
) -> None:
    embeddings = [z.requires_grad_() for z in pair(n, d, seed)]
    NTXentLoss(temperature)(*embeddings).backward()
    for z in embeddings:
        along = (z.grad * z).sum(dim=1)
        torch.testing.assert_close(along, torch.zeros(n).double(), rtol=0, atol=1e-12)


@given(COUNTS, WIDTHS, SEEDS, st.sampled_from([torch.float16, torch.bfloat16]))
def test_half_precision_is_computed_in_float32(
    n: int, d: int, seed: int, dtype: torch.dtype
) -> None:
    z0, z1 = (z.to(dtype) for z in pair(n, d, seed))
    loss = NTXentLoss()(z0, z1)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, NTXentLoss()(z0.float(), z1.float()))


@given(COUNTS, WIDTHS, SEEDS)
def test_an_embedding_of_zeros_has_a_finite_loss_and_gradient(n: int, d: int, seed: int) -> None:
    z0, z1 = (z.float() for z in pair(n, d, seed))
    z0[0] = 0
    z0.requires_grad_()
    loss = NTXentLoss()(z0, z1)
    loss.backward()
    assert loss.isfinite()
    assert z0.grad.isfinite().all()


@given(COUNTS, WIDTHS, st.integers(1, 12), SEEDS, TEMPERATURES, st.floats(0, 10))
def test_star_loss_adds_its_parts_and_knows_no_first_view(
    n: int, d: int, d_equivariant: int, seed: int, temperature: float, weight: float
) -> None:
    z1, z2 = map(STAREmbeddings, pair(n, d, seed), pair(n, d_equivariant, seed + 1))
    predicted1, predicted2 = pair(n, d_equivariant, seed + 2)
    loss = STARLoss(temperature, equivariant_weight=weight)
    terms = loss(z1, z2, predicted1, predicted2)
    torch.testing.assert_close(terms.total, terms.invariant + weight * terms.equivariant)
    nt_xent = NTXentLoss(temperature)
    torch.testing.assert_close(terms.invariant, nt_xent(z1.invariant, z2.invariant))
    views = torch.cat([z1.equivariant, z2.equivariant])
    predictions = torch.cat([predicted1, predicted2])
    torch.testing.assert_close(terms.equivariant, nt_xent(views, predictions))
    torch.testing.assert_close(loss(z2, z1, predicted2, predicted1), terms)


@given(COUNTS, WIDTHS, COUNTS, WIDTHS, SEEDS)
def test_other_shapes_are_named(n0: int, d0: int, n1: int, d1: int, seed: int) -> None:
    z0, z1 = pair(n0, d0, seed)[0], pair(n1, d1, seed)[1]
    if z0.shape == z1.shape:
        assert NTXentLoss()(z0, z1).isfinite()
    else:
        with pytest.raises(ValueError, match=rf"\({n0}, {d0}\), got \({n1}, {d1}\)"):
            NTXentLoss()(z0, z1)
