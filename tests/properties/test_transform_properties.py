import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from star_head.adapters.device import BatchTransform, RecordingTransform, collate
from star_head.adapters.lightly import STARTransform, STARViewTransform
from star_head.augmentation import AugmentationRecord, ColorOperation, Parameter

SEEDS = st.integers(0, 2**32 - 1)

# Every mode of Pillow with its bytes a pixel, but for those whose pixels are wider than a byte.
BYTES = {"L": 1, "LA": 2, "La": 2, "P": 1, "PA": 2, "RGB": 3, "RGBA": 4, "RGBa": 4, "RGBX": 4,
         "CMYK": 4, "YCbCr": 3, "HSV": 3, "LAB": 3}  # fmt: skip
WIDE = {"I": "i4", "F": "f4", "I;16": "<u2", "I;16L": "<u2", "I;16B": ">u2"}
MODES = ["1", *BYTES, *WIDE]
RANGE = (0, 65535)
# Often thin, and too thin.
SIZES = st.one_of(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 4), st.integers(1, 500)),
    st.tuples(st.integers(1, 500), st.integers(1, 4)),
)
CROPPABLE = SIZES.filter(lambda size: min(size) >= 2)

PROBABILITIES = st.floats(0, 1)
ARGUMENTS = st.fixed_dictionaries(
    {
        "input_size": st.integers(2, 24),
        "cj_prob": PROBABILITIES,
        "cj_strength": st.floats(0, 2),
        "cj_bright": st.floats(0, 1),
        "cj_contrast": st.floats(0, 1),
        "cj_sat": st.floats(0, 1),
        "cj_hue": st.floats(0, 0.25),
        "min_scale": st.floats(0.001, 1),
        "random_gray_scale": PROBABILITIES,
        "gaussian_blur": PROBABILITIES,
        "sigmas": st.tuples(st.floats(0.01, 3), st.floats(0.01, 3)).map(sorted).map(tuple),
        "hf_prob": PROBABILITIES,
        "normalize": st.sampled_from([None, {"mean": [0.4, 0.5, 0.6], "std": [0.1, 0.2, 0.3]}]),
    }
)


def picture(mode: str, size: tuple[int, int], seed: int) -> Image.Image:
    """An image of random bytes, or of random values that its mode takes."""
    rng = np.random.default_rng(seed)
    if mode == "1":
        return Image.fromarray(rng.integers(0, 2, size).astype(bool))
    if mode in BYTES:
        values = rng.integers(0, 256, (*size, BYTES[mode]), dtype=np.uint8)
    else:
        largest = 256 if mode == "F" else 65536
        values = rng.integers(0, largest, size).astype(WIDE[mode])
    image = Image.frombytes(mode, size[::-1], values.tobytes())
    if mode in ("P", "PA"):
        image.putpalette(rng.integers(0, 256, 768, dtype=np.uint8).tobytes())
    return image


def check_record(record: AugmentationRecord, size: tuple[int, int], arguments: dict) -> None:
    height, width = size
    assert record.crop_top >= 0
    assert record.crop_left >= 0
    assert 1 <= record.crop_height <= height - record.crop_top
    assert 1 <= record.crop_width <= width - record.crop_left
    strength = arguments["cj_strength"]
    for factor, name in (
        (record.brightness, "cj_bright"),
        (record.contrast, "cj_contrast"),
        (record.saturation, "cj_sat"),
    ):
        reach = strength * arguments[name] + 1e-9
        assert max(0, 1 - reach) <= factor <= 1 + reach
    assert abs(record.hue) <= strength * arguments["cj_hue"] + 1e-9
    smallest, largest = arguments["sigmas"]
    assert record.blur_sigma == 0 or smallest - 1e-9 <= record.blur_sigma <= largest + 1e-9
    assert sorted(record.color_order) == list(ColorOperation)


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=10)
@given(size=SIZES, arguments=ARGUMENTS, blur=st.sampled_from(["kernel", "pillow"]), seed=SEEDS)
def test_images_of_every_mode_and_size(
    mode: str, size: tuple[int, int], arguments: dict[str, Any], blur: str, seed: int
) -> None:
    transform = STARTransform(**arguments, blur=blur, pixel_range=RANGE)
    image = picture(mode, size, seed)
    assert image.mode == mode
    height, width = size
    if min(size) < 2:
        for call in (
            transform,
            transform.sample,
            transform.original,
            RecordingTransform(transform),
        ):
            message = f"image: .*at least 2 pixels.*got height {height}, width {width}"
            with pytest.raises(ValueError, match=message):
                call(image)
        return
    torch.manual_seed(seed)
    views = transform(image)
    torch.manual_seed(seed)
    records = transform.sample(size), transform.sample(image)
    side = arguments["input_size"]
    for view in (views.original, *views.views):
        assert view.shape == (3, side, side)
        assert view.dtype == torch.float32
        assert view.isfinite().all()
        if arguments["normalize"] is None:
            assert ((view >= -1e-5) & (view <= 1 + 1e-5)).all()
    for record, view, params in zip(records, views.views, views.params, strict=True):
        check_record(record, size, arguments)
        assert torch.equal(transform.apply(image, record), view)
        assert torch.equal(params, record.vector())
        for parameter, value in zip(Parameter, params.tolist(), strict=True):
            recorded = getattr(record, parameter.name.lower())
            assert value == pytest.approx(float(recorded))


