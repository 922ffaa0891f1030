"""Rank and spread of embeddings against slow references, and on embeddings whose value is known."""

import math

import pytest
import torch
from torch import Tensor

from star_head.metrics import (
    canonical_correlations,
    canonical_correlations_by_chance,
    effective_rank,
    embedding_spread,
)


def slow_rank(features: Tensor) -> float:
    singular = torch.linalg.svdvals(features.double()).tolist()
    shares = [value / sum(singular) for value in singular]
    return math.exp(-sum(p * math.log(p) for p in shares if p > 0))


def slow_spread(embeddings: Tensor) -> float:
    unit = [z / z.norm() for z in embeddings.double()]
    mean = sum(unit) / len(unit)
    return math.sqrt(sum(float((z - mean).square().sum()) for z in unit) / len(unit))


@pytest.mark.parametrize("shape", [(40, 8), (8, 40), (9, 1), (1, 9)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_as_the_slow_way(shape: tuple[int, int], dtype: torch.dtype) -> None:
    z = torch.randn(*shape).to(dtype)
    assert effective_rank(z).item() == pytest.approx(slow_rank(z), rel=1e-9)
    assert embedding_spread(z).item() == pytest.approx(slow_spread(z), abs=1e-9)


def test_known_answers() -> None:
    one_direction = torch.rand(50, 1) @ torch.rand(1, 6) + 0.1
    assert effective_rank(torch.ones(50, 6)).item() == pytest.approx(1)
    assert embedding_spread(torch.ones(50, 6)).item() == pytest.approx(0, abs=1e-12)
    assert embedding_spread(one_direction.sign()).item() == pytest.approx(0, abs=1e-12)
    even = torch.eye(6).repeat(5, 1)
    assert effective_rank(even).item() == pytest.approx(6)
    assert effective_rank(7 * even).item() == pytest.approx(6)  # whatever the scale
    assert embedding_spread(torch.cat([even, -even])).item() == pytest.approx(1)
    assert embedding_spread(torch.randn(4000, 6)).item() > 0.99
    assert effective_rank(torch.randn(4000, 6)).item() > 5.9


@pytest.mark.parametrize("measure", [effective_rank, embedding_spread])
@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (torch.ones(3), ValueError, r"expected shape \(B, D\), got \(3,\)"),
        (torch.ones(3, 2, dtype=torch.long), TypeError, "floating-point"),
        (torch.ones(0, 2), ValueError, "at least one row"),
        (torch.ones(2, 0), ValueError, "at least one row"),
        (torch.tensor([[1.0, math.nan]]), ValueError, "finite"),
        ([[1.0]], TypeError, "tensor"),
    ],
)
def test_bad_input(measure: object, given: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        measure(given)


def test_features_that_are_all_zero_have_no_rank() -> None:
    with pytest.raises(ValueError, match="only zeros"):
        effective_rank(torch.zeros(4, 3))


def test_chance_is_what_other_samples_give() -> None:
    z = torch.randn(60, 4)
    chance = canonical_correlations_by_chance(z, z, seed=3)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(chance, canonical_correlations(z[order], z))
    assert chance.mean() < 0.6
    assert canonical_correlations(z, z).mean() > 0.999
    few, many = (
        canonical_correlations_by_chance(torch.randn(n, 4), torch.randn(n, 4)).mean()
        for n in (10, 1000)
    )
    assert many < 0.15 < few
