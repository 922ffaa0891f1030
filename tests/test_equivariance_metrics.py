import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from torch import Tensor

from star_head import equivariance_metrics, metrics

M, K, P = 6, 9, 3
STD = [1.0, 0.5, 4.0]


def drawn(m: int = M, k: int = K) -> tuple[Tensor, Tensor]:
    return torch.randn(m, k, 5, dtype=torch.float64), torch.randn(m, k, P) * torch.tensor(STD)


def test_equivariant_embedding_finds_every_view() -> None:
    z, params = drawn()
    # A prediction's length does not matter.
    assert metrics.retrieval(3 * z, z, params, STD) == (1.0, 1.0, 1.0, 0.0)


@pytest.mark.parametrize("k", [2, 4, 5, 9, 50])
def test_invariant_embedding_is_at_chance(k: int) -> None:
    z, params = drawn(k=k)
    alike = z[:, :1].expand(-1, k, -1)
    chance = metrics.retrieval_chance(params, STD)
    assert metrics.retrieval(z, alike, params, STD) == pytest.approx(chance, rel=1e-12)
    assert metrics.retrieval(z, torch.zeros_like(z), params, STD) == pytest.approx(chance)


def test_noise_is_near_chance() -> None:
    (z, params), (noise, _) = drawn(1500, 20), drawn(1500, 20)
    found, chance = metrics.retrieval(noise, z, params, STD), metrics.retrieval_chance(params, STD)
    assert chance[:3] == pytest.approx((sum(1 / r for r in range(1, 21)) / 20, 0.05, 0.25))
    assert found == pytest.approx(chance, rel=0.04)


def test_opposite_embedding_finds_its_view_last() -> None:
    z = torch.eye(K, dtype=torch.float64).expand(M, -1, -1)
    found = metrics.retrieval(-z, z, drawn()[1], STD)
    assert found[:3] == pytest.approx((1 / K, 0, 0))


def test_retrieval_equals_a_loop() -> None:
    (z, params), (noise, _) = drawn(), drawn()
    predicted = z + 0.7 * noise
    ranks, errors = [], []
    for i, j in itertools.product(range(M), range(K)):
        cosines = [torch.cosine_similarity(predicted[i, j], z[i, v], dim=0) for v in range(K)]
        order = sorted(range(K), key=lambda v: -cosines[v])
        ranks.append(1 + order.index(j))
        gap = (params[i, order[0]] - params[i, j]).double() / torch.tensor(STD).double()
        errors.append(gap.norm().item())
    expected = (
        np.mean([1 / r for r in ranks]),
        np.mean([r == 1 for r in ranks]),
        np.mean([r <= 5 for r in ranks]),
        np.mean(errors),
    )
    assert 1 < np.mean(ranks) < K / 2
    assert metrics.retrieval(predicted, z, params, torch.tensor(STD)) == pytest.approx(expected)


def test_ties_are_the_mean_over_their_orders() -> None:
    e1, e2 = torch.eye(2).tolist()
    z = torch.tensor([[e2, e1, e1, e1, e2]])  # view 0 is tied with 4, and behind the rest
    predicted = torch.tensor([e1]).expand(1, 5, 2)
    params = torch.tensor([[[0.0], [1.0], [2.0], [4.0], [8.0]]])
    found = metrics.retrieval(predicted, z, params, [1.0])
    tied_first, tied_last = (1 + 1 / 2 + 1 / 3) / 3, (1 / 4 + 1 / 5) / 2
    assert found.mean_reciprocal_rank == pytest.approx((3 * tied_first + 2 * tied_last) / 5)
    assert found.hit_at_1 == pytest.approx(3 / 3 / 5)
    assert found.hit_at_5 == 1
    errors = [abs(a - b) for a in (0, 1, 2, 4, 8) for b in (1, 2, 4)]
    assert found.prediction_retrieval_error == pytest.approx(sum(errors) / 15)


def test_chance_equals_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    _, params = drawn()
    scaled = params.double() / torch.tensor(STD).double()
    distances = [
        (scaled[i, a] - scaled[i, b]).norm().item()
        for i, a, b in itertools.product(range(M), range(K), range(K))
    ]
    monkeypatch.setattr(equivariance_metrics, "_CHUNK", 4)  # the last chunk is smaller
    found = metrics.retrieval_chance(params, STD)
    assert found.prediction_retrieval_error == pytest.approx(np.mean(distances))
    alike = torch.ones(M, K, 1)
    assert metrics.retrieval(alike, alike, params, STD) == pytest.approx(found)


def test_what_is_no_tensor_is_named() -> None:
    z, params = torch.randn(6, 9, 5), torch.randn(6, 9, 3)
    for wrong in (z.numpy(), z.tolist(), None):
        with pytest.raises(TypeError, match=r"embeddings: expected a tensor of shape \(M, K, w"):
            metrics.retrieval(z, wrong, params, torch.ones(3))
        with pytest.raises(TypeError, match=r"params: expected a tensor of shape \(M, K, width\)"):
            metrics.retrieval_chance(wrong, torch.ones(3))
    rows = torch.randn(20, 4)
    with pytest.raises(TypeError, match="held_out: expected a tensor of booleans, got a list"):
        metrics.parameter_r2(rows, rows, rows, [True] * 20)


