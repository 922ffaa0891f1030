import contextlib
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils.pin_memory import pin_memory

from star_head import AugmentationRecord, Parameter, STARViews
from star_head.adapters._resample import resize_weights
from star_head.adapters.device import BatchTransform, RecordedImages, RecordingTransform, collate
from star_head.adapters.lightly import STARTransform
from star_head.augmentation import ColorOperation

B, C, S, H = ColorOperation


def picture(height: int = 60, width: int = 80, seed: int = 0) -> Image.Image:
    """Smooth colours and fine noise, as in a photograph."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 10, 3), dtype=np.uint8))
    smooth = coarse.resize((width, height), Image.Resampling.BICUBIC)
    noisy = np.asarray(smooth) + rng.normal(0, 8, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def pixels(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def plain(size: int = 32) -> STARTransform:
    return STARTransform(size, normalize=None)


def levels(views: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """Absolute deviations in levels of 255."""
    assert views.shape == expected.shape
    return (views - expected).abs() * 255


def vectors(records: list[AugmentationRecord]) -> tuple[torch.Tensor, torch.Tensor]:
    params = torch.stack([record.vector() for record in records])
    return params, torch.tensor([record.color_order for record in records])


def deviation(
    images: list[Image.Image], records: list[AugmentationRecord], size: int = 32
) -> torch.Tensor:
    """Of views made in a batch from views made by PIL, from the same records."""
    transform = plain(size)
    tensors: list[torch.Tensor] | torch.Tensor = [pixels(image) for image in images]
    if len({image.size for image in images}) == 1:
        tensors = torch.stack(tensors)
    views = BatchTransform(transform).augment(tensors, *vectors(records))
    expected = [transform.apply(*pair) for pair in zip(images, records, strict=True)]
    return levels(views, torch.stack(expected))


def recorded(transform: STARTransform, images: list[Image.Image]) -> RecordedImages:
    record = RecordingTransform(transform)
    return collate([(record(image), 0) for image in images])[0]


def weights_by_loops(start: int, length: int, output_size: int, size: int) -> torch.Tensor:
    """What Pillow's resize does along an axis, as one would write it down."""
    scale = length / output_size
    support = max(scale, 1.0)
    weights = torch.zeros(output_size, size, dtype=torch.float64)
    for output in range(output_size):
        centre = (output + 0.5) * scale
        for pixel in range(length):
            distance = abs(pixel + 0.5 - centre) / support
            weights[output, start + pixel] = max(0.0, 1 - distance)
        weights[output] /= weights[output].sum()
    return weights


@pytest.mark.parametrize("output_size", [2, 32, 97])
def test_resize_weights_are_pillows(output_size: int) -> None:
    crops = [(0, 1), (0, 50), (7, 43), (3, 32), (12, 5), (49, 1)]
    start, length = torch.tensor(crops, dtype=torch.float32).T
    step = length / output_size
    geometry = torch.stack([start, length, step / 2, step])
    weights = resize_weights(geometry, output_size, 50)
    expected = torch.stack([weights_by_loops(*crop, output_size, 50) for crop in crops])
    torch.testing.assert_close(weights.double(), expected, rtol=0, atol=1e-5)
    geometry = torch.stack([start, length, length - step / 2, -step])
    mirrored = resize_weights(geometry, output_size, 50)
    torch.testing.assert_close(mirrored, weights.flip(1), rtol=0, atol=1e-5)


def random_crops(transform: STARTransform, images: list[Image.Image]) -> list[AugmentationRecord]:
    return [AugmentationRecord(*transform.sample(image)[:5]) for image in images]


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(60, 80, 32), (96, 96, 96), (28, 28, 32), (20, 31, 64), (300, 200, 48), (2, 90, 32)],
)
def test_crop_and_flip_alone(height: int, width: int, size: int) -> None:
    images = [picture(height, width, seed) for seed in range(40)]
    off = deviation(images, random_crops(plain(size), images), size)
    # A pixel's two roundings may fall the other way, more often where Pillow 13 goes the other way.
    assert off.max() < 2.01
    assert off.mean() < 0.15


