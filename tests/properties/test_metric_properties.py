import torch
from hypothesis import given
from hypothesis import strategies as st

from star_head import Statistics, metrics
from star_head.augmentation import AugmentationRecord, estimate_statistics
from star_head.equivariance_metrics import parameter_r2, retrieval, retrieval_chance

SEEDS = st.integers(0, 2**32 - 1)
WIDTHS = st.integers(1, 6)
SCALES = st.floats(1e-6, 1e6)
SCORES = range(3)  # of RetrievalScores, those that are shares


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def invertible(seed: int, width: int) -> torch.Tensor:
    """A matrix that turns, mirrors and stretches by at most 4."""
    u, _, vh = torch.linalg.svd(normal(seed, width, width))
    return u * torch.linspace(0.5, 2, width).double() @ vh


def routing(seed: int, batch: int, tasks: int, experts: int) -> torch.Tensor:
    """Weights from nearly equal to nearly one-hot."""
    sharpness = 10 ** normal(seed, batch, tasks, 1)
    return (normal(seed + 1, batch, tasks, experts) * sharpness).softmax(dim=2)


@given(WIDTHS, WIDTHS, st.integers(1, 40), SEEDS, SCALES)
def test_correlations_are_of_subspaces(
    d1: int, d2: int, beyond: int, seed: int, scale: float
) -> None:
    n = max(d1, d2) + beyond
    z1 = normal(seed, n, d1)
    z2 = normal(seed + 1, n, d2) + z1[:, :1]
    correlations = metrics.canonical_correlations(z1, z2)
    assert correlations.shape == (min(d1, d2),)
    assert ((correlations >= 0) & (correlations <= 1)).all()
    assert (correlations.diff() <= 0).all()

    mapped = z1 @ invertible(seed, d1) * scale + normal(seed + 2, d1)
    padded = torch.cat([mapped, torch.full((n, 1), scale)], dim=1) if n > d1 + 1 else mapped
    order = normal(seed + 3, n).argsort()
    for other1, other2 in ((mapped, z2), (padded, z2), (z2, z1), (z1[order], z2[order])):
        found = metrics.canonical_correlations(other1, other2)
        torch.testing.assert_close(found, correlations, rtol=0, atol=1e-7)


@given(WIDTHS, st.integers(1, 40), SEEDS, st.sampled_from([torch.float32, torch.bfloat16]))
def test_an_embedding_correlates_perfectly_with_itself(
    d: int, beyond: int, seed: int, dtype: torch.dtype
) -> None:
    z = normal(seed, d + 1 + beyond, d).to(dtype)
    correlations = metrics.canonical_correlations(z, z.float() @ invertible(seed, d).float())
    torch.testing.assert_close(correlations, torch.ones(d).double(), rtol=0, atol=1e-5)


@given(st.integers(1, 9), st.integers(1, 3), st.integers(1, 6), SEEDS)
def test_usage_shares_out_one_and_is_the_mean_of_its_groups(
    batch: int, tasks: int, experts: int, seed: int
) -> None:
    weights = routing(seed, batch, tasks, experts)
    usage = metrics.expert_usage(weights)
    torch.testing.assert_close(usage.sum(dim=1), torch.ones(tasks).double())
    groups = normal(seed + 2, batch).abs().long()
    by_group = metrics.usage_by_group(weights, groups)
    counts = groups.bincount().double()
    assert torch.equal(by_group.isnan().flatten(1).any(dim=1), counts == 0)
    weighted = (by_group.nan_to_num() * counts.view(-1, 1, 1)).sum(dim=0) / batch
    torch.testing.assert_close(weighted, usage)
    order = normal(seed + 3, batch).argsort()
    torch.testing.assert_close(metrics.expert_usage(weights[order]), usage)


@given(st.integers(1, 9), st.integers(1, 6), SEEDS)
def test_entropy_divergence_and_roles_keep_their_bounds(
    batch: int, experts: int, seed: int
) -> None:
    weights = routing(seed, batch, 2, experts)
    entropy = metrics.routing_entropy(weights)
    assert ((entropy >= 0) & (entropy <= 1 + 1e-12)).all()
    divergence = metrics.routing_divergence(weights)
    assert -1e-12 <= divergence <= 1 + 1e-12
    torch.testing.assert_close(metrics.routing_divergence(weights.flip(1)), divergence)
    same = weights[:, :1].expand(-1, 2, -1)
    assert metrics.routing_divergence(same).abs() < 1e-12
    roles = metrics.expert_roles(metrics.expert_usage(weights))
    assert (roles.abs() <= 1).all()
    swapped = metrics.expert_roles(metrics.expert_usage(weights.flip(1)))
    torch.testing.assert_close(swapped, -roles)
    order = normal(seed + 2, experts).argsort()
    torch.testing.assert_close(metrics.routing_entropy(weights[..., order]), entropy)
    torch.testing.assert_close(metrics.routing_divergence(weights[..., order]), divergence)


