import pytest
import reference
import torch
from lightly.loss import BarlowTwinsLoss, NegativeCosineSimilarity
from lightly.loss import NTXentLoss as LightlyNTXentLoss
from torch import Tensor, nn

from star_head import NTXentLoss, STAREmbeddings, STARLoss
from star_head import losses as losses_module


def with_gradients(loss: nn.Module, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    value = loss(a, b)
    return value.detach(), *torch.autograd.grad(value, (a, b))


def pair(n: int, d: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [torch.randn(n, d, dtype=dtype, requires_grad=True) for _ in range(2)]


@pytest.mark.parametrize(("n", "d"), [(2, 1), (3, 4), (5, 3)])
@pytest.mark.parametrize("temperature", [0.01, 0.2, 1.0, 7.0])
def test_nt_xent_equals_triple_loop(n: int, d: int, temperature: float) -> None:
    a, b = pair(n, d, torch.float64)
    loss = NTXentLoss(temperature)
    value = loss(a, b)
    torch.testing.assert_close(value, reference.nt_xent(a, b, temperature))
    expected = torch.autograd.grad(reference.nt_xent(a, b, temperature), (a, b))
    torch.testing.assert_close(torch.autograd.grad(value, (a, b)), expected)


@pytest.mark.parametrize(("n", "d"), [(2, 5), (127, 16), (129, 33), (400, 64)])
@pytest.mark.parametrize("temperature", [0.01, 0.2, 1.0])
def test_nt_xent_equals_lightlys(n: int, d: int, temperature: float) -> None:
    a, b = pair(n, d)
    ours = with_gradients(NTXentLoss(temperature), a, b)
    theirs = with_gradients(LightlyNTXentLoss(temperature), a, b)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_nt_xent_is_exact_at_low_temperature() -> None:
    # Every negative's exp underflows in float32 unless the largest logit is taken out first.
    a, b = (torch.eye(4)[:2] + 0.01 * torch.rand(2, 4) for _ in range(2))
    expected = reference.nt_xent(a.double(), b.double(), 0.01)
    torch.testing.assert_close(NTXentLoss(0.01)(a, b).double(), expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("block", [1, 3, 1000])
def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    a, b = pair(50, 8, torch.float64)
    expected = with_gradients(NTXentLoss(), a, b)
    monkeypatch.setattr(losses_module, "_BLOCK_ROWS", block)
    torch.testing.assert_close(with_gradients(NTXentLoss(), a, b), expected)


def test_nt_xent_gradcheck() -> None:
    assert torch.autograd.gradcheck(NTXentLoss(0.3), pair(4, 3, torch.float64))


def test_nt_xent_scales_with_the_outer_gradient_and_works_without_any() -> None:
    a, b = pair(6, 4)
    (one,) = torch.autograd.grad(NTXentLoss()(a, b), a)
    (three,) = torch.autograd.grad(3 * NTXentLoss()(a, b), a)
    torch.testing.assert_close(three, 3 * one)
    with torch.no_grad():
        torch.testing.assert_close(NTXentLoss()(a, b), NTXentLoss()(a.detach(), b.detach()))


def test_nt_xent_under_autocast_computes_in_float32() -> None:
    a, b = (z.detach().bfloat16().requires_grad_() for z in pair(64, 32))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = NTXentLoss(0.1)(a, b)
    assert loss.dtype == torch.float32
    expected = NTXentLoss(0.1)(a.double(), b.double())
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
    loss.backward()
    assert a.grad.dtype == torch.bfloat16


def test_compile_fullgraph() -> None:
    a, b = pair(300, 8)
    loss = STARLoss(0.1)
    embeddings = STAREmbeddings(a, a), STAREmbeddings(b, b)
    compiled = torch.compile(loss, fullgraph=True)(*embeddings, b, a)
    expected = loss(*embeddings, b, a)
    torch.testing.assert_close(tuple(compiled), tuple(expected))
    torch.testing.assert_close(
        torch.autograd.grad(compiled.total, (a, b)), torch.autograd.grad(expected.total, (a, b))
    )


def test_memory_stays_below_the_similarity_matrix() -> None:
    n = 1024
    a, b = pair(n, 16)
    with torch.profiler.profile(profile_memory=True) as profile:
        NTXentLoss()(a, b).backward()
    largest = max(e.self_cpu_memory_usage for e in profile.events())
    assert largest < 4 * (2 * n) ** 2 / 2


def embeddings(n: int = 5, d: int = 4) -> list[STAREmbeddings]:
    return [STAREmbeddings(torch.randn(n, d), torch.randn(n, d)) for _ in range(2)]


def test_star_loss_is_the_papers_sum() -> None:
    z1, z2 = embeddings()
    p1, p2 = torch.randn(2, 5, 4)
    terms = STARLoss(0.3, equivariant_weight=0.7)(z1, z2, p1, p2)
    invariant = reference.nt_xent(z1.invariant, z2.invariant, 0.3)
    equivariant = reference.nt_xent(
        torch.cat([z1.equivariant, z2.equivariant]), torch.cat([p1, p2]), 0.3
    )
    torch.testing.assert_close(
        tuple(terms), (invariant + 0.7 * equivariant, invariant, equivariant)
    )


def test_star_loss_of_invariant_embeddings_alone() -> None:
    z1, z2 = (STAREmbeddings(z.invariant, None) for z in embeddings())
    terms = STARLoss()(z1, z2)
    assert terms.equivariant is None
    assert terms.total == terms.invariant == NTXentLoss(0.2)(z1.invariant, z2.invariant)


def test_any_two_tensor_loss_serves_either_part() -> None:
    z1, z2 = embeddings()
    p1, p2 = torch.randn(2, 5, 4)
    barlow, cosine = BarlowTwinsLoss(), NegativeCosineSimilarity()
    terms = STARLoss(invariant_loss=barlow, equivariant_loss=cosine)(z1, z2, p1, p2)
    torch.testing.assert_close(terms.invariant, barlow(z1.invariant, z2.invariant))
    expected = cosine(torch.cat([z1.equivariant, z2.equivariant]), torch.cat([p1, p2]))
    torch.testing.assert_close(terms.equivariant, expected)


@pytest.mark.parametrize("temperature", [0, -0.1, float("nan"), float("inf")])
def test_bad_temperature(temperature: float) -> None:
    for loss in (NTXentLoss, STARLoss):
        with pytest.raises(ValueError, match="temperature: expected a positive number, got"):
            loss(temperature)


def test_bad_weight() -> None:
    with pytest.raises(ValueError, match="equivariant_weight: .*got -1"):
        STARLoss(equivariant_weight=-1)


def test_bad_input() -> None:
    loss = NTXentLoss()
    with pytest.raises(ValueError, match="at least 2 samples to compare, got 1"):
        loss(torch.randn(1, 4), torch.randn(1, 4))
    with pytest.raises(ValueError, match="at least 2 samples to compare, got 0"):
        loss(torch.randn(0, 4), torch.randn(0, 4))
    with pytest.raises(
        ValueError, match=r"out1: expected the shape of out0, \(3, 4\), got \(2, 4\)"
    ):
        loss(torch.randn(3, 4), torch.randn(2, 4))
    with pytest.raises(ValueError, match=r"out0: expected shape \(B, D\)"):
        loss(torch.randn(3), torch.randn(3))
    with pytest.raises(TypeError, match="out1: .*int64"):
        loss(torch.randn(3, 4), torch.ones(3, 4, dtype=torch.long))


def test_bad_number_of_predictions() -> None:
    z1, z2 = embeddings()
    with pytest.raises(ValueError, match="predicted: .*2, got 1"):
        STARLoss()(z1, z2, torch.randn(5, 4))
    with pytest.raises(ValueError, match="predicted: .*0, got 2"):
        STARLoss()(*(STAREmbeddings(z.invariant, None) for z in (z1, z2)), *torch.randn(2, 5, 4))
    with pytest.raises(ValueError, match=r"predicted2: .*\(5, 4\), got \(6, 4\)"):
        STARLoss()(z1, z2, torch.randn(5, 4), torch.randn(6, 4))
