from typing import Any, NamedTuple, get_args

import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from star_head import EquivariantPredictor, RoutedExperts, STARProjectionHead
from star_head.head import Routing

SEEDS = st.integers(0, 2**32 - 1)
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.bfloat16])
BATCH_NORMS = st.sampled_from([nn.BatchNorm1d, None])
NORMS = st.sampled_from([nn.BatchNorm1d, nn.LayerNorm, None])


class Sizes(NamedTuple):
    batch: int
    input_dim: int
    hidden_dim: int
    output_dim: int
    num_experts: int
    num_tasks: int
    num_layers: int


SIZES = st.builds(
    Sizes,
    batch=st.integers(2, 9),
    input_dim=st.integers(1, 7),
    hidden_dim=st.integers(2, 7),
    output_dim=st.integers(1, 5),
    num_experts=st.integers(1, 6),
    num_tasks=st.integers(1, 3),
    num_layers=st.integers(1, 4),
)


def vary_norms(module: nn.Module) -> None:
    """Give norms scales, shifts and running statistics that do something."""
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and tensor.ndim == 1 and name not in ("mean", "std"):
            nn.init.uniform_(tensor, 0.5, 2)


def make(sizes: Sizes, seed: int, **kwargs: Any) -> tuple[RoutedExperts, torch.Tensor]:
    torch.manual_seed(seed)
    bank = RoutedExperts(*sizes[1:6], num_layers=sizes.num_layers, **kwargs).double()
    vary_norms(bank)
    return bank, torch.randn(sizes.batch, sizes.input_dim, dtype=torch.float64)


@given(SIZES, SEEDS, BATCH_NORMS, st.booleans(), st.booleans())
def test_bank_is_a_loop_over_experts(
    sizes: Sizes, seed: int, norm: type[nn.Module] | None, training: bool, fixed: bool
) -> None:
    torch.manual_seed(seed)
    mixing = torch.randn(sizes.num_tasks, sizes.num_experts) if fixed else None
    bank, features = make(sizes, seed, norm_layer=norm, mixing=mixing)
    bank.train(training)
    experts = [reference.expert(bank, k) for k in range(sizes.num_experts)]
    expected = reference.mix(experts, bank.routing_weights(features), features)
    torch.testing.assert_close(bank(features), expected)


@given(SIZES, SEEDS, NORMS, st.booleans())
def test_samples_in_another_order_come_out_in_that_order(
    sizes: Sizes, seed: int, norm: type[nn.Module] | None, training: bool
) -> None:
    bank, features = make(sizes, seed, norm_layer=norm)
    bank.train(training)
    order = torch.randperm(sizes.batch)
    torch.testing.assert_close(bank(features[order]), bank(features)[order])


@given(SIZES, SEEDS, NORMS)
def test_a_sample_does_not_see_the_others_in_evaluation(
    sizes: Sizes, seed: int, norm: type[nn.Module] | None
) -> None:
    bank, features = make(sizes, seed, norm_layer=norm)
    bank.eval()
    alone = torch.cat([bank(row.unsqueeze(0)) for row in features])
    torch.testing.assert_close(bank(features), alone)


@given(SIZES, SEEDS, NORMS, st.booleans())
def test_experts_in_another_order_with_their_routers_change_nothing(
    sizes: Sizes, seed: int, norm: type[nn.Module] | None, training: bool
) -> None:
    bank, features = make(sizes, seed, norm_layer=norm)
    other, _ = make(sizes, seed, norm_layer=norm)
    order = torch.randperm(sizes.num_experts)
    state = {}
    for name, tensor in bank.state_dict().items():
        if name.startswith("router"):
            by_expert = tensor.view(sizes.num_tasks, sizes.num_experts, -1)[:, order]
        elif tensor.ndim:
            by_expert = tensor.view(sizes.num_experts, -1)[order]
        else:
            by_expert = tensor  # a batch norm's count of batches
        state[name] = by_expert.reshape(tensor.shape)
    other.load_state_dict(state)
    bank.train(training)
    other.train(training)
    torch.testing.assert_close(other(features), bank(features))


@given(SIZES, SEEDS, DTYPES, st.floats(1e-3, 1e4))
def test_each_task_shares_out_one(
    sizes: Sizes, seed: int, dtype: torch.dtype, scale: float
) -> None:
    bank, features = make(sizes, seed)
    weights = bank.to(dtype).routing_weights((features * scale).to(dtype))
    assert weights.shape == (sizes.batch, sizes.num_tasks, sizes.num_experts)
    assert weights.dtype == dtype
    assert (weights >= 0).all()
    ones = torch.ones(sizes.batch, sizes.num_tasks, dtype=dtype)
    tolerance = torch.finfo(dtype).eps * sizes.num_experts
    torch.testing.assert_close(weights.sum(dim=2), ones, rtol=0, atol=tolerance)


@given(SIZES, SEEDS, st.sampled_from(get_args(Routing)), NORMS, DTYPES)
def test_every_routing_embeds_in_the_dtype_of_its_weights(
    sizes: Sizes, seed: int, routing: Routing, norm: type[nn.Module] | None, dtype: torch.dtype
) -> None:
    torch.manual_seed(seed)
    head = STARProjectionHead(
        sizes.input_dim,
        sizes.hidden_dim,
        sizes.output_dim,
        num_experts=sizes.num_experts if routing == "mmoe" else None,
        num_layers=sizes.num_layers,
        routing=routing,
        statistics="stl10",
        norm_layer=norm,
        dtype=dtype,
    )
    features = torch.randn(sizes.batch, sizes.input_dim, dtype=dtype)
    z = head(features)
    assert (z.equivariant is None) == (routing == "invariant")
    embeddings = [z.invariant]
    if z.equivariant is not None:
        embeddings += [z.equivariant, head.predict(z.equivariant, torch.rand(sizes.batch, 11))]
    for embedding in embeddings:
        assert embedding.shape == (sizes.batch, sizes.output_dim)
        assert embedding.dtype == dtype
        assert embedding.isfinite().all()
    with pytest.raises(TypeError, match="features: expected"):
        head(features.to(torch.float16))

    copy = STARProjectionHead(
        *sizes[1:4],
        num_experts=None if routing != "mmoe" else sizes.num_experts,
        num_layers=sizes.num_layers,
        routing=routing,
        norm_layer=norm,
        dtype=dtype,
    )
    copy.load_state_dict(head.state_dict())
    head.eval()
    copy.eval()
    assert torch.equal(copy(features).invariant, head(features).invariant)


@given(st.integers(2, 9), st.integers(1, 6), st.integers(1, 11), SEEDS, BATCH_NORMS, st.booleans())
def test_predictor_is_its_formula_and_units_do_not_matter(
    batch: int, width: int, count: int, seed: int, norm: type[nn.Module] | None, training: bool
) -> None:
    torch.manual_seed(seed)
    mean, std = torch.randn(count), torch.rand(count) + 0.1
    predictor = EquivariantPredictor(width, count, (mean, std), norm_layer=norm).double()
    predictor.train(training)
    embedding = torch.randn(batch, width, dtype=torch.float64)
    params = torch.randn(batch, count, dtype=torch.float64)
    predicted = predictor(embedding, params)
    torch.testing.assert_close(predicted, reference.predict(predictor, embedding, params))

    unit, origin = torch.rand(count).double() * 9 + 0.1, torch.randn(count).double()
    predictor.mean.mul_(unit).add_(origin)
    predictor.std.mul_(unit)
    torch.testing.assert_close(predictor(embedding, params * unit + origin), predicted)