@pytest.mark.parametrize("mode", ["1", *BYTES])
@settings(max_examples=5)
@given(size=CROPPABLE, side=st.integers(2, 24), seed=SEEDS)
def test_any_mode_is_its_rgb_image(mode: str, size: tuple[int, int], side: int, seed: int) -> None:
    transform = STARViewTransform(side)
    image = picture(mode, size, seed)
    record = transform.sample(image)
    rgb = (image.convert("LA") if mode == "La" else image).convert("RGB")
    assert torch.equal(transform.apply(image, record), transform.apply(rgb, record))
    tensor = torch.from_numpy(np.array(rgb)).permute(2, 0, 1)
    assert torch.equal(transform.apply(tensor, record), transform.apply(rgb, record))


@given(CROPPABLE, ARGUMENTS, SEEDS)
def test_a_flip_mirrors_the_view(
    size: tuple[int, int], arguments: dict[str, Any], seed: int
) -> None:
    torch.manual_seed(seed)
    transform = STARViewTransform(**arguments)
    image = picture("RGB", size, seed)
    record = transform.sample(image)
    mirrored = transform.apply(image, record._replace(flip=not record.flip))
    torch.testing.assert_close(mirrored, transform.apply(image, record).flip(2))


@given(CROPPABLE, ARGUMENTS, SEEDS)
def test_a_record_sees_nothing_beyond_its_crop(
    size: tuple[int, int], arguments: dict[str, Any], seed: int
) -> None:
    torch.manual_seed(seed)
    transform = STARViewTransform(**arguments)
    image = picture("RGB", size, seed)
    record = transform.sample(image)
    top, left, height, width = record[:4]
    assume(min(height, width) >= 2)
    crop = image.crop((left, top, left + width, top + height))
    alone = transform.apply(crop, record._replace(crop_top=0, crop_left=0))
    assert torch.equal(transform.apply(image, record), alone)


@given(CROPPABLE, st.lists(st.integers(-3, 600), min_size=4, max_size=4), SEEDS)
def test_a_crop_lies_inside_or_is_named(size: tuple[int, int], crop: list[int], seed: int) -> None:
    transform = STARViewTransform(8)
    image = picture("RGB", size, seed)
    top, left, height, width = crop
    inside = min(top, left) >= 0 and min(height, width) >= 1
    if inside and top + height <= size[0] and left + width <= size[1]:
        assert transform.apply(image, AugmentationRecord(*crop)).isfinite().all()
    else:
        with pytest.raises(ValueError, match=f"record: .*left {left}, height {height}, width"):
            transform.apply(image, AugmentationRecord(*crop))


@given(
    st.lists(st.tuples(st.sampled_from(MODES), CROPPABLE), min_size=1, max_size=4), ARGUMENTS, SEEDS
)
def test_a_batch_is_what_pil_makes(
    images: list[tuple[str, tuple[int, int]]], arguments: dict[str, Any], seed: int
) -> None:
    torch.manual_seed(seed)
    transform = STARTransform(**arguments, pixel_range=RANGE)
    record = RecordingTransform(transform)
    pictures = [picture(mode, size, seed + i) for i, (mode, size) in enumerate(images)]
    torch.manual_seed(seed)
    recorded, _ = collate([(record(image), 0) for image in pictures])
    views = BatchTransform(transform)(recorded)
    torch.manual_seed(seed)
    expected = [transform(image) for image in pictures]
    std = torch.tensor((arguments["normalize"] or {"std": [1.0] * 3})["std"]).view(3, 1, 1)
    for i, single in enumerate(expected):
        pairs = zip((single.original, *single.views), (views.original, *views.views), strict=True)
        for view, batched in pairs:
            assert batched.shape == (len(images), 3, *view.shape[1:])
            assert batched.dtype == torch.float32
            assert batched.isfinite().all()
            # Of 255; single pixels may be a step of hue apart.
            assert ((batched[i] - view).abs() * std).mean() * 255 < 1
        for params, batched in zip(single.params, views.params, strict=True):
            assert torch.equal(batched[i], params)


@given(st.integers(2, 300), st.integers(2, 300), st.floats(0.001, 1), SEEDS)
def test_a_crop_has_the_area_and_ratio_that_were_asked_for(
    height: int, width: int, min_scale: float, seed: int
) -> None:
    torch.manual_seed(seed)
    record = STARViewTransform(8, min_scale=min_scale).sample((height, width))
    _, _, h, w = record[:4]
    # Sides are rounded to whole pixels.
    assert (h - 0.5) * (w - 0.5) <= height * width
    assert (w - 0.5) / (h + 0.5) <= 4 / 3 + 1e-9
    assert (w + 0.5) / (h - 0.5) >= 3 / 4 - 1e-9
    if 3 / 4 <= width / height <= 4 / 3:
        assert (h + 0.5) * (w + 0.5) >= min_scale * height * width
    assert math.isfinite(record.vector().sum().item())