def test_crop_of_a_huge_image_and_of_single_pixels() -> None:
    huge = picture(2500, 3100)
    boxes = [(0, 0, 2500, 3100), (13, 1000, 2400, 2000), (2499, 7, 1, 900), (5, 3099, 1, 1)]
    assert deviation([huge] * 4, [AugmentationRecord(*box) for box in boxes]).max() < 1.01


COLORS = {
    "brightness": [0.0, 0.6, 0.93, 1.4, 2.0],
    "contrast": [0.0, 0.6, 0.93, 1.4, 2.0],
    "saturation": [0.0, 0.6, 0.93, 1.4, 2.0],
    "hue": [-0.5, -0.1, -0.003, 0.003, 0.02, 0.1, 0.2, 0.5],
    "grayscale": [True],
}


@pytest.mark.parametrize("name", COLORS)
def test_colour_operation_alone(name: str) -> None:
    # At the images' own size nothing is resampled: blends and luma are Pillow's bit for bit.
    values = 10 * COLORS[name]
    images = [picture(32, 32, seed) for seed in range(len(values))]
    off = deviation(images, [AugmentationRecord(0, 0, 32, 32, **{name: v}) for v in values])
    if name == "hue":
        assert off.max() < 6.01
        assert off.mean() < 1e-3
    else:
        assert off.max() < 1e-3


@pytest.mark.parametrize("name", COLORS)
def test_colour_operation_on_every_kind_of_colour(name: str) -> None:
    # Pure, dark, light and grey colours, with ties between channels.
    axis = np.linspace(0, 255, 16).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(axis, axis, axis), -1).reshape(64, 64, 3)
    records = [AugmentationRecord(0, 0, 64, 64, **{name: value}) for value in COLORS[name]]
    off = deviation([Image.fromarray(cube)] * len(records), records, 64)
    assert off.mean() < (0.01 if name == "hue" else 1e-5)


@pytest.mark.parametrize("size", [32, 96, 224])
def test_blur_alone(size: int) -> None:
    sigmas = [0.1, 0.0, 0.5, 1.3, 2.0]
    images = [picture(size, size, seed) for seed in range(5)]
    records = [AugmentationRecord(0, 0, size, size, blur_sigma=sigma) for sigma in sigmas]
    assert deviation(images, records, size).max() < 1e-3


@pytest.mark.parametrize("normalize", [None, {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]}])
@pytest.mark.parametrize(
    "size", [(60, 80), (80, 60), (32, 32), (32, 50), (20, 31), (333, 97), (2, 300), (401, 3)]
)
def test_original(size: tuple[int, int], normalize: dict | None) -> None:
    transform = STARTransform(32, normalize=normalize)
    images = [picture(*size, seed) for seed in range(3)]
    expected = torch.stack([transform.original(image) for image in images])
    batch = BatchTransform(transform)
    std = 1 if normalize is None else torch.tensor(normalize["std"])[:, None, None]
    tensors = [pixels(image) for image in images]
    for given in (torch.stack(tensors), tensors):
        off = levels(batch.original(given) * std, expected * std)
        assert off.max() < 1.01
        assert off.mean() < 0.25


@pytest.mark.parametrize(
    ("height", "width", "size", "mean", "largest"),
    [
        (96, 96, 96, 0.03, 16),
        (28, 28, 32, 0.01, 16),
        pytest.param(375, 500, 224, 0.08, 32, marks=pytest.mark.slow),
    ],
)
def test_whole_views_are_pils(
    height: int, width: int, size: int, mean: float, largest: float
) -> None:
    """One rounding that falls the other way can be a step of hue, several levels, later."""
    transform = plain(size)
    images = [picture(height, width, seed) for seed in range(50)]
    torch.manual_seed(1)
    by_pil = [transform(image) for image in images]
    torch.manual_seed(1)
    views = BatchTransform(transform)(recorded(transform, images))
    assert levels(views.original, torch.stack([v.original for v in by_pil])).max() < 1.01
    for i in range(2):
        off = levels(views.views[i], torch.stack([v.views[i] for v in by_pil]))
        assert off.mean() < mean
        assert off.mean(dim=(1, 2, 3)).max() < 1
        assert off.max() < largest


