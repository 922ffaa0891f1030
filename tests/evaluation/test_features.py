"""Extracted features and their cache."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from star_head.evaluation import extract_features
from star_head.evaluation import features as features_module
from star_head.evaluation.preparation import Encoder, EvaluationTransform
from star_head.examples.data.image_data import Images, load_images

NORMALIZE = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}


def make_encoder(seed: int = 0, size: int = 16) -> Encoder:
    torch.manual_seed(seed)
    backbone = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(1))
    return Encoder(backbone, size, NORMALIZE)


@pytest.fixture(scope="module")
def images() -> Images:
    test = load_images("digits").test
    assert test is not None
    return test


@pytest.mark.parametrize("size", [(40, 60), (60, 40), (16, 16), (9, 31), (300, 200)])
def test_prepares_images_as_torchvision_does(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(256, size=(*size, 3), dtype=np.uint8)
    expected = v2.Compose(
        [
            v2.PILToTensor(),
            v2.ToPILImage(),
            v2.Resize(16, v2.InterpolationMode.BICUBIC),
            v2.CenterCrop(16),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(**NORMALIZE),
        ]
    )
    image = Image.fromarray(pixels)
    torch.testing.assert_close(EvaluationTransform(16, NORMALIZE)(image), expected(image).data)


@pytest.mark.parametrize("half", [False, True])
def test_equals_a_plain_loop(tmp_path: Path, images: Images, half: bool) -> None:
    encoder = make_encoder()
    found = extract_features(encoder, images, cache=tmp_path, batch_size=100, half=half)
    transform = EvaluationTransform(16, NORMALIZE)
    with torch.no_grad():
        batch = torch.stack([transform(images[i][0]) for i in range(len(images))])
        expected = encoder.backbone.eval()(batch).flatten(1).numpy()
    assert found.features.dtype == (np.float16 if half else np.float32)
    np.testing.assert_allclose(found.features, expected, rtol=2e-3 if half else 1e-5, atol=1e-5)
    np.testing.assert_array_equal(found.labels, images.labels)


def test_cache_is_of_this_encoder_and_these_images(
    tmp_path: Path, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract_features(make_encoder(), images, cache=tmp_path)
    (tmp_path / "other").touch()
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1  # as any file is written: a cache may be shared
    with monkeypatch.context() as patch:
        patch.setattr(features_module, "_write", None)  # it must not be called
        extract_features(make_encoder(), images, cache=tmp_path)
    for encoder, part in (
        (make_encoder(seed=1), images),
        (make_encoder(size=8), images),
        (make_encoder(), images.part(np.arange(1, len(images)))),
        (make_encoder(), images.part(np.arange(len(images))[::-1])),
    ):
        before = len(list(tmp_path.iterdir()))
        assert len(extract_features(encoder, part, cache=tmp_path).features) == len(part)
        assert len(list(tmp_path.iterdir())) == before + 1


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, images: Images) -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))
            self.calls = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            if self.calls == 2:
                raise KeyboardInterrupt
            return x.flatten(1)

    with pytest.raises(KeyboardInterrupt):
        extract_features(Encoder(Broken(), 16, NORMALIZE), images, cache=tmp_path, batch_size=100)
    assert not list(tmp_path.iterdir())


def test_features_that_are_not_finite_are_refused(tmp_path: Path, images: Images) -> None:
    encoder = make_encoder()
    nn.init.constant_(encoder.backbone[0].bias, float("inf"))
    with pytest.raises(ValueError, match="features of image 0 are not finite"):
        extract_features(encoder, images, cache=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("low_high", [(0, 1), (-1000, 3000), (0, 65535)])
def test_images_of_more_than_8_bits_by_their_range(low_high: tuple[float, float]) -> None:
    low, high = low_high
    ramp = np.linspace(0, 1, 256).reshape(16, 16)
    values = (low + ramp * (high - low)).astype(np.float32)
    plain, ranged = EvaluationTransform(16, NORMALIZE), EvaluationTransform(16, NORMALIZE, low_high)
    expected = plain(Image.fromarray((ramp * 255).round().astype(np.uint8)))
    for image in (Image.fromarray(values), torch.from_numpy(values)[None]):
        assert (ranged(image) - expected).abs().max() < 1e-6
        with pytest.raises((ValueError, TypeError), match=f"pixels from {low} to {high}"):
            plain(image)


def test_a_long_image_is_cut_before_it_is_resized(monkeypatch: pytest.MonkeyPatch) -> None:
    made, resize = [], Image.Image.resize

    def noting(self: Image.Image, size: tuple[int, int], *args: object) -> Image.Image:
        made.append(size)
        return resize(self, size, *args)

    monkeypatch.setattr(Image.Image, "resize", noting)
    assert EvaluationTransform(224, NORMALIZE)(Image.new("RGB", (20_000, 2))).shape[1:] == (
        224,
        224,
    )
    assert max(made[0]) <= 9 * 224


def test_transparent_pixels_take_the_background() -> None:
    red = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    white = EvaluationTransform(16, NORMALIZE)(Image.new("RGB", (20, 20), (255, 255, 255)))
    assert torch.equal(EvaluationTransform(16, NORMALIZE, None, (255, 255, 255))(red), white)


def test_a_cpu_is_waited_for(tmp_path: Path, images: Images) -> None:
    """A copy is left running on CUDA devices only: elsewhere it may be read before it has ended."""

    waited = []

    class Copies(torch.overrides.TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if "non_blocking" in (kwargs or {}):
                waited.append(not kwargs["non_blocking"])
            return func(*args, **kwargs or {})

    with Copies():
        extract_features(make_encoder(), images, cache=tmp_path, batch_size=100, num_workers=0)
    assert waited
    assert all(waited)


class _Pooled(nn.Module):
    """Its pooling is in no weight and in no layer's name."""

    def __init__(self, largest: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 6, 3)
        self.largest = largest

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.conv(x).flatten(2)
        pooled = maps.amax(dim=2) if self.largest else maps.mean(dim=2)
        return pooled.T.contiguous().T  # stored column after column


def test_the_cache_knows_another_pooling_and_the_order_of_the_numbers(
    tmp_path: Path, images: Any
) -> None:
    transform = EvaluationTransform(16, NORMALIZE)
    batch = torch.stack([transform(images[i][0]) for i in range(len(images))])
    for backbone in (_Pooled(False), _Pooled(True)):
        encoder = Encoder(backbone, 16, NORMALIZE)
        found = features_module.extract_features(encoder, images, cache=tmp_path).features
        with torch.no_grad():
            expected = backbone(batch).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert len(list(tmp_path.iterdir())) == 2
