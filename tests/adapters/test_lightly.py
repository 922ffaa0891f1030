import math
import pickle

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as F
from lightly.transforms.utils import IMAGENET_NORMALIZE
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from star_head import AugmentationRecord, Parameter, STARViews, estimate_statistics
from star_head.adapters.lightly import STARTransform, STARViewTransform
from star_head.augmentation import STATISTICS, ColorOperation


def picture(height: int = 60, width: int = 80, mode: str = "RGB") -> Image.Image:
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def pixels(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255


def assert_same(view: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal to rounding, which is far less than one of 255 levels."""
    torch.testing.assert_close(view, expected, rtol=0, atol=1e-6)


def plain(size: int = 32, **kwargs: object) -> STARViewTransform:
    return STARViewTransform(size, normalize=None, **kwargs)


def whole(image: Image.Image, **kwargs: object) -> AugmentationRecord:
    return AugmentationRecord(0, 0, image.height, image.width, **kwargs)


@pytest.mark.parametrize("blur", ["kernel", "pillow"])
def test_replays_bit_for_bit(blur: str) -> None:
    transform, image = STARViewTransform(32, blur=blur), picture()
    for seed in range(30):
        torch.manual_seed(seed)
        view, params = transform(image)
        torch.manual_seed(seed)
        record = transform.sample(image)
        for _ in range(2):
            assert torch.equal(transform.apply(image, record), view)
        assert torch.equal(record.vector(), params)


def test_crop_is_of_the_recorded_pixels() -> None:
    image = picture()
    record = AugmentationRecord(crop_top=7, crop_left=11, crop_height=32, crop_width=32)
    view = plain().apply(image, record)
    assert_same(view, pixels(image)[:, 7:39, 11:43])


@pytest.mark.parametrize("box", [(0, 0, 60, 80), (5, 9, 31, 50), (59, 3, 1, 2)])
def test_crop_and_resize_are_torchvisions(box: tuple[int, int, int, int]) -> None:
    expected = F.resized_crop(picture(), *box, [32, 32])
    assert_same(plain().apply(picture(), AugmentationRecord(*box)), pixels(expected))


def test_flip() -> None:
    image = picture(32, 32)
    view = plain().apply(image, whole(image, flip=True))
    assert_same(view, pixels(image).flip(2))


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)])
def test_colour_operations_are_torchvisions_in_the_records_order(order: tuple[int, ...]) -> None:
    image = picture(32, 32)
    record = whole(
        image, brightness=1.3, contrast=0.7, saturation=1.4, hue=-0.08,
        color_order=tuple(map(ColorOperation, order)),
    )  # fmt: skip
    operations = [
        lambda x: F.adjust_brightness(x, 1.3),
        lambda x: F.adjust_contrast(x, 0.7),
        lambda x: F.adjust_saturation(x, 1.4),
        lambda x: F.adjust_hue(x, -0.08),
    ]
    expected = image
    for operation in order:
        expected = operations[operation](expected)
    assert_same(plain().apply(image, record), pixels(expected))


@pytest.mark.parametrize("hue", [-0.1, -0.04, 0.05, 0.1])
def test_hue_is_in_turns(hue: float) -> None:
    # Saturated red, turned by h of the circle, has hue h.
    red = Image.new("RGB", (32, 32), (255, 0, 0))
    r, g, b = plain().apply(red, whole(red, hue=hue))[:, 0, 0].tolist()
    found = (g - b) / 6 / max(r, g, b)
    assert found == pytest.approx(hue, abs=0.006)


def test_grayscale() -> None:
    image = picture(32, 32)
    view = plain().apply(image, whole(image, grayscale=True))
    assert_same(view, pixels(F.rgb_to_grayscale(image, 3)))


@pytest.mark.parametrize(("size", "taps"), [(32, 3), (96, 9), (224, 23)])
@pytest.mark.parametrize("sigma", [0.1, 0.9, 2.0])
def test_blur_is_the_papers_truncated_kernel(size: int, taps: int, sigma: float) -> None:
    image = picture(size, size)
    view = STARViewTransform(size).apply(image, whole(image, blur_sigma=sigma))
    expected = F.gaussian_blur(pixels(image), taps, sigma)
    expected = F.normalize(expected, IMAGENET_NORMALIZE["mean"], IMAGENET_NORMALIZE["std"])
    torch.testing.assert_close(view, expected, rtol=1e-4, atol=2e-5)


def test_normalisation() -> None:
    image = picture(32, 32)
    normalize = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]}
    view = STARViewTransform(32, normalize=normalize).apply(image, whole(image))
    expected = F.normalize(pixels(image), normalize["mean"], normalize["std"])
    torch.testing.assert_close(view, expected)
    assert view.is_contiguous()


def test_nothing_drawn_changes_nothing() -> None:
    transform = plain(cj_prob=0, random_gray_scale=0, gaussian_blur=0, hf_prob=0, min_scale=1)
    image = picture(32, 32)
    record = transform.sample(image)
    assert record.vector().tolist() == [0, 0, 32, 32, 0, 1, 1, 1, 0, 0, 0]
    assert_same(transform.apply(image, record), pixels(image))


def test_distributions() -> None:
    transform = STARViewTransform(96, min_scale=0.2)
    records = [transform.sample((100, 150)) for _ in range(4000)]
    v = torch.stack([r.vector() for r in records])
    p = Parameter
    height, width = v[:, p.CROP_HEIGHT], v[:, p.CROP_WIDTH]
    assert (v[:, p.CROP_TOP] + height <= 100).all()
    assert (v[:, p.CROP_LEFT] + width <= 150).all()
    assert (v[:, :4] >= 0).all()
    assert ((width / height > 0.73) & (width / height < 1.36)).all()
    assert ((height * width > 0.19 * 15000) & (height * width <= 15000)).all()
    assert v[:, p.FLIP].mean() == pytest.approx(0.5, abs=0.03)
    assert v[:, p.GRAYSCALE].mean() == pytest.approx(0.2, abs=0.03)
    jittered = v[:, p.BRIGHTNESS] != 1
    assert jittered.float().mean() == pytest.approx(0.8, abs=0.03)
    for column, low, high in ((p.BRIGHTNESS, 0.6, 1.4), (p.CONTRAST, 0.6, 1.4),
                              (p.SATURATION, 0.6, 1.4), (p.HUE, -0.1, 0.1)):  # fmt: skip
        values = v[jittered, column]
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < values.max() <= high
        assert values.mean() == pytest.approx((low + high) / 2, abs=0.02 * (high - low))
    assert (v[~jittered, p.HUE] == 0).all()
    sigma = v[:, p.BLUR_SIGMA]
    assert (sigma > 0).float().mean() == pytest.approx(0.5, abs=0.03)
    assert 0.1 <= sigma[sigma > 0].min() < 0.12
    assert 1.97 < sigma.max() <= 2
    orders = [r.color_order for r in records]
    assert len(set(orders)) == 24


def test_enough_numbers_are_drawn_for_the_longest_way(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nine crops wider than the image, then one that fits, then jitter and blur.
    wide, fits = [0.99, 0.99], [0.0, 0.0]
    draws = 9 * wide + fits

    def rand(count: int) -> torch.Tensor:
        return torch.tensor(draws + [0.5] * (count - len(draws)))

    monkeypatch.setattr(torch, "rand", rand)
    record = STARViewTransform(32, cj_prob=1, gaussian_blur=1).sample((400, 100))
    assert record.blur_sigma == pytest.approx(1.05)
    assert record.hue == pytest.approx(0)
    monkeypatch.undo()
    for _ in range(5000):
        STARViewTransform(32).sample((100, 400))


def test_statistics_of_stl10_come_out_as_the_papers() -> None:
    # The paper's set is of its own crops of 96-pixel images; ours are drawn by the same rule.
    mean, std = estimate_statistics(STARTransform(96), [(96, 96)])
    spread = torch.tensor(STATISTICS["stl10"].std)
    torch.testing.assert_close(torch.tensor(std) / spread, torch.ones(11), rtol=0, atol=0.03)
    shift = (torch.tensor(mean) - torch.tensor(STATISTICS["stl10"].mean)) / spread
    assert shift.abs().max() < 0.03


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "PA", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_images_of_any_mode(mode: str) -> None:
    source = picture(mode="L") if mode == "LA" else picture()
    image = source.convert("P").convert("PA") if mode == "PA" else source.convert(mode)
    views = STARTransform(32)(image)
    expected = STARTransform(32).original(image.convert("RGB"))
    assert torch.equal(views.original, expected)


def test_uint8_tensors() -> None:
    image = picture()
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    transform = STARViewTransform(32)
    record = transform.sample(tensor)
    assert torch.equal(transform.apply(tensor, record), transform.apply(image, record))
    grey = torch.randint(256, (1, 40, 50), dtype=torch.uint8)
    original = STARTransform(32).original
    assert torch.equal(original(grey), original(Image.fromarray(grey[0].numpy())))


@pytest.mark.parametrize(
    "size", [(60, 80), (80, 60), (32, 32), (32, 50), (20, 31), (333, 97), (60, 400)]
)
def test_original_is_torchvisions_resize_and_centre_crop(size: tuple[int, int]) -> None:
    image = picture(*size)
    expected = pixels(F.center_crop(F.resize(image, 32), [32, 32]))
    assert_same(STARTransform(32, normalize=None).original(image), expected)


class Pictures(Dataset[tuple[STARViews, int]]):
    def __init__(self) -> None:
        self.transform = STARTransform(16)
        self.image = picture(20, 20)

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[STARViews, int]:
        return self.transform(self.image), index


def epoch(seed: int) -> torch.Tensor:
    torch.manual_seed(seed)
    batches = list(DataLoader(Pictures(), batch_size=4, num_workers=2))
    assert all(isinstance(views, STARViews) for views, _ in batches)
    assert batches[0][0].views[0].shape == (4, 3, 16, 16)
    return torch.cat([torch.cat(list(views.params)) for views, _ in batches])


def test_workers_draw_different_views_and_one_seed_fixes_them() -> None:
    first = epoch(0)
    assert len(first.unique(dim=0)) == 16
    assert torch.equal(first, epoch(0))
    assert not torch.equal(first, epoch(1))


def test_transform_pickles() -> None:
    transform = pickle.loads(pickle.dumps(STARTransform(16)))
    assert transform(picture()).original.shape == (3, 16, 16)


def test_extreme_shapes() -> None:
    for size in ((2, 2), (2, 300), (300, 2), (3, 3)):
        views = STARTransform(16)(picture(*size))
        assert all(v.shape == (3, 16, 16) and v.isfinite().all() for v in views.views)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"vf_prob": 0.5}, "vf_prob: vertical flips can't be recorded.*got 0.5"),
        ({"rr_prob": 0.5}, "rr_prob, rr_degrees: rotations can't be recorded.*got 0.5"),
        ({"rr_degrees": 90}, "rr_prob, rr_degrees: .*got 0.0 and 90"),
        ({"cj_prob": 1.5}, "cj_prob: expected a probability, got 1.5"),
        ({"hf_prob": -0.1}, "hf_prob: expected a probability, got -0.1"),
        ({"cj_strength": 3}, "cj_strength: .*hue within 0.5 turns, got 3"),
        ({"cj_bright": -1}, "cj_strength: .*at least 0"),
        ({"min_scale": 0}, r"min_scale: expected a share in \(0, 1\], got 0"),
        ({"sigmas": (0, 1)}, r"sigmas: .*got \(0, 1\)"),
        ({"sigmas": (2, 1)}, r"sigmas: .*got \(2, 1\)"),
        ({"input_size": 1}, "input_size: expected at least 2 pixels, got 1"),
        ({"cj_strength": float("nan")}, "cj_strength: .*got nan"),
        ({"normalize": {"mean": [0.5], "std": [0.5]}}, "normalize: expected 3 numbers"),
        ({"normalize": {"mean": [0.5] * 3}}, "normalize: expected 3 numbers"),
        ({"normalize": {"mean": [0.5] * 3, "std": [math.nan] * 3}}, "normalize: .* 3 above 0"),
        ({"normalize": {"mean": [0.5] * 3, "std": [0, 1, 1]}}, "normalize: .*3 above 0"),
        ({"blur": "box"}, "blur: expected 'kernel' or 'pillow', got 'box'"),
    ],
)
def test_bad_arguments(kwargs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        STARTransform(**kwargs)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (Image.new("RGB", (1, 40)), ValueError, "image: .*at least 2 pixels.*height 40, width 1"),
        (
            np.zeros((8, 8, 3)),
            TypeError,
            "image: expected a PIL image or a uint8 tensor, got a ndarray; PIL.Image.fromarray",
        ),
        (
            torch.rand(3, 8, 8),
            TypeError,
            "image: expected a tensor of torch.uint8, got torch.float32",
        ),
        (torch.zeros(8, 8, dtype=torch.uint8), ValueError, r"image: .*got \(8, 8\)"),
        (torch.zeros(4, 8, 8, dtype=torch.uint8), ValueError, r"image: .*got \(4, 8, 8\)"),
    ],
)
def test_bad_images(image: object, error: type[Exception], message: str) -> None:
    for transform in (STARTransform(8), STARViewTransform(8)):
        with pytest.raises(error, match=message):
            transform(image)


def test_record_of_a_larger_image_is_refused() -> None:
    record = AugmentationRecord(30, 0, 40, 40)
    with pytest.raises(
        ValueError, match="record: .*height 60 and width 80, got top 30, left 0, height 40"
    ):
        plain().apply(picture(), record)
    with pytest.raises(ValueError, match="image: .*height 1, width 9"):
        plain().sample((1, 9))