def test_every_image_has_its_own_order() -> None:
    image = picture(32, 32)
    strong = {"brightness": 1.4, "contrast": 0.6, "saturation": 1.4, "hue": 0.1}
    orders = [(B, C, S, H), (H, S, C, B), (C, H, B, S), (S, B, H, C), (C, B, S, H)]
    records = [AugmentationRecord(0, 0, 32, 32, **strong, color_order=o) for o in orders]
    assert deviation([image] * 5, records).mean() < 0.01
    views = BatchTransform(plain()).augment(torch.stack([pixels(image)] * 5), *vectors(records))
    for i, view in enumerate(views):
        for other in views[:i]:
            assert levels(view, other).mean() > 0.5


def test_a_batch_is_its_images_one_by_one() -> None:
    transform = plain()
    images = torch.stack([pixels(picture(40, 50, seed)) for seed in range(20)])
    params, orders = vectors([transform.sample((40, 50)) for _ in images])
    batch = BatchTransform(transform)
    before = images.clone(), params.clone(), orders.clone()
    together = batch.augment(images, params, orders)
    for i in range(20):
        alone = batch.augment(images[i : i + 1], params[i : i + 1], orders[i : i + 1])
        # But for pixels on the border between two levels.
        assert levels(together[i : i + 1], alone).mean() < 0.02
    assert all(map(torch.equal, before, (images, params, orders)))


def test_images_of_mixed_sizes() -> None:
    transform = plain()
    sizes = [(60, 80), (33, 20), (32, 32), (2, 9), (150, 400), (16, 16)]
    images = [picture(*size) for size in sizes]
    batch = recorded(transform, images)
    views = BatchTransform(transform)(batch)
    for i, image in enumerate(images):
        single = RecordedImages(
            pixels(image)[None],
            [params[i : i + 1] for params in batch.params],
            [order[i : i + 1] for order in batch.color_orders],
        )
        alone = BatchTransform(transform)(single)
        for one, other in zip((views.original, *views.views), (alone.original, *alone.views),
                              strict=True):  # fmt: skip
            assert levels(one[i], other[0]).mean() < 0.02
    equal = batch._replace(images=[pixels(picture()) for _ in sizes])
    equal = equal._replace(params=[torch.tensor([[3, 4, 50, 60, 1, 1, 1, 1, 0, 0, 0.0]] * 6)] * 2)
    stacked = equal._replace(images=torch.stack(equal.images))
    off = levels(
        BatchTransform(transform)(equal).views[0], BatchTransform(transform)(stacked).views[0]
    )
    assert off.max() < 1.01
    assert off.mean() < 1e-3


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "P", "I;16"])
def test_recording_draws_what_the_transform_draws(mode: str) -> None:
    transform = STARTransform(32, pixel_range=(0, 65535))
    image = picture().convert("L" if mode in ("LA", "I;16") else "RGB")
    image = Image.fromarray(np.array(image, np.uint16) * 256) if mode == "I;16" else image
    image = image if mode == "I;16" else image.convert(mode)
    for seed in range(20):
        torch.manual_seed(seed)
        views, after = transform(image), torch.rand(())
        torch.manual_seed(seed)
        sample = RecordingTransform(transform)(image)
        assert torch.rand(()) == after
        assert all(map(torch.equal, sample.params, views.params))
        assert sample.images.shape == (3, 60, 80)
        assert sample.images.is_contiguous()
        torch.manual_seed(seed)
        records = transform.sample(image), transform.sample(image)
        assert [order.tolist() for order in sample.color_orders] == [
            list(r.color_order) for r in records
        ]


class Pictures(Dataset[tuple[RecordedImages, int]]):
    def __init__(self, sizes: list[tuple[int, int]]) -> None:
        self.transform = RecordingTransform(STARTransform(16))
        self.images = [picture(*size) for size in sizes]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[RecordedImages, int]:
        return self.transform(self.images[index]), index


