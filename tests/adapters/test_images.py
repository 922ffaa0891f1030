"""Images of more than 8 bits, very long ones and transparent ones, through the transforms."""

import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from star_head.adapters import _images
from star_head.adapters.device import BatchTransform, RecordingTransform, collate
from star_head.adapters.lightly import STARMultiViewTransform, STARTransform, STARViewTransform
from star_head.adapters.torchvision import RecordedTransform
from star_head.augmentation import AugmentationRecord

SIDE = 32
# A ramp from 0 to 1, and how each kind of image stores it from its low to its high value.
RAMP = np.linspace(0, 1, SIDE * SIDE).reshape(SIDE, SIDE)
KINDS: dict[str, tuple[float, float, Callable[[np.ndarray], object]]] = {
    "F in 0..1": (0, 1, lambda v: Image.fromarray(v.astype(np.float32))),
    "F in 0..65535": (0, 65535, lambda v: Image.fromarray(v.astype(np.float32))),
    "F of heights": (-120, 8849, lambda v: Image.fromarray(v.astype(np.float32))),
    "I of 12 bits": (0, 4095, lambda v: Image.fromarray(v.astype(np.int32))),
    "I of an 8-bit range": (0, 200, lambda v: Image.fromarray(v.astype(np.int32))),
    "I of Hounsfield units": (-1000, 3000, lambda v: Image.fromarray(v.astype(np.int32))),
    "I;16 of 12 bits": (0, 4095, lambda v: Image.fromarray(v.astype(np.uint16))),
    "I;16 of 16 bits": (0, 65535, lambda v: Image.fromarray(v.astype(np.uint16))),
    "I;16B": (0, 65535, lambda v: Image.frombytes("I;16B", v.shape, v.astype(">u2").tobytes())),
    "torch.float32": (0, 1, lambda v: torch.from_numpy(v).float()[None]),
    "torch.float64": (-1, 1, lambda v: torch.from_numpy(v).expand(3, -1, -1)),
    "torch.bfloat16": (0, 1, lambda v: torch.from_numpy(v).bfloat16()[None]),
    "torch.int16": (-1000, 3000, lambda v: torch.from_numpy(v).short()[None]),
    "torch.uint16": (0, 65535, lambda v: torch.from_numpy(v.astype(np.uint16))[None]),
    "torch.int64": (0, 255, lambda v: torch.from_numpy(v).long()[None]),
}
WHOLE = AugmentationRecord(0, 0, SIDE, SIDE)


@pytest.fixture
def nothing_met(monkeypatch: pytest.MonkeyPatch) -> None:
    """No warning of transparency was given yet in this process."""
    monkeypatch.setattr(_images, "_transparency_was_met", [])


@pytest.mark.parametrize("kind", KINDS)
def test_a_pixel_range_says_what_is_black_and_white(kind: str) -> None:
    low, high, make = KINDS[kind]
    image = make(low + RAMP * (high - low))
    transform = STARTransform(SIDE, normalize=None, pixel_range=(low, high))
    expected = torch.from_numpy(RAMP).float().expand(3, -1, -1)
    views = [
        transform.apply(image, WHOLE),
        transform.original(image),
        transform(image).original,
        STARMultiViewTransform([transform])(image).original,
    ]
    recorded, _ = collate([(RecordingTransform(transform)(image), 0)])
    assert recorded.images[0].dtype == torch.uint8
    views.append(BatchTransform(transform)(recorded).original[0])
    step = {"torch.bfloat16": 2**-8}.get(kind, (1 + (high < 255)) / 255)
    for view in views:
        torch.testing.assert_close(view, expected, rtol=0, atol=step)


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_pixel_range_the_mode_and_the_range_are_named(kind: str) -> None:
    low, high, make = KINDS[kind]
    image = make(low + RAMP * (high - low))
    transform = STARTransform(8)
    error = TypeError if isinstance(image, torch.Tensor) else ValueError
    what = kind.partition(" ")[0]
    message = rf"{what}.* pixels from {low:g} to {high:g}.*pixel_range=\(low, high\)"
    for call in (
        transform,
        transform.original,
        RecordingTransform(transform),
        STARMultiViewTransform([transform]),
    ):
        with pytest.raises(error, match=message):
            call(image)


def test_what_lies_outside_the_range_is_cut_off_and_what_is_no_number_is_refused() -> None:
    values = np.linspace(-1, 2, SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE)
    transform = STARTransform(SIDE, normalize=None, pixel_range=(0, 1))
    view = transform.apply(Image.fromarray(values), WHOLE)[0]
    torch.testing.assert_close(view, torch.from_numpy(values.clip(0, 1)), rtol=0, atol=1 / 255)
    values[3, 4] = np.nan
    for image in (Image.fromarray(values), torch.from_numpy(values)[None]):
        with pytest.raises(ValueError, match="pixels that are not a number"):
            transform(image)


