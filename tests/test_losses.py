import math

import numpy as np
import pytest
import reference
import torch
from lightly.loss import BarlowTwinsLoss, NegativeCosineSimilarity
from lightly.loss import NTXentLoss as LightlyNTXentLoss
from torch import Tensor, nn

from star_head import NTXentLoss, STAREmbeddings, STARLoss, _info_nce


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
    monkeypatch.setattr(_info_nce, "_BLOCK_ROWS", block)
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


# Code is generated for the whole step in test_model.py; for the loss alone it takes its time.
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compile_fullgraph(backend: str) -> None:
    a, b = pair(300, 8)
    loss = STARLoss(0.1)
    embeddings = STAREmbeddings(a, a), STAREmbeddings(b, b)
    compiled = torch.compile(loss, fullgraph=True, backend=backend)(*embeddings, b, a)
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


@pytest.mark.parametrize("flag", ["no", 0, None, torch.tensor(True)])
def test_gathering_is_asked_for_or_not(flag: object) -> None:
    for loss in (NTXentLoss, STARLoss):
        with pytest.raises(TypeError, match="gather_distributed: expected True or False, got"):
            loss(0.2, gather_distributed=flag)


@pytest.mark.parametrize(
    ("temperature", "error", "message"),
    [
        ("0.1", TypeError, "temperature: expected a number or a tensor of one, got str"),
        (None, TypeError, "got NoneType"),
        (True, TypeError, "got bool"),
        ([0.1], TypeError, "got list"),
        (torch.tensor(True), TypeError, "temperature: expected a real number, got torch.bool"),
        (torch.tensor(1j), TypeError, "torch.complex64"),
        (torch.tensor([0.1, 0.2]), ValueError, r"one number for all samples, got shape \(2,\)"),
        (torch.tensor(-0.5), ValueError, "expected a positive number, got -0.5"),
        (nn.Parameter(torch.tensor(0.0)), ValueError, "expected a positive number, got 0.0"),
        (nn.Parameter(torch.tensor(math.nan)), ValueError, "got nan"),
    ],
)
def test_what_is_no_temperature(temperature: object, error: type[Exception], message: str) -> None:
    for loss in (NTXentLoss, STARLoss):
        with pytest.raises(error, match=message):
            loss(temperature)


def learned(value: float, *shape: int, dtype: torch.dtype | None = None) -> nn.Parameter:
    return nn.Parameter(torch.full(shape, value, dtype=dtype))


@pytest.mark.parametrize("value", [0.05, 0.2, 1.0, 7.0])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_learned_temperature_gets_its_gradient(value: float, shape: tuple[int, ...]) -> None:
    a, b = pair(300, 5, torch.float64)  # more than one block of anchors
    temperature = learned(value, *shape, dtype=torch.float64)
    loss = NTXentLoss(temperature)
    assert dict(loss.named_parameters()) == {"temperature": temperature}
    found = torch.autograd.grad(3 * loss(a, b), (a, b, temperature))
    assert found[2].shape == shape

    step = 1e-5 * value
    higher, lower = (NTXentLoss(value + h)(a, b).item() for h in (step, -step))
    assert found[2].item() == pytest.approx(3 * (higher - lower) / (2 * step), rel=1e-6)

    twin = learned(value, *shape, dtype=torch.float64)
    expected = torch.autograd.grad(3 * LightlyNTXentLoss(twin)(a, b), (a, b, twin))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(loss(a, b), NTXentLoss(value)(a, b))


def test_learned_temperature_gradcheck() -> None:
    a, b = pair(4, 3, torch.float64)
    temperature = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)

    def value(a: Tensor, b: Tensor, temperature: Tensor) -> Tensor:
        return NTXentLoss(temperature)(a, b)

    assert torch.autograd.gradcheck(value, (a, b, temperature))
    # Of a network that is frozen, the temperature alone.
    (found,) = torch.autograd.grad(value(a.detach(), b.detach(), temperature), temperature)
    (expected,) = torch.autograd.grad(value(a, b, temperature), temperature)
    torch.testing.assert_close(found, expected)


def test_temperature_learns_as_lightlys_does() -> None:
    a, b = (z.detach() for z in pair(32, 8, torch.float64))
    kinds = (NTXentLoss, LightlyNTXentLoss)
    losses = [kind(learned(0.5, dtype=torch.float64)) for kind in kinds]
    for loss in losses:
        optimizer = torch.optim.SGD(loss.parameters(), lr=1e-3)
        for _ in range(20):
            optimizer.zero_grad()
            loss(a, a + 0.1 * b).backward()
            optimizer.step()
    ours, theirs = (loss.temperature.item() for loss in losses)
    assert ours == pytest.approx(theirs, rel=1e-9)
    assert ours < 0.49


@pytest.mark.parametrize("temperature", [torch.tensor(0.3), torch.tensor([0.3]), np.float32(0.3)])
def test_temperature_may_be_any_one_number(temperature: Tensor | np.float32) -> None:
    a, b = pair(6, 4)
    loss = NTXentLoss(temperature)
    torch.testing.assert_close(loss(a, b), NTXentLoss(0.3)(a, b))
    assert not loss.state_dict()
    loss.temperature = torch.tensor(2)
    torch.testing.assert_close(loss(a, b), NTXentLoss(2)(a, b))
    loss.temperature = 0.7  # a schedule
    torch.testing.assert_close(loss(a, b), NTXentLoss(0.7)(a, b))