@pytest.mark.parametrize("sizes", [[(20, 24)] * 8, [(20, 24), (30, 18), (9, 9), (20, 24)] * 2])
def test_data_loader_with_workers(sizes: list[tuple[int, int]]) -> None:
    loader = DataLoader(Pictures(sizes), batch_size=4, num_workers=2, collate_fn=collate)
    transform = BatchTransform(STARTransform(16))
    params: list[torch.Tensor] = []
    for batch, (recorded, labels) in enumerate(loader):
        assert labels.tolist() == list(range(4 * batch, 4 * batch + 4))
        assert isinstance(recorded.images, torch.Tensor) == (len(set(sizes)) == 1)
        assert len({image.untyped_storage().data_ptr() for image in recorded.images}) == 1
        views = transform(recorded.to("cpu", non_blocking=True))
        assert isinstance(views, STARViews)
        assert [v.shape for v in (views.original, *views.views)] == [(4, 3, 16, 16)] * 3
        assert all(map(torch.equal, views.params, recorded.params))
        params += views.params
    assert len(torch.cat(params).unique(dim=0)) == 16


@pytest.mark.parametrize("sizes", [[(20, 24)] * 2, [(20, 24), (30, 18)]])
def test_a_loader_can_pin_a_batch(
    sizes: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = recorded(STARTransform(16), [picture(*size) for size in sizes])
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor, *device: tensor.clone())
    pinned = pin_memory(batch)
    assert isinstance(pinned, RecordedImages)
    expected = BatchTransform(STARTransform(16))(batch)
    torch.testing.assert_close(BatchTransform(STARTransform(16))(pinned), expected)


def test_everything_pickles() -> None:
    transform = STARTransform(16)
    batch = recorded(transform, [picture(), picture(20, 30)])
    expected = BatchTransform(transform)(batch)
    again = pickle.loads(pickle.dumps(BatchTransform(transform)))(pickle.loads(pickle.dumps(batch)))
    torch.testing.assert_close(again, expected)
    sample = pickle.loads(pickle.dumps(RecordingTransform(transform)))(picture())
    assert sample.images.shape == (3, 60, 80)


@pytest.mark.parametrize("sizes", [[(20, 24)] * 4, [(20, 24), (30, 18)] * 2])
def test_no_device_is_waited_for(
    sizes: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Tensors on "meta" have no values: whatever would copy one back from a GPU fails.
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: contextlib.nullcontext())
    transform = STARTransform(16, cj_prob=1, random_gray_scale=0.5, gaussian_blur=0.5)
    batch = recorded(transform, [picture(*size) for size in sizes]).to("meta", non_blocking=True)
    assert all(p.device.type == "cpu" for p in (*batch.params, *batch.color_orders))
    views = BatchTransform(transform).to("meta")(batch)
    for tensor in (views.original, *views.views):
        assert (tensor.shape, tensor.device.type) == ((4, 3, 16, 16), "meta")
    assert all(p.device.type == "meta" for p in views.params)


def test_autocast_makes_no_difference_and_no_gradient_is_kept() -> None:
    transform = STARTransform(16)
    batch = recorded(transform, [picture(seed=seed) for seed in range(8)])
    module = BatchTransform(transform)
    views = module(batch)
    with torch.autocast("cpu", torch.bfloat16):
        cast = module(batch)
    for tensor, other in zip((views.original, *views.views), (cast.original, *cast.views),
                             strict=True):  # fmt: skip
        assert tensor.dtype == other.dtype == torch.float32
        assert torch.equal(tensor, other)
        assert tensor.is_contiguous()
        assert not tensor.requires_grad
    assert not list(module.parameters())
    assert not module.state_dict()


def test_the_transform_stays_where_it_is() -> None:
    transform = STARTransform(16)
    BatchTransform(transform).to("meta")
    assert transform(picture()).original.device.type == "cpu"
    assert (
        transform.apply(picture(), AugmentationRecord(0, 0, 9, 9, blur_sigma=1.0)).isfinite().all()
    )


def test_pillows_blur_is_refused() -> None:
    with pytest.raises(ValueError, match="transform: expected blur='kernel'.*got 'pillow'"):
        BatchTransform(STARTransform(16, blur="pillow"))


