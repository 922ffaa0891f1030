"""Test images made worse: each kind against a slow reading of it, seeds, and bad input."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from star_head.evaluation import Corrupted, corrupt, linear_probe
from star_head.evaluation.corruptions import CORRUPTIONS, SEVERITIES


def picture(height: int = 40, width: int = 56, seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3))
    return Image.fromarray(coarse.repeat(8, axis=0).repeat(8, axis=1).astype(np.uint8))


def array(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(float)


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("size", [(40, 56), (224, 224), (64, 300)])
def test_the_size_stays_and_each_severity_is_worse(kind: Any, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    made = [corrupt(image, kind, severity) for severity in SEVERITIES]
    assert all(worse.size == image.size and worse.mode == "RGB" for worse in made)
    errors = [np.abs(array(worse) - array(image)).mean() for worse in made]
    assert errors == sorted(errors)
    assert errors[4] > errors[0]


def test_gaussian_noise_has_its_deviation() -> None:
    grey = Image.new("RGB", (200, 200), (128, 128, 128))
    for severity, expected in ((1, 0.08), (2, 0.12)):
        noise = array(corrupt(grey, "gaussian noise", severity)) / 255
        assert noise.std() == pytest.approx(expected, rel=0.02)
        assert noise.mean() == pytest.approx(128 / 255, abs=0.002)


def test_shot_noise_counts_photons() -> None:
    grey = Image.new("RGB", (200, 200), (128, 128, 128))
    photons = array(corrupt(grey, "shot noise", 1)) / 255 * 60
    assert np.abs(photons - photons.round()).max() < 0.13  # but for rounding to 8 bits
    assert photons.var() == pytest.approx(60 * 128 / 255, rel=0.05)


def test_contrast_and_brightness_pixel_by_pixel() -> None:
    image = picture()
    grey = array(image.convert("L")).round().mean()
    for severity, factor in zip(SEVERITIES, (0.4, 0.3, 0.2, 0.1, 0.05), strict=True):
        expected = factor * array(image) + (1 - factor) * grey
        assert np.abs(array(corrupt(image, "contrast", severity)) - expected).max() <= 1.5
    for severity, factor in zip(SEVERITIES, (1.2, 1.4, 1.6, 1.8, 2.0), strict=True):
        expected = np.minimum(255, factor * array(image))
        assert np.abs(array(corrupt(image, "brightness", severity)) - expected).max() <= 1


def test_jpeg_is_near_pillows() -> None:
    image = picture()
    for severity, quality in ((1, 25), (5, 7)):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        expected = array(Image.open(file))
        found = array(corrupt(image, "jpeg", severity))
        assert np.abs(found - expected).mean() < 0.3 * np.abs(found - array(image)).mean()


def test_pixelation_makes_blocks() -> None:
    image = picture(40, 40)
    found = array(corrupt(image, "pixelation", 5))  # a quarter of each side
    for row in range(0, 40, 4):
        for column in range(0, 40, 4):
            block = found[row : row + 4, column : column + 4]
            assert np.ptp(block, axis=(0, 1)).max() == 0
            mean = array(image)[row : row + 4, column : column + 4].mean(axis=(0, 1))
            assert np.abs(block[0, 0] - mean).max() <= 1


def test_blur_is_as_wide_for_images_of_any_size() -> None:
    for side in (112, 224):
        line = np.zeros((side, side, 3), np.uint8)
        line[:, side // 2] = 255
        profile = array(corrupt(Image.fromarray(line), "gaussian blur", 3))[side // 2, :, 0]
        places = np.arange(side) - side // 2
        variance = (profile * places**2).sum() / profile.sum()
        assert variance**0.5 == pytest.approx(3 * side / 224, rel=0.1)


def test_a_data_set_is_the_same_every_time_and_leaves_random_numbers_alone() -> None:
    images = [(picture(seed=i), i) for i in range(3)]
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    one, other = (Corrupted(images, "gaussian noise", 2) for _ in range(2))
    first = [np.asarray(one[i][0]) for i in (0, 1, 2)]
    again = [np.asarray(other[i][0]) for i in (2, 1, 0)][::-1]
    assert torch.equal(torch.rand(1), expected)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert [one[i][1] for i in range(3)] == [0, 1, 2]
    same = [(picture(), 0), (picture(), 0)]
    alike = Corrupted(same, "shot noise", 1)
    assert not np.array_equal(np.asarray(alike[0][0]), np.asarray(alike[1][0]))
    reseeded = Corrupted(images, "gaussian noise", 2, seed=5)
    assert not np.array_equal(np.asarray(reseeded[0][0]), first[0])
    assert not hasattr(one, "labels")  # a list says none


def test_the_classifier_is_measured_on_others_too() -> None:
    x = torch.randn(120, 4)
    y = (x[:, 0] > 0).long()
    parts = [(x[a:b], y[a:b]) for a, b in ((0, 50), (50, 80), (80, 120))]
    plain = linear_probe(*parts)
    others = {"same": parts[2], "wrong": (-x[80:], y[80:])}
    found = linear_probe(*parts, others=others)
    assert found.test == plain.test == found.others["same"]
    assert found.others["wrong"] < 0.5 < found.test
    assert plain.others == {}
    with pytest.raises(ValueError, match=r"others\['narrow'\].features: expected width 4"):
        linear_probe(*parts, others={"narrow": (x[:, :3], y)})
    with pytest.raises(ValueError, match=r"others\['new'\].labels: expected classes of"):
        linear_probe(*parts, others={"new": (x, y + 1)})


@pytest.mark.parametrize(
    ("kind", "severity", "error", "message"),
    [
        ("fog", 1, ValueError, "kind: expected one of"),
        ("jpeg", 0, ValueError, "severity: expected at least 1, got 0"),
        ("jpeg", 6, ValueError, "severity: expected 1 to 5, got 6"),
        ("jpeg", 2.0, TypeError, "severity: expected an integer"),
    ],
)
def test_bad_input(kind: Any, severity: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        corrupt(picture(), kind, severity)
    with pytest.raises(error, match=message):
        Corrupted([(picture(), 0)], kind, severity)