def test_8_bit_images_stay_as_they_are() -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
    plain, ranged = STARTransform(16), STARTransform(16, pixel_range=(0, 1))
    for given in (image, image.convert("L"), torch.from_numpy(np.array(image)).permute(2, 0, 1)):
        assert torch.equal(plain.original(given), ranged.original(given))


def png_of_16_bits(path: Path, color_type: int, values: np.ndarray) -> None:
    """Write (H, W, channels), by hand since Pillow writes grey only."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, color_type, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, data in chunks:
            check = struct.pack(">I", zlib.crc32(kind + data))
            file.write(struct.pack(">I", len(data)) + kind + data + check)


@pytest.mark.parametrize(("color_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_a_16_bit_png_straight_from_its_file(
    tmp_path: Path, color_type: int, channels: int
) -> None:
    path = tmp_path / "scan.png"
    values = np.repeat((RAMP * 65535).round()[..., None], channels, axis=2)
    if channels in (2, 4):
        values[..., -1] = 65535
    png_of_16_bits(path, color_type, values)
    with pytest.raises(ValueError, match=r"scan\.png has .*65535"):
        STARTransform(8)(Image.open(path))
    transform = STARTransform(SIDE, normalize=None, pixel_range=(0, 65535))
    view = transform.apply(Image.open(path), WHOLE)
    expected = torch.from_numpy(RAMP).float().expand(3, -1, -1)
    torch.testing.assert_close(view, expected, rtol=0, atol=1 / 255)
    if channels > 1:  # Pillow has cut off the lower 8 bits, where all of a 12-bit image may lie
        with pytest.raises(ValueError, match=r"scan\.png .*upper 8 only.*convert"):
            STARTransform(8, pixel_range=(0, 4095))(Image.open(path))


@pytest.mark.parametrize("magic", [b"P5", b"P6"])
def test_a_header_that_says_what_white_is_needs_no_range(tmp_path: Path, magic: bytes) -> None:
    path = tmp_path / "image.ppm"
    values = np.full((SIDE, SIDE, 1 if magic == b"P5" else 3), 1000, ">u2")
    path.write_bytes(magic + b" 32 32 2000\n" + values.tobytes())
    view = STARTransform(8, normalize=None).original(Image.open(path))
    torch.testing.assert_close(view, torch.full((3, 8, 8), 0.5), rtol=0, atol=1.5 / 255)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ((1, 0), ValueError),
        ((0, 0), ValueError),
        ((0, 1, 2), ValueError),
        ((0, float("inf")), ValueError),
        (("0", "1"), ValueError),
        (255, TypeError),
        ("01", TypeError),
    ],
)
def test_a_range_that_is_none(value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"pixel_range: expected .*\(low, high\).*got"):
        STARTransform(pixel_range=value)


def test_ranges_and_backgrounds_may_be_numpys_numbers() -> None:
    image = Image.fromarray(np.linspace(-1, 1, SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE))
    pixels = np.asarray(image)
    found, expected = (
        STARTransform(8, pixel_range=bounds).original(image)
        for bounds in ((pixels.min(), pixels.max()), (-1, 1))
    )
    assert torch.equal(found, expected)
    clear = Image.new("RGBA", (SIDE, SIDE))
    views = [
        STARTransform(8, background=color).original(clear)
        for color in (tuple(np.array([9, 99, 199], np.uint8)), (9, 99, 199))
    ]
    assert torch.equal(*views)


def test_complex_pixels_have_no_range() -> None:
    image = torch.zeros(3, SIDE, SIDE, dtype=torch.complex64)
    for transform in (STARTransform(8), STARTransform(8, pixel_range=(0, 1))):
        with pytest.raises(TypeError, match=r"image: .*real numbers, got torch.complex64; .*abs"):
            transform(image)


def test_an_array_is_told_how_it_becomes_an_image() -> None:
    with pytest.raises(TypeError, match=r"got a ndarray; PIL.Image.fromarray makes one"):
        STARTransform(8)(np.zeros((SIDE, SIDE, 3), np.uint8))


@pytest.mark.parametrize("value", [(0, 0), (0, 0, 256), (0.5, 0, 0), "white", 255])
def test_a_background_that_is_none(value: object) -> None:
    with pytest.raises(ValueError, match=r"background: expected .*got"):
        STARTransform(background=value)


def test_views_of_one_image_have_one_range() -> None:
    with pytest.raises(ValueError, match="recorded: expected one pixel_range"):
        STARMultiViewTransform([STARViewTransform(8), STARViewTransform(8, pixel_range=(0, 1))])


def drawing(mode: str) -> Image.Image:
    """Half opaque blue, half red under full transparency."""
    image = Image.new("RGBA", (40, 40), (0, 0, 255, 255))
    image.paste((255, 0, 0, 0), (0, 0, 20, 40))
    if mode == "P":
        image = image.convert("RGB").quantize(2)
        red = image.getpixel((0, 0))
        image.info["transparency"] = red
    elif mode == "RGB":
        image = image.convert("RGB")
        image.info["transparency"] = (255, 0, 0)
    elif mode == "LA":
        image = image.convert("LA")
    return image


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_transparent_pixels_take_the_background(mode: str, nothing_met: None) -> None:
    transform = STARTransform(40, normalize=None, background=(0, 255, 0))
    view = transform.original(drawing(mode))
    green = torch.tensor([0.0, 1, 0]).view(3, 1, 1).expand(3, 40, 20)
    assert torch.equal(view[..., :20], green)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        transform(drawing(mode))
    own = STARTransform(40, normalize=None).original(drawing(mode).convert("RGB"))
    assert torch.equal(view[..., 20:], own[..., 20:])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_hidden_colours_are_shown_with_one_warning(mode: str, nothing_met: None) -> None:
    transform = STARTransform(40, normalize=None)
    with pytest.warns(UserWarning, match=r"transparent.*background=\(255, 255, 255\)"):
        view = transform.original(drawing(mode))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        transform(drawing(mode))
    assert torch.equal(view, transform.original(drawing(mode).convert("RGB")))


def test_an_opaque_image_of_a_mode_with_transparency_is_nothing_to_warn_of(
    nothing_met: None,
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        STARTransform(8)(Image.new("RGBA", (20, 20), (1, 2, 3, 255)))


def whole_resized_then_cut(image: Image.Image, size: int) -> np.ndarray:
    """What the original is by its definition, at the cost of resizing all of the image."""
    scale = size / min(image.size)
    width, height = (round(side * scale) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    return np.array(image.crop((left, top, left + size, top + size)))


@pytest.mark.parametrize("sizes", [(2, 601), (3, 500), (7, 1001), (40, 4000), (16, 129)])
@pytest.mark.parametrize("upright", [False, True])
def test_the_original_of_a_long_image_is_its_centre_resized(
    sizes: tuple[int, int], upright: bool
) -> None:
    # Waves of some pixels, so that a shift of a fraction of a pixel shows little.
    short, long = sizes
    wave = 127 + 100 * np.sin(np.arange(long) / 3)
    pixels = np.repeat(wave[None, :, None].repeat(short, 0), 3, axis=2).astype(np.uint8)
    image = Image.fromarray(pixels.transpose(1, 0, 2) if upright else pixels)
    transform = STARTransform(16, normalize=None)
    expected = whole_resized_then_cut(image, 16)
    view = 255 * transform.original(image).permute(1, 2, 0).numpy()
    assert np.abs(view - expected).max() < 100 / 3 * short / 16 + 2  # a pixel of the view's
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    batch = BatchTransform(transform)
    for given in (tensor[None], [tensor]):
        on_device = 255 * batch.original(given)[0].permute(1, 2, 0).numpy()
        assert np.abs(on_device - view).max() < 1.01


@pytest.mark.parametrize("size", [16, (16, 24), (24, 16)])
@pytest.mark.parametrize("shape", [(40, 60), (2, 601), (1001, 7), (3, 500)])
def test_the_original_of_a_recorded_transform_too(
    size: int | tuple[int, int], shape: tuple[int, int]
) -> None:
    wave = 127 + 100 * np.sin(np.arange(max(shape)) / 3)
    pixels = np.broadcast_to(wave[None], (min(shape), max(shape))).astype(np.uint8)
    image = Image.fromarray(pixels if shape[0] < shape[1] else pixels.T).convert("RGB")
    recorded = RecordedTransform(v2.Compose([v2.RandomResizedCrop(size), v2.ToImage()]))
    height, width = recorded.original(image).shape[1:]
    scale = max(height / shape[0], width / shape[1])
    whole = v2.functional.resize(
        image,
        [max(height, int(scale * shape[0])), max(width, int(scale * shape[1]))],
    )
    expected = v2.functional.pil_to_tensor(v2.functional.center_crop(whole, [height, width]))
    off = (recorded.original(image).float() - expected.float()).abs().max()
    assert off <= (0 if max(shape) < 8 * min(shape) else 100 / 3 / scale + 2)


def test_what_is_resized_of_a_long_image_is_no_longer_than_eight_of_its_short_sides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []
    resize = Image.Image.resize

    def noting(self: Image.Image, size: tuple[int, int], *args: Any, **kwargs: Any) -> Image.Image:
        made.append(size)
        return resize(self, size, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "resize", noting)
    assert STARTransform(224).original(Image.new("RGB", (20_000, 2))).shape == (3, 224, 224)
    assert STARTransform(224).original(Image.new("RGB", (3, 20_001))).shape == (3, 224, 224)
    recorded = RecordedTransform(v2.Compose([v2.RandomResizedCrop(224), v2.ToImage()]))
    assert recorded.original(Image.new("RGB", (20_000, 2))).shape == (3, 224, 224)
    assert len(made) == 3
    assert all(max(size) <= 9 * 224 for size in made)