def test_star_loss_learns_one_temperature_for_both_parts() -> None:
    z1, z2 = (STAREmbeddings(*pair(5, 4, torch.float64)) for _ in range(2))
    p1, p2 = torch.randn(2, 5, 4, dtype=torch.float64)
    temperature = learned(0.3, dtype=torch.float64)
    loss = STARLoss(temperature, equivariant_weight=0.7)
    assert list(loss.parameters()) == [temperature]
    (found,) = torch.autograd.grad(loss(z1, z2, p1, p2).total, temperature)
    twin = learned(0.3, dtype=torch.float64)
    expected = reference.nt_xent(z1.invariant, z2.invariant, twin) + 0.7 * reference.nt_xent(
        torch.cat([z1.equivariant, z2.equivariant]), torch.cat([p1, p2]), twin
    )
    torch.testing.assert_close(found, *torch.autograd.grad(expected, twin))

    state = loss.state_dict()
    assert set(state) == {"invariant_loss.temperature", "equivariant_loss.temperature"}
    again = STARLoss(learned(0.9, dtype=torch.float64), equivariant_weight=0.7)
    again.load_state_dict(state)
    assert again(z1, z2, p1, p2).total == loss(z1, z2, p1, p2).total


def test_one_learned_temperature_beside_a_loss_of_the_users() -> None:
    z1, z2 = embeddings()
    temperature = learned(0.3)
    loss = STARLoss(temperature, equivariant_loss=NegativeCosineSimilarity())
    (found,) = torch.autograd.grad(loss(z1, z2, *torch.randn(2, 5, 4)).total, temperature)
    alone = NTXentLoss(temperature)(z1.invariant, z2.invariant)
    torch.testing.assert_close(found, *torch.autograd.grad(alone, temperature))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_learned_temperature_of_another_dtype_under_autocast(dtype: torch.dtype) -> None:
    a, b = pair(16, 8)
    temperature = learned(0.25, dtype=dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = NTXentLoss(temperature)(a, b)
    assert loss.dtype == torch.float32
    loss.backward()
    assert temperature.grad.dtype == dtype
    exact = learned(0.25, dtype=torch.float64)
    (expected,) = torch.autograd.grad(NTXentLoss(exact)(a.double(), b.double()), exact)
    tolerance = 1e-2 if dtype == torch.bfloat16 else 1e-4
    assert temperature.grad.item() == pytest.approx(expected.item(), rel=tolerance)


def test_compile_fullgraph_with_a_learned_temperature() -> None:
    a, b = pair(20, 4)
    temperature = learned(0.2)
    loss = NTXentLoss(temperature)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    found = torch.autograd.grad(compiled(a, b), (a, b, temperature))
    torch.testing.assert_close(found, torch.autograd.grad(loss(a, b), (a, b, temperature)))
    with torch.no_grad():
        temperature.fill_(-0.2)
    assert compiled(a, b).isnan()


@pytest.mark.parametrize("value", [0.0, -0.3, math.inf, math.nan])
def test_a_learned_temperature_that_leaves_the_positive_numbers(value: float) -> None:
    loss = NTXentLoss(learned(0.1))
    loss.temperature.data.fill_(value)
    with pytest.raises(ValueError, match=f"positive number, got {value:.6g}; .*learning rate"):
        loss(*pair(4, 3))


def test_a_parametrised_temperature_stays_positive() -> None:
    class Exp(nn.Module):
        def forward(self, log: Tensor) -> Tensor:
            return log.exp()

        def right_inverse(self, value: Tensor) -> Tensor:
            return value.log()

    a, b = pair(6, 4)
    loss = NTXentLoss(learned(0.2))
    nn.utils.parametrize.register_parametrization(loss, "temperature", Exp())
    torch.testing.assert_close(loss(a, b), NTXentLoss(0.2)(a, b))
    (log,) = loss.parameters()
    optimizer = torch.optim.SGD([log], lr=0.5)
    loss(a, b).backward()
    optimizer.step()
    assert loss.temperature > 0
    assert log != math.log(0.2)
    assert "(learned)" in repr(loss)


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


def test_gathering_without_torch_distributed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_available", lambda: False)
    for loss in (NTXentLoss, STARLoss, LightlyNTXentLoss):
        with pytest.raises(ValueError, match="gather_distributed.*torch.distributed"):
            loss(gather_distributed=True)
        loss(gather_distributed=False)


def test_bad_number_of_predictions() -> None:
    z1, z2 = embeddings()
    with pytest.raises(ValueError, match="predicted: .*2, got 1; head.predict"):
        STARLoss()(z1, z2, torch.randn(5, 4))
    with pytest.raises(ValueError, match="predicted: .*0, got 2$"):
        STARLoss()(*(STAREmbeddings(z.invariant, None) for z in (z1, z2)), *torch.randn(2, 5, 4))
    with pytest.raises(ValueError, match=r"predicted2: .*\(5, 4\), got \(6, 4\)"):
        STARLoss()(z1, z2, torch.randn(5, 4), torch.randn(6, 4))
