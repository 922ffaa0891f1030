import math

import pytest
import torch
from torch.utils.data import default_collate

from star_head import AugmentationRecord, Parameter, STARViews, estimate_statistics
from star_head.augmentation import STATISTICS


def test_parameters_are_the_papers_in_its_order() -> None:
    assert [p.label for p in Parameter] == [
        *("crop top", "crop left", "crop height", "crop width", "flip", "brightness"),
        *("contrast", "saturation", "hue", "grayscale", "blur sigma"),
    ]
    assert [int(p) for p in Parameter] == list(range(11))
    assert {p.unit for p in Parameter} == {"pixels", "0 or 1", "factor", "turns"}


def test_vector_holds_every_field_in_its_column() -> None:
    record = AugmentationRecord(1, 2, 30, 40, True, 1.5, 0.25, 0.75, -0.125, True, 0.5)
    expected = {
        Parameter.CROP_TOP: 1, Parameter.CROP_LEFT: 2, Parameter.CROP_HEIGHT: 30,
        Parameter.CROP_WIDTH: 40, Parameter.FLIP: 1, Parameter.BRIGHTNESS: 1.5,
        Parameter.CONTRAST: 0.25, Parameter.SATURATION: 0.75, Parameter.HUE: -0.125,
        Parameter.GRAYSCALE: 1, Parameter.BLUR_SIGMA: 0.5,
    }  # fmt: skip
    vector = record.vector()
    assert vector.dtype == torch.float32
    assert {p: vector[p].item() for p in Parameter} == expected


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_parameters_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="record: expected finite parameters, got {'hue': "):
        AugmentationRecord(0, 0, 8, 8, hue=value).vector()


def test_statistics_have_the_sources_values() -> None:
    assert STATISTICS["stl10"].mean[Parameter.CROP_HEIGHT] == 69.8042
    assert STATISTICS["stl10"].std[Parameter.BLUR_SIGMA] == 0.65823567
    assert STATISTICS["imagenet100"].mean[Parameter.HUE] == 0.00011400196
    assert STATISTICS["imagenet100"].std[Parameter.CROP_TOP] == 65.29286
    assert all(len(part) == 11 for s in STATISTICS.values() for part in s)


def make_views(seed: int) -> STARViews:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(3, 3, 4, 4, generator=generator)
    return STARViews(
        images[0], (images[1], images[2]), tuple(torch.rand(2, 11, generator=generator))
    )


def test_default_collate_makes_a_batch() -> None:
    samples = [make_views(seed) for seed in range(5)]
    views, labels = default_collate([(sample, i) for i, sample in enumerate(samples)])
    assert isinstance(views, STARViews)
    assert labels.tolist() == list(range(5))
    for i, sample in enumerate(samples):
        assert torch.equal(views.original[i], sample.original)
        for j in range(2):
            assert torch.equal(views.views[j][i], sample.views[j])
            assert torch.equal(views.params[j][i], sample.params[j])


def test_to_moves_everything_and_casts_images_only() -> None:
    views = make_views(0).to("meta", non_blocking=True)
    assert {t.device.type for t in (views.original, *views.views, *views.params)} == {"meta"}
    half = make_views(0).to(torch.float16)
    assert half.views[1].dtype == half.original.dtype == torch.float16
    assert half.params[0].dtype == torch.float32


class TwoRecords:
    """Draws one of two records; the crop is a quarter of the image."""

    def sample(self, image: tuple[int, int]) -> AugmentationRecord:
        height, width = image
        return AugmentationRecord(0, 0, height // 2, width // 2, flip=torch.rand(()).item() < 0.5)


def test_estimate_statistics() -> None:
    state = torch.get_rng_state()
    mean, std = estimate_statistics(TwoRecords(), [(20, 40), (60, 80)], num_samples=10_000)
    assert torch.equal(torch.get_rng_state(), state)
    assert mean[Parameter.CROP_HEIGHT] == pytest.approx(20)
    assert std[Parameter.CROP_HEIGHT] == pytest.approx(10, rel=1e-3)
    assert mean[Parameter.FLIP] == pytest.approx(0.5, abs=0.02)
    # What never varies standardises to 0 and not to nan.
    assert (mean[Parameter.BRIGHTNESS], std[Parameter.BRIGHTNESS]) == (1, 1)
    assert (mean, std) == estimate_statistics(TwoRecords(), [(20, 40), (60, 80)], 10_000)


def test_records_are_spread_over_more_sizes_than_samples() -> None:
    sizes = [(100, 100)] * 1000 + [(500, 500)] * 1000
    mean, _ = estimate_statistics(TwoRecords(), sizes, num_samples=1000)
    assert mean[Parameter.CROP_HEIGHT] == pytest.approx(150)


def test_estimate_statistics_takes_many_numbers_at_once() -> None:
    """Of each view in turn, as one at a time."""

    class Sizes:
        def __init__(self, factor: float) -> None:
            self.factor = factor
            self.calls = 0

        def sample(self, size: tuple[int, int]) -> torch.Tensor:
            raise AssertionError("expected one call for all")

        def sample_vectors(self, sizes: list[tuple[int, int]]) -> torch.Tensor:
            self.calls += 1
            return self.factor * torch.tensor(sizes, dtype=torch.float32)

    class Transform:
        recorded = (Sizes(1.0), Sizes(3.0))

    mean, std = estimate_statistics(Transform(), [(10, 20), (30, 20)], 8)
    heights = torch.tensor([10.0, 30, 10, 30, 30, 90, 30, 90]).double()
    assert mean == [heights.mean().item(), 40.0]
    assert std[0] == pytest.approx(heights.std().item())
    assert [sampler.calls for sampler in Transform.recorded] == [1, 1]


def test_estimate_statistics_bad_input() -> None:
    with pytest.raises(ValueError, match="image_sizes: expected at least one"):
        estimate_statistics(TwoRecords(), [])
    with pytest.raises(ValueError, match="num_samples: expected at least 2, got 1"):
        estimate_statistics(TwoRecords(), [(8, 8)], num_samples=1)
    with pytest.raises(TypeError, match="seed: expected an integer, got 'a'"):
        estimate_statistics(TwoRecords(), [(8, 8)], seed="a")


def test_estimate_statistics_seeds_nothing_but_its_own_draws(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Sampler:
        def sample(self, image: tuple[int, int]) -> AugmentationRecord:
            return AugmentationRecord(0, 0, 8, 8, hue=torch.rand(()).item())

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a generator of another device was seeded")

    torch.manual_seed(5)
    expected = torch.rand(100)
    # What torch.manual_seed calls: the seed would reach each GPU, or wait there for its start.
    for module in (torch.cuda, torch.mps, torch.xpu):
        for name in ("manual_seed", "manual_seed_all"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, refuse)
    monkeypatch.setattr(torch, "manual_seed", refuse)
    before = torch.get_rng_state()
    found = estimate_statistics(Sampler(), [(8, 8)], num_samples=100, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    assert found.mean[Parameter.HUE] == pytest.approx(expected.mean().item())
    assert found == estimate_statistics(Sampler(), [(8, 8)], num_samples=100, seed=5)
    assert found != estimate_statistics(Sampler(), [(8, 8)], num_samples=100, seed=6)