@given(st.integers(3, 30), st.integers(1, 3), st.integers(2, 6), WIDTHS, SEEDS, SCALES)
def test_usage_correlation_knows_no_units(
    batch: int, tasks: int, experts: int, count: int, seed: int, scale: float
) -> None:
    weights, params = routing(seed, batch, tasks, experts), normal(seed + 2, batch, count)
    correlation = metrics.usage_correlation(weights, params)
    assert correlation.shape == (tasks, experts, count)
    assert (correlation.abs() <= 1).all()
    moved = metrics.usage_correlation(weights, params * scale + scale)
    torch.testing.assert_close(moved, correlation, rtol=0, atol=1e-6)
    torch.testing.assert_close(metrics.usage_correlation(weights, -params), -correlation)
    constant = metrics.usage_correlation(weights, torch.full((batch, 1), scale))
    assert constant.isnan().all()


@given(st.integers(1, 4), st.integers(2, 8), WIDTHS, st.integers(1, 4), SEEDS, SCALES)
def test_retrieval_keeps_its_bounds_and_knows_no_order(
    images: int, views: int, width: int, count: int, seed: int, scale: float
) -> None:
    predicted, embeddings = (
        normal(seed, images, views, width),
        normal(seed + 1, images, views, width),
    )
    params, std = normal(seed + 2, images, views, count), normal(seed + 3, count).abs() + 0.1
    scores = retrieval(predicted, embeddings, params, std)
    assert 1 / views <= scores.mean_reciprocal_rank <= 1  # ranks from 1 to K
    assert 0 <= scores.hit_at_1 <= min(scores.hit_at_5, scores.mean_reciprocal_rank) <= 1
    if views <= 5:
        assert scores.hit_at_5 == 1
    distances = torch.cdist(params / std, params / std)
    assert 0 <= scores.prediction_retrieval_error <= distances.max()

    turn = torch.linalg.qr(normal(seed + 4, width, width)).Q * scale
    first, second = normal(seed + 5, images).argsort(), normal(seed + 6, views).argsort()
    for other in (
        retrieval(predicted @ turn, embeddings @ turn, params, std),
        retrieval(predicted[first], embeddings[first], params[first], std),
        retrieval(predicted[:, second], embeddings[:, second], params[:, second], std),
        retrieval(predicted, embeddings, params * scale, std * scale),
    ):
        torch.testing.assert_close(torch.tensor(other), torch.tensor(scores))


@given(st.integers(1, 4), st.integers(2, 8), st.integers(2, 6), st.integers(1, 4), SEEDS, SCALES)
def test_retrieval_of_the_views_themselves_is_perfect_and_of_equal_ones_is_chance(
    images: int, views: int, width: int, count: int, seed: int, scale: float
) -> None:
    embeddings, params = normal(seed, images, views, width), normal(seed + 1, images, views, count)
    std = torch.ones(count)
    assert retrieval(embeddings * scale, embeddings, params, std) == (1, 1, 1, 0)
    same = embeddings[:, :1].expand(-1, views, -1)
    chance = retrieval_chance(params, std)
    for predicted in (embeddings, same):
        torch.testing.assert_close(
            torch.tensor(retrieval(predicted, same, params, std)), torch.tensor(chance)
        )
    ranks = range(1, views + 1)
    expected = [
        sum(1 / rank for rank in ranks) / views,
        1 / views,
        sum(rank <= 5 for rank in ranks) / views,
        torch.stack(
            [(a[i] - a[j]).norm() for a in params for i in range(views) for j in range(views)]
        )
        .mean()
        .item(),
    ]
    torch.testing.assert_close(torch.tensor(chance), torch.tensor(expected))


@given(st.integers(20, 60), WIDTHS, WIDTHS, SEEDS, SCALES)
def test_r2_is_at_most_1_and_knows_no_units(
    n: int, width: int, count: int, seed: int, scale: float
) -> None:
    original, view = normal(seed, n, width), normal(seed + 1, n, width)
    noise = normal(seed + 2, n, count)
    params = (view - original) @ normal(seed + 3, width, count) + noise
    r2 = parameter_r2(original, view, params)
    assert r2.shape == (count,)
    assert (r2 <= 1).all()
    moved = parameter_r2(original * scale + scale, view * scale, params * scale - scale)
    torch.testing.assert_close(moved, r2, rtol=1e-5, atol=1e-5)
    linear = parameter_r2(original, view, params - noise)
    assert (linear > 0.99).all()
    assert (r2 <= linear).all()
    constant = parameter_r2(original, view, torch.full((n, 1), scale))
    assert constant.isnan().all()


class Uniform:
    """Draws records whose factors are uniform within bounds; the rest never varies."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def sample(self, image: tuple[int, int]) -> AugmentationRecord:
        factor = self.low + (self.high - self.low) * torch.rand(()).item()
        return AugmentationRecord(0, 0, *image, brightness=factor)


@given(st.integers(2, 50), st.floats(0, 1), st.floats(0, 1), SEEDS)
def test_statistics_are_the_records_own_and_leave_the_generator_alone(
    count: int, low: float, width: float, seed: int
) -> None:
    state = torch.get_rng_state()
    transform = Uniform(low, low + width)
    statistics = estimate_statistics(transform, [(8, 9)], count, seed)
    assert torch.equal(torch.get_rng_state(), state)
    assert statistics == estimate_statistics(transform, [(8, 9)], count, seed)
    assert low - 1e-6 <= statistics.mean[5] <= low + width + 1e-6
    assert 0 < statistics.std[5] <= max(width, 1)
    rest = Statistics(*(tuple(s[:5]) + tuple(s[6:]) for s in statistics))
    assert rest.mean == (0, 0, 8, 9, 0, 1, 1, 0, 0, 0)
    assert rest.std == (1,) * 10