def test_bad_retrieval() -> None:
    z, params = drawn()
    with pytest.raises(ValueError, match=r"predicted, embeddings: .*\(6, 9\).*\(5, 9, 5\)"):
        metrics.retrieval(z[:5], z, params, STD)
    with pytest.raises(ValueError, match=r"embeddings: expected shape \(M, K, width\).*\(6, 5\)"):
        metrics.retrieval(z, z[:, 0], params, STD)
    with pytest.raises(ValueError, match="embeddings: expected finite"):
        metrics.retrieval(z, z * math.nan, params, STD)
    with pytest.raises(TypeError, match=r"predicted: .*torch.int64"):
        metrics.retrieval(z.long(), z, params, STD)
    with pytest.raises(ValueError, match=r"std: expected one for each .*\(3,\), got shape \(2,\)"):
        metrics.retrieval(z, z, params, STD[:2])
    with pytest.raises(ValueError, match=r"std: expected finite positive .*0\.0"):
        metrics.retrieval_chance(params, [1.0, 0.0, 1.0])
    with pytest.raises(ValueError, match="params: expected at least 2 views"):
        metrics.retrieval_chance(params[:, :1], STD)


@pytest.mark.parametrize("n", [60, 400])  # fewer rows than features, and more
def test_r2_of_linear_relations_and_of_none(n: int) -> None:
    # Features of few dimensions, as images' are; so 60 rows suffice.
    basis = torch.randn(4, 40)
    original, view = torch.randn(n, 4) @ basis, torch.randn(n, 4) @ basis
    linear = torch.stack([view[:, 3] - original[:, 3], 1000 * view[:, 0] + 5], dim=1)
    params = torch.cat([linear, torch.randn(n, 1), torch.full((n, 1), 0.1)], dim=1)
    r2 = metrics.parameter_r2(original, view, params)
    assert r2[:2].tolist() == pytest.approx([1, 1], abs=1e-4)
    assert -0.3 < r2[2] < 0.2
    assert r2[3].isnan()


def test_r2_of_independent_parameters_is_about_0() -> None:
    r2 = metrics.parameter_r2(torch.randn(5000, 50), torch.randn(5000, 50), torch.randn(5000, 11))
    assert r2.abs().max() < 0.02


@pytest.mark.parametrize(("n", "width"), [(90, 7), (40, 30)])
def test_r2_equals_scikit_learn_with_strengths_by_the_hat_matrix(n: int, width: int) -> None:
    original, view = torch.randn(n, width).double(), 5 + 3 * torch.randn(n, width).double()
    params = view[:, :4] - original[:, :4] + torch.tensor([0.1, 1, 3, 10]) * torch.randn(n, 4)
    held_out = torch.arange(n) % 4 == 1
    found = metrics.parameter_r2(original, view, params, held_out)

    x = torch.cat([original, view], dim=1).numpy()
    train, test = x[~held_out.numpy()], x[held_out.numpy()]
    mean, std = train.mean(0), train.std(0)
    train, test = (train - mean) / std, (test - mean) / std
    rows, chosen = len(train), set()
    centred = train - train.mean(0)
    for p in range(4):
        y, y_test = params[~held_out, p].numpy(), params[held_out, p].numpy()
        errors = []
        for alpha in rows * equivariance_metrics._STRENGTHS.numpy():
            inverse = np.linalg.inv(centred.T @ centred + alpha * np.eye(2 * width))
            hat = centred @ inverse @ centred.T + 1 / rows
            errors.append(((y - hat @ y) ** 2).sum() / (rows - np.trace(hat)) ** 2)
        best = int(np.argmin(errors))
        chosen.add(best)
        ridge = Ridge(alpha=rows * equivariance_metrics._STRENGTHS[best].item()).fit(train, y)
        assert found[p].item() == pytest.approx(r2_score(y_test, ridge.predict(test)), abs=1e-6)
    assert len(chosen) > 1


def test_r2_passes_over_features_that_do_not_vary() -> None:
    original, view = torch.randn(100, 4), torch.randn(100, 4)
    constant = torch.full((100, 1), 0.1)
    params = original[:, :1] * view[:, :1] + view[:, 1:2]
    wider = [torch.cat([z, constant], dim=1) for z in (original, view)]
    torch.testing.assert_close(
        metrics.parameter_r2(wider[0], wider[1], params),
        metrics.parameter_r2(original, view, params),
    )
    alone = metrics.parameter_r2(constant, constant, params)
    assert -0.2 < alone.item() <= 0


def test_bad_r2() -> None:
    z, params = torch.randn(20, 4), torch.randn(20, 2)
    with pytest.raises(ValueError, match="params: expected as many rows .* 20, got 19"):
        metrics.parameter_r2(z, z, params[:19])
    with pytest.raises(ValueError, match="features_view: expected finite"):
        metrics.parameter_r2(z, z / 0, params)
    with pytest.raises(ValueError, match="held_out: expected at least 3 .* got 4 and 1"):
        metrics.parameter_r2(z[:5], z[:5], params[:5])
    with pytest.raises(ValueError, match=r"held_out: expected shape \(20,\), got \(3,\)"):
        metrics.parameter_r2(z, z, params, torch.ones(3, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"held_out: expected booleans, got torch.int64"):
        metrics.parameter_r2(z, z, params, torch.arange(20))
