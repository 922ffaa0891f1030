import math

import numpy as np
import pytest
import torch
from sklearn.cross_decomposition import CCA
from torch import Tensor

from star_head import STARProjectionHead, metrics


def correlated(n: int, correlations: list[float]) -> tuple[Tensor, Tensor]:
    """Columns orthonormal in the sample, so that the correlations are exactly these."""
    d = len(correlations)
    z = torch.randn(n, 2 * d, dtype=torch.float64)
    q = torch.linalg.qr(z - z.mean(0)).Q
    rho = torch.tensor(correlations, dtype=torch.float64)
    return q[:, :d], q[:, :d] * rho + q[:, d:] * (1 - rho**2).sqrt()


@pytest.mark.parametrize("n", [13, 100, 3000])
def test_known_correlations_survive_any_linear_map(n: int) -> None:
    expected = [0.99, 0.7, 0.3, 0.0]
    z1, z2 = correlated(n, expected)
    z1 = 1e4 * z1 @ torch.randn(4, 4, dtype=torch.float64) + 5
    z2 = z2 @ torch.randn(4, 6, dtype=torch.float64) - 3  # rank 4 in 6 dimensions
    found = metrics.canonical_correlations(z1, z2)
    torch.testing.assert_close(found, torch.tensor(expected).double(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(metrics.mean_canonical_correlation(z1, z2), found.mean())


def test_equals_scikit_learn() -> None:
    z1 = torch.randn(200, 3, dtype=torch.float64)
    z2 = z1 @ torch.randn(3, 3, dtype=torch.float64) + torch.randn(200, 3, dtype=torch.float64)
    x, y = CCA(3, max_iter=10_000, tol=1e-12).fit_transform(z1.numpy(), z2.numpy())
    expected = [np.corrcoef(x[:, i], y[:, i])[0, 1] for i in range(3)]
    found = metrics.canonical_correlations(z1, z2)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-6, atol=1e-6)


def test_noise_is_barely_correlated() -> None:
    found = metrics.mean_canonical_correlation(torch.randn(20_000, 8), torch.randn(20_000, 8))
    assert found < 0.03


@pytest.mark.parametrize("shape", [(4, 4), (3, 4)])
def test_too_few_samples(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"z1: expected more samples .*{shape[0]}, 4"):
        metrics.canonical_correlations(torch.randn(shape), torch.randn(shape[0], 2))


def test_bad_embeddings() -> None:
    z = torch.randn(9, 3)
    with pytest.raises(ValueError, match="z2: expected as many rows as z1, 9, got 8"):
        metrics.canonical_correlations(z, z[:8])
    with pytest.raises(ValueError, match="z2: expected finite"):
        metrics.canonical_correlations(z, torch.full((9, 3), float("nan")))
    constant = torch.full((1000, 8), 3.0) + 2e-7 * torch.randn(1000, 8)  # off by a bit or two
    with pytest.raises(ValueError, match="z2: expected embeddings that vary"):
        metrics.canonical_correlations(torch.randn(1000, 8), constant)
    metrics.canonical_correlations(torch.randn(1000, 8), 1000 + torch.randn(1000, 8))
    with pytest.raises(ValueError, match="z1: expected embeddings that vary"):
        metrics.canonical_correlations(torch.full((9, 3), 0.1), z)


def test_usage_and_entropy_equal_loops() -> None:
    weights = torch.randn(7, 2, 5).softmax(-1)
    usage, entropy = metrics.expert_usage(weights), metrics.routing_entropy(weights)
    for t in range(2):
        for k in range(5):
            assert usage[t, k].item() == pytest.approx(sum(weights[:, t, k].tolist()) / 7, rel=1e-5)
        entropies = [-sum(p * math.log(p, 5) for p in row) for row in weights[:, t].tolist()]
        assert entropy[t].item() == pytest.approx(sum(entropies) / 7, rel=1e-5)


def test_entropy_and_divergence_at_their_bounds() -> None:
    one, other, even = torch.eye(4)[0], torch.eye(4)[1], torch.full((4,), 0.25)
    apart = torch.stack([one, other]).expand(3, 2, 4)
    alike = torch.stack([even, even]).expand(3, 2, 4)
    torch.testing.assert_close(metrics.routing_entropy(apart), torch.zeros(2))
    torch.testing.assert_close(metrics.routing_entropy(alike), torch.ones(2))
    torch.testing.assert_close(metrics.routing_divergence(apart), torch.tensor(1.0))
    torch.testing.assert_close(metrics.routing_divergence(alike), torch.tensor(0.0))
    assert metrics.routing_entropy(torch.ones(3, 1, 1)).tolist() == [0.0]


def test_divergence_equals_loop() -> None:
    weights = torch.randn(6, 2, 3).softmax(-1)
    total = 0.0
    for p, q in weights.tolist():
        for a, b in zip(p, q, strict=True):
            m = (a + b) / 2
            total += (a * math.log2(a / m) + b * math.log2(b / m)) / 2
    assert metrics.routing_divergence(weights).item() == pytest.approx(total / 6, rel=1e-5)


def test_bad_weights() -> None:
    with pytest.raises(ValueError, match=r"weights: .*got \(3, 4\)"):
        metrics.expert_usage(torch.rand(3, 4))
    with pytest.raises(ValueError, match=r"weights: expected two tasks.*\(3, 1, 4\)"):
        metrics.routing_divergence(torch.rand(3, 1, 4))


def test_usage_by_group_equals_a_loop() -> None:
    weights, groups = torch.randn(40, 2, 5).softmax(-1), torch.randint(3, (40,))
    groups[groups == 1] = 4
    usage = metrics.usage_by_group(weights, groups)
    assert usage.shape == (5, 2, 5)
    for group in (0, 2, 4):
        torch.testing.assert_close(usage[group], metrics.expert_usage(weights[groups == group]))
    assert usage[[1, 3]].isnan().all()


def test_usage_correlation_equals_numpy() -> None:
    weights, params = torch.randn(60, 2, 4).softmax(-1), torch.randn(60, 3) * 1e3 + 7
    params[:, 0] += 1e4 * weights[:, 1, 2]
    params[:, 2] = 0.1
    found = metrics.usage_correlation(weights, params)
    assert found.shape == (2, 4, 3)
    for t in range(2):
        for k in range(4):
            for p in range(2):
                expected = np.corrcoef(weights[:, t, k].double(), params[:, p].double())[0, 1]
                assert found[t, k, p].item() == pytest.approx(expected)
    assert found[..., :2].abs().view(-1, 2).argmax(dim=0)[0] == 6  # task 1, expert 2
    assert found[..., 2].isnan().all()
    assert metrics.usage_correlation(torch.ones(60, 1, 1), params).isnan().all()


def test_expert_roles() -> None:
    usage = torch.tensor([[0.6, 0.3, 0.1, 0.0, 0.0], [0.0, 0.1, 0.1, 0.8, 0.0]])
    roles = metrics.expert_roles(usage)
    torch.testing.assert_close(roles[:4], torch.tensor([-1.0, -0.5, 0.0, 1.0]))
    assert roles[4].isnan()


def test_bad_usage() -> None:
    weights = torch.rand(3, 2, 4)
    with pytest.raises(ValueError, match=r"groups: expected one for each .*\(3,\).*\(2,\)"):
        metrics.usage_by_group(weights, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="groups: expected numbers from 0, got -1"):
        metrics.usage_by_group(weights, torch.tensor([0, 1, -1]))
    with pytest.raises(TypeError, match=r"groups: expected integers, got torch.float32"):
        metrics.usage_by_group(weights, torch.rand(3))
    for groups in ([0, 1, 1], np.array([0, 1, 1]), None):
        with pytest.raises(
            TypeError, match="groups: expected a tensor of integers.* got .*as_tensor"
        ):
            metrics.usage_by_group(weights, groups)
    with pytest.raises(ValueError, match="params: expected as many rows as weights, 3, got 2"):
        metrics.usage_correlation(weights, torch.rand(2, 11))
    with pytest.raises(ValueError, match=r"usage: expected two tasks.*\(3, 4\)"):
        metrics.expert_roles(torch.rand(3, 4))
    with pytest.raises(ValueError, match=r"usage: .* got -0\.5"):
        metrics.expert_roles(torch.tensor([[0.5], [-0.5]]))


@pytest.mark.parametrize("scale", [1.0, 0.25, 3.0])
def test_rows_that_do_not_sum_to_one_count_by_their_shares(scale: float) -> None:
    head = STARProjectionHead(6, 5, 4, routing="shared", statistics="stl10")
    weights = scale * head.routing_weights(torch.randn(7, 6))
    usage = metrics.expert_usage(weights)
    assert usage.tolist() == [[0.5, 0.0, 0.5], [0.0, 0.5, 0.5]]
    assert metrics.routing_divergence(weights).item() == pytest.approx(0.5)
    assert metrics.routing_entropy(weights).tolist() == pytest.approx([math.log(2, 3)] * 2)
    for group in metrics.usage_by_group(weights, torch.arange(7) % 2):
        assert torch.equal(group, usage)
    assert metrics.expert_roles(usage).tolist() == [-1, 1, 0]
    assert metrics.expert_roles(scale * usage).tolist() == [-1, 1, 0]


def test_any_positive_weights_count_as_loops_over_their_shares_say() -> None:
    weights = 5 * torch.rand(6, 2, 4, dtype=torch.float64)
    shares = [[[w / sum(row) for w in row] for row in sample] for sample in weights.tolist()]
    entropy = [sum(-p * math.log(p, 4) for s in shares for p in s[t]) / 6 for t in (0, 1)]
    torch.testing.assert_close(metrics.routing_entropy(weights).tolist(), entropy)
    divergence = 0.0
    for p, q in shares:
        for a, b in zip(p, q, strict=True):
            m = (a + b) / 2
            divergence += (a * math.log2(a / m) + b * math.log2(b / m)) / 2 / 6
    assert metrics.routing_divergence(weights).item() == pytest.approx(divergence)
    params = torch.randn(6, 1, dtype=torch.float64)
    correlation = np.corrcoef([s[1][2] for s in shares], params[:, 0])[0, 1]
    found = metrics.usage_correlation(weights, params)
    assert found[1, 2, 0].item() == pytest.approx(correlation)


MEASURES = {
    "usage": metrics.expert_usage,
    "by group": lambda weights: metrics.usage_by_group(weights, torch.arange(len(weights))),
    "correlation": lambda weights: metrics.usage_correlation(weights, torch.rand(len(weights), 2)),
    "entropy": metrics.routing_entropy,
    "divergence": metrics.routing_divergence,
}


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([0.0, 0.0], "weights: expected something above 0 in each row"),
        ([1.5, -0.5], "weights: expected weights of at least 0, .* got -0.5"),
        ([math.nan, 1.0], "weights: expected finite weights"),
        ([math.inf, 1.0], "weights: expected finite weights"),
    ],
)
def test_rows_that_are_no_mixture_are_refused(measure: str, row: list, message: str) -> None:
    weights = torch.tensor([[[0.5, 0.5], [0.5, 0.5]], [[0.25, 0.75], row]])
    with pytest.raises(ValueError, match=message):
        MEASURES[measure](weights)


def test_routing_in_half_precision_is_measured_in_float32() -> None:
    weights = torch.randn(50, 2, 16).softmax(-1)
    for measure in (metrics.expert_usage, metrics.routing_entropy, metrics.routing_divergence):
        found = measure(weights.bfloat16())
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, measure(weights), rtol=0, atol=5e-3)