def images(count: int = 2, *shape: int, dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    return torch.zeros(count, *(shape or (3, 20, 30)), dtype=dtype)


def changed(column: Parameter, value: float) -> torch.Tensor:
    params = GOOD[0].clone()
    params[1, column] = value
    return params


GOOD = vectors([AugmentationRecord(0, 0, 20, 30)] * 2)
CROP = "params: expected crops inside the images, got in row 1, of height 20 and width 30"


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ((images(dtype=torch.float32), *GOOD), TypeError, "images: .*uint8, got torch.float32"),
        (
            (images(2, 1, 20, 30), *GOOD),
            ValueError,
            r"images: expected shape \(B, 3, H, W\), .*got \(2, 1, 20, 30\)",
        ),
        ((images(2, 3, 20, 1), *GOOD), ValueError, r"images: .*sides of at least 2, got"),
        ((images()[0], *GOOD), ValueError, r"images: .*got \(3, 20, 30\)"),
        (
            ([images(), images()], *GOOD),
            ValueError,
            r"images: expected shape \(3, H, W\) in a list, .*got \(2, 3, 20, 30\)",
        ),
        (([], *GOOD), ValueError, "images: expected at least one, got none"),
        ((images().to("meta"), *GOOD), ValueError, "images: expected on cpu, .*got meta"),
        (
            (images(3), *GOOD),
            ValueError,
            r"params: expected shape \(3, 11\), a row for each image, got \(2, 11\)",
        ),
        ((images(), GOOD[0][:, :10], GOOD[1]), ValueError, r"params: .*got \(2, 10\)"),
        ((images(), GOOD[0].double(), GOOD[1]), TypeError, "params: expected torch.float32, got"),
        (
            (images(), GOOD[0], GOOD[1][:1]),
            ValueError,
            r"color_order: expected shape \(2, 4\), a row for each image, got \(1, 4\)",
        ),
        ((images(), GOOD[0], GOOD[1].int()), TypeError, "color_order: .*int64, got torch.int32"),
        (
            (images(), GOOD[0], GOOD[1].clamp(max=2)),
            ValueError,
            r"color_order: expected 0, 1, 2, 3 in some order in each row, got \[0, 1, 2, 2\]",
        ),
        ((images(), changed(Parameter.CROP_TOP, 1), GOOD[1]), ValueError, f"{CROP}, top 1, left 0"),
        ((images(), changed(Parameter.CROP_LEFT, -1), GOOD[1]), ValueError, f"{CROP}, .*left -1"),
        ((images(), changed(Parameter.CROP_WIDTH, 0), GOOD[1]), ValueError, f"{CROP}, .*width 0"),
        (
            ([*images()], changed(Parameter.CROP_HEIGHT, math.nan), GOOD[1]),
            ValueError,
            f"{CROP}, .*height nan",
        ),
    ],
)
def test_bad_input(args: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        BatchTransform(STARTransform(16)).augment(*args)


def test_views_without_an_order_are_refused() -> None:
    params, order = GOOD
    with pytest.raises(ValueError, match="recorded: expected as many color_orders.*got 1 and 2"):
        BatchTransform(STARTransform(16))(RecordedImages(images(), [params] * 2, [order]))


def test_a_cast_module_is_refused() -> None:
    module = BatchTransform(STARTransform(16)).bfloat16()
    with pytest.raises(TypeError, match="BatchTransform: .*torch.float32, got torch.bfloat16"):
        module.original(images())


def test_nothing_is_copied_without_waiting_but_to_a_cuda_device() -> None:
    """Where memory is read before a copy has ended, as on Apple's GPUs, pixels would be wrong."""

    class Copies(torch.overrides.TorchFunctionMode):
        unawaited = 0

        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = kwargs or {}
            self.unawaited += bool(kwargs.get("non_blocking"))
            return func(*args, **kwargs)

    transform = STARTransform(24)
    batch = recorded(transform, [picture(40, 30), picture(30, 40)])
    with Copies() as copies:
        BatchTransform(transform)(batch)
        batch.to("cpu", non_blocking=True)  # it is seen where it is asked for
    assert copies.unawaited == 2
