"""kornia's augmentations one by one: what is recorded, against what is seen in the views."""

import colorsys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from same_draws import picture, seed_all, states
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

kornia = pytest.importorskip("kornia")
K = kornia.augmentation
star_kornia = pytest.importorskip("star_head.adapters.kornia")
tree = pytest.importorskip("star_head.adapters._kornia.tree")

TO_FLOAT = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.ToPureTensor()])
HEIGHT, WIDTH = 24, 30
INSIDE = (..., slice(9, 15), slice(10, 20))  # far from what a warp brings in
Values = dict[str, float]


def pictures(count: int = 10) -> Tensor:
    """Smooth colours, neither black nor white."""
    images = torch.stack([TO_FLOAT(picture(HEIGHT, WIDTH, seed=i)) for i in range(count)])
    return F.gaussian_blur(0.3 + 0.4 * images, [5, 5], [1.5, 1.5])


def places(count: int = 10) -> Tensor:
    """Images whose first channel holds x and whose second holds y, in hundreds of pixels."""
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    return torch.stack([x / 100, y / 100, torch.ones(HEIGHT, WIDTH)]).expand(count, -1, -1, -1)


def slopes(view: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of an affine view of places: the source's (x, y) by a step right, down, and at the centre."""
    inside = 100 * view[:2][INSIDE]
    right = inside.diff(dim=2).mean(dim=(1, 2))
    down = inside.diff(dim=1).mean(dim=(1, 2))
    return right, down, inside.mean(dim=(1, 2))


def mean_hsv(image: Tensor) -> Tensor:
    """Of each pixel by its own formula: (H W, 3)."""
    pixels = image.flatten(1).t().tolist()
    return torch.tensor([colorsys.rgb_to_hsv(*pixel) for pixel in pixels])


def same(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(a, b, atol=tolerance, rtol=0)


# What is seen in a view of an image to which the augmentation was applied.


def box(image: Tensor, view: Tensor, told: Values) -> None:
    # A flipped crop runs the other way; a resized one has the ends of its box at its ends.
    for channel, axis, first, length in ((1, 1, "top", "height"), (0, 2, "left", "width")):
        along = 100 * view[channel].mean(dim=2 - axis).flatten()
        low, high = along.min().item(), along.max().item()
        assert told[f"crop {first}"] == pytest.approx(low, abs=0.02)
        assert told[f"crop {length}"] == pytest.approx(high - low + 1, abs=0.02)


def turned(image: Tensor, view: Tensor, told: Values) -> None:
    (right_x, right_y), _, _ = slopes(view)
    angle = torch.rad2deg(torch.atan2(right_y, right_x)).item()
    expected = told.get("rotation")
    if expected is None:
        expected = np.degrees(np.arctan2(told["rotation sine"], told["rotation cosine"]))
    assert (angle - expected + 180) % 360 - 180 == pytest.approx(0, abs=0.2)
    # Counter-clockwise, as torchvision's.
    torchvisions = F.rotate(image, expected, v2.InterpolationMode.BILINEAR)
    same(view[INSIDE], torchvisions[INSIDE], 0.003)


def quarter(image: Tensor, view: Tensor, told: Values) -> None:
    turned(image, view, told)
    angle = np.degrees(np.arctan2(told["rotation sine"], told["rotation cosine"]))
    assert round(angle) % 90 == 0


def shifted(image: Tensor, view: Tensor, told: Values) -> None:
    moved = slopes(image)[2] - slopes(view)[2]
    same(moved, torch.tensor([told["shift x"], told["shift y"]]), 0.02)


def affine(image: Tensor, view: Tensor, told: Values) -> None:
    """By torchvision's own, whose angles and shears have the same signs."""
    angle = told.get("rotation", 0.0)
    if "rotation sine" in told:
        angle = np.degrees(np.arctan2(told["rotation sine"], told["rotation cosine"]))
    shear = [told.get(f"shear {axis}", 0.0) for axis in "xy"]
    shape = angle, [0, 0], told.get("scale", 1.0), shear
    expected = F.affine(image, *shape, interpolation=v2.InterpolationMode.BILINEAR)
    for ours, its in zip(slopes(view)[:2], slopes(expected)[:2], strict=True):
        same(ours, its, 1e-3)
    if shear == [0.0, 0.0]:
        shifts = [told.get(f"shift {axis}", 0.0) for axis in "xy"]
        step = torch.stack(slopes(view)[:2], dim=1) @ torch.tensor(shifts)
        same(slopes(view)[2], slopes(expected)[2] - step, 0.02)


def scaled(image: Tensor, view: Tensor, told: Values) -> None:
    right, down, _ = slopes(view)
    assert told["scale x"] == pytest.approx(1 / right[0].item(), abs=0.01)
    assert told["scale y"] == pytest.approx(1 / down[1].item(), abs=0.01)


def perspective(image: Tensor, view: Tensor, told: Values) -> None:
    corners = [[0, 0], [WIDTH - 1, 0], [WIDTH - 1, HEIGHT - 1], [0, HEIGHT - 1]]
    moved = torch.tensor(list(told.values())).view(4, 2)
    ends = (torch.tensor(corners) + moved).tolist()
    expected = F.perspective(image, corners, ends, v2.InterpolationMode.BILINEAR)
    same(view[INSIDE], expected[INSIDE], 0.005)


def erased(image: Tensor, view: Tensor, told: Values) -> None:
    gone = (view == 0).all(dim=0)
    rows, columns = (gone.any(dim=axis).nonzero().flatten() for axis in (1, 0))
    assert told["erased top"] == rows[0]
    assert told["erased left"] == columns[0]
    assert told["erased height"] == len(rows)
    assert told["erased width"] == len(columns)


def added(image: Tensor, view: Tensor, told: Values) -> None:
    same(view - image, torch.full_like(image, told["brightness"] - 1))


def multiplied(name: str) -> Callable[[Tensor, Tensor, Values], None]:
    return lambda image, view, told: same(view / image, torch.full_like(image, told[name]))


def saturated(image: Tensor, view: Tensor, told: Values) -> None:
    before, after = mean_hsv(image), mean_hsv(view)
    same(after[:, 1], (told["saturation"] * before[:, 1]).clamp(0, 1))


def blended_with_gray(image: Tensor, view: Tensor, told: Values) -> None:
    same(view, F.adjust_saturation(image, told["saturation"]).clamp(0, 1), 2e-3)


def hue(image: Tensor, view: Tensor, told: Values) -> None:
    before, after = mean_hsv(image), mean_hsv(view)
    colorful = before[:, 1] > 0.05
    turns = (after - before)[colorful, 0] - told["hue"]
    same((turns + 0.5) % 1 - 0.5, torch.zeros_like(turns), 1e-3)


def gamma(image: Tensor, view: Tensor, told: Values) -> None:
    same(view, (told["gain"] * image ** told["gamma"]).clamp(0, 1))


def channels(image: Tensor, view: Tensor, told: Values) -> None:
    shifts = torch.tensor([told[f"{color} shift"] for color in ("red", "green", "blue")])
    same(view, (image + shifts.view(3, 1, 1)).clamp(0, 1))


def posterized(image: Tensor, view: Tensor, told: Values) -> None:
    levels = (255 * view).round().int()
    step = 2 ** (8 - int(told["posterize"]))
    assert (levels % step == 0).all()
    assert ((255 * image).int() - levels).abs().max() <= step


def solarized(image: Tensor, view: Tensor, told: Values) -> None:
    brighter = (image + told["solarize addition"]).clamp(0, 1)
    expected = torch.where(brighter < told["solarize threshold"], brighter, 1 - brighter)
    same(view, expected)


def sharpened(image: Tensor, view: Tensor, told: Values) -> None:
    same(view[INSIDE], F.adjust_sharpness(image, told["sharpness"])[INSIDE], 1e-3)


def blurred(image: Tensor, view: Tensor, told: Values) -> None:
    same(view, F.gaussian_blur(image, [5, 5], [told["blur sigma"]] * 2), 1e-3)


def jpeg(image: Tensor, view: Tensor, told: Values) -> None:
    quality = torch.tensor([told["JPEG quality"]])
    same(view, kornia.enhance.jpeg_codec_differentiable(image[None], quality)[0])


def flagged(name: str, expected: Callable[[Tensor], Tensor]) -> Any:
    def seen(image: Tensor, view: Tensor, told: Values) -> None:
        assert told == {name: 1.0}
        same(view, expected(image), 1e-3)

    return seen


def gray(image: Tensor) -> Tensor:
    return F.rgb_to_grayscale(image, 3)


P = {"p": 0.6}
COLORS = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0}
# Of each augmentation: made so that it is read; which numbers it has; how they are seen in a view.
OPERATIONS: dict[str, list[tuple[Callable[[], Any], list[str], Any, bool]]] = {
    "ColorJiggle": [
        (lambda: K.ColorJiggle(brightness=0.2, **P), ["brightness"], added, False),
        (lambda: K.ColorJiggle(contrast=0.2, **P), ["contrast"], multiplied("contrast"), False),
        (lambda: K.ColorJiggle(saturation=0.3, **P), ["saturation"], saturated, False),
        (lambda: K.ColorJiggle(hue=0.2, **P), ["hue"], hue, False),
        (lambda: K.ColorJiggle(0.2, 0.2, 0.2, 0.2, order=[3], **P), ["hue"], hue, False),
        (lambda: K.ColorJiggle(0.2, 0.2, 0.2, 0.2), list(COLORS), None, False),
    ],
    "ColorJitter": [
        (lambda: K.ColorJitter(0.2, **P), ["brightness"], multiplied("brightness"), False),
        (lambda: K.ColorJitter(saturation=0.3, **P), ["saturation"], blended_with_gray, False),
        (lambda: K.ColorJitter(hue=(0.1, 0.2), **P), ["hue"], hue, False),
        (lambda: K.ColorJitter(0.2, 0.2, 0.2, 0.2), list(COLORS), None, False),
    ],
    "RandomAffine": [
        (lambda: K.RandomAffine(30.0, **P), ["rotation"], affine, True),
        (lambda: K.RandomAffine(360.0, **P), ["rotation sine", "rotation cosine"], affine, True),
        (
            lambda: K.RandomAffine(0.0, translate=(0.1, 0.2), **P),
            ["shift x", "shift y"], affine, True,
        ),
        (lambda: K.RandomAffine(0.0, scale=(0.8, 1.3), **P), ["scale"], affine, True),
        (
            lambda: K.RandomAffine(0.0, scale=(0.8, 1.3, 0.9, 1.2), **P),
            ["scale x", "scale y"], scaled, True,
        ),
        (
            lambda: K.RandomAffine(0.0, shear=(-20, 20, -1, 1), **P),
            ["shear x", "shear y"], affine, True,
        ),
        (
            lambda: K.RandomAffine(9.0, (0.1, 0.1), (0.9, 1.1), 5.0),
            ["rotation", "shift x", "shift y", "scale", "shear x"], affine, True,
        ),
    ],
    "RandomAutoContrast": [
        (
            lambda: K.RandomAutoContrast(**P),
            ["autocontrast"], flagged("autocontrast", F.autocontrast), False,
        )
    ],
    "RandomBoxBlur": [
        (
            lambda: K.RandomBoxBlur((3, 3), normalized=True, **P), ["box blur"],
            flagged("box blur", lambda x: kornia.filters.box_blur(x[None], (3, 3))[0]), False,
        )
    ],
    "RandomBrightness": [
        (lambda: K.RandomBrightness((0.8, 1.2), **P), ["brightness"], added, False)
    ],
    "RandomContrast": [
        (
            lambda: K.RandomContrast((0.8, 1.2), **P),
            ["contrast"], multiplied("contrast"), False,
        )
    ],
    "RandomCrop": [
        (
            lambda: K.RandomCrop((12, 14)),
            [f"crop {s}" for s in ("top", "left", "height", "width")], box, True,
        )
    ],
    "RandomEqualize": [(lambda: K.RandomEqualize(**P), ["equalize"], None, False)],
    "RandomErasing": [
        (
            lambda: K.RandomErasing(**P),
            [f"erased {s}" for s in ("top", "left", "height", "width")], erased, False,
        )
    ],
    "RandomGamma": [
        (lambda: K.RandomGamma((0.7, 1.4), (0.8, 1.2), **P), ["gamma", "gain"], gamma, False)
    ],
    "RandomGaussianBlur": [
        (lambda: K.RandomGaussianBlur((5, 5), (0.5, 2.0), **P), ["blur sigma"], blurred, False)
    ],
    "RandomGrayscale": [
        (lambda: K.RandomGrayscale(**P), ["grayscale"], flagged("grayscale", gray), False)
    ],
    "RandomHorizontalFlip": [
        (lambda: K.RandomHorizontalFlip(**P), ["flip"], flagged("flip", F.hflip), True)
    ],
    "RandomHue": [(lambda: K.RandomHue((-0.3, 0.3), **P), ["hue"], hue, False)],
    "RandomInvert": [
        (lambda: K.RandomInvert(**P), ["invert"], flagged("invert", lambda x: 1 - x), False)
    ],
    "RandomJPEG": [(lambda: K.RandomJPEG((10.0, 60.0), **P), ["JPEG quality"], jpeg, False)],
    "RandomMedianBlur": [
        (
            lambda: K.RandomMedianBlur((3, 3), **P), ["median blur"],
            flagged("median blur", lambda x: kornia.filters.median_blur(x[None], (3, 3))[0]), False,
        )
    ],
    "RandomPerspective": [
        (
            lambda: K.RandomPerspective(0.3, **P),
            [
                f"{corner} corner {axis}"
                for corner in ("top-left", "top-right", "bottom-right", "bottom-left")
                for axis in "xy"
            ],
            perspective, True,
        )
    ],
    "RandomPosterize": [(lambda: K.RandomPosterize((2, 5), **P), ["posterize"], posterized, False)],
    "RandomRGBShift": [
        (
            lambda: K.RandomRGBShift(0.1, 0.2, 0.1, **P),
            ["red shift", "green shift", "blue shift"], channels, False,
        )
    ],
    "RandomResizedCrop": [
        (
            lambda: K.RandomResizedCrop((12, 14), (0.2, 0.9)),
            [f"crop {s}" for s in ("top", "left", "height", "width")], box, True,
        )
    ],
    "RandomRotation": [
        (lambda: K.RandomRotation(40.0, **P), ["rotation"], turned, True),
        (lambda: K.RandomRotation(180.0, **P), ["rotation sine", "rotation cosine"], turned, True),
    ],
    "RandomRotation90": [
        (lambda: K.RandomRotation90((0, 3), **P), ["rotation sine", "rotation cosine"],
         quarter, True),
        (lambda: K.RandomRotation90((-1, 1), **P), ["rotation"], turned, True),
    ],
    "RandomSaturation": [
        (lambda: K.RandomSaturation((0.6, 1.4), **P), ["saturation"], saturated, False)
    ],
    "RandomSharpness": [
        (lambda: K.RandomSharpness((0.0, 2.0), **P), ["sharpness"], sharpened, False)
    ],
    "RandomShear": [
        (lambda: K.RandomShear((-20, 20, -1, 1), **P), ["shear x", "shear y"], affine, True)
    ],
    "RandomSolarize": [
        (
            lambda: K.RandomSolarize((0.4, 0.6), (-0.1, 0.1), **P),
            ["solarize threshold", "solarize addition"], solarized, False,
        )
    ],
    "RandomTranslate": [
        (
            lambda: K.RandomTranslate((-0.1, 0.1), (-0.2, 0.2), **P),
            ["shift x", "shift y"], shifted, True,
        )
    ],
    "RandomVerticalFlip": [
        (
            lambda: K.RandomVerticalFlip(**P),
            ["vertical flip"], flagged("vertical flip", F.vflip), True,
        )
    ],
}  # fmt: skip
CASES = [(name, i) for name, made in OPERATIONS.items() for i in range(len(made))]


def test_all_that_is_known_is_tried() -> None:
    drawing = {name for name, known in tree.KNOWN.items() if not known.fixed}
    assert drawing == set(OPERATIONS)


@pytest.mark.parametrize(("name", "case"), CASES)
def test_what_is_recorded_is_seen_in_the_views(name: str, case: int) -> None:
    make, names, seen, geometric = OPERATIONS[name][case]
    augmentation = K.AugmentationSequential(make())
    transform = star_kornia.RecordedTransform(augmentation, 1)
    assert [p.name for p in transform.parameters] == names
    images = places() if geometric else pictures()
    neutral = [{"image height": HEIGHT, "image width": WIDTH}.get(p.neutral, p.neutral)
               for p in transform.parameters]  # fmt: skip
    applied = 0
    for seed in range(2):
        seed_all(seed)
        expected = augmentation(images)
        after = states()
        seed_all(seed)
        (view,), (params,) = transform(images)[1:]
        assert states() == after
        assert torch.equal(view, expected)
        seed_all(seed)
        record = transform.sample(images)
        assert torch.equal(transform.apply(images, record), view)
        assert torch.equal(record.vector(), params)
        for image, its, numbers in zip(images, view, params.tolist(), strict=True):
            if image.shape == its.shape and torch.equal(image, its):
                if name != "RandomRotation90":  # a turn by nothing is one
                    assert numbers == neutral
                continue
            applied += 1
            if seen is not None:
                seen(image, its, dict(zip(names, numbers, strict=True)))
    assert 4 < applied <= 20


FIXED = {
    "CenterCrop": lambda: K.CenterCrop(16),
    "Denormalize": lambda: K.Denormalize(torch.zeros(3), torch.ones(3) / 2),
    "LongestMaxSize": lambda: K.LongestMaxSize(20),
    "Normalize": lambda: K.Normalize(torch.zeros(3), torch.ones(3) / 2),
    "PadTo": lambda: K.PadTo((30, 34)),
    "Resize": lambda: K.Resize((20, 22)),
    "SmallestMaxSize": lambda: K.SmallestMaxSize(20),
}


@pytest.mark.parametrize("name", FIXED)
def test_what_draws_nothing_has_no_number_and_makes_the_original(name: str) -> None:
    augmentation = K.AugmentationSequential(K.RandomInvert(), FIXED[name]())
    transform = star_kornia.RecordedTransform(augmentation)
    assert [p.name for p in transform.parameters] == ["invert"]
    images = pictures()
    assert torch.equal(transform.original(images), FIXED[name]()(images))
    views = transform(images)
    assert views.views[0].shape == views.original.shape
    assert {known for known, entry in tree.KNOWN.items() if entry.fixed} == set(FIXED)


@pytest.mark.parametrize("name", [n for n in FIXED if n not in ("Normalize", "Denormalize")])
@pytest.mark.parametrize("flips", [False, True])
def test_a_crop_is_in_pixels_of_what_was_given(name: str, flips: bool) -> None:
    """After a resize, a crop, paddings or flips."""
    flipping = [K.RandomHorizontalFlip(p=1.0), K.RandomVerticalFlip(p=0.5)] if flips else []
    steps = [FIXED[name](), *flipping, K.RandomCrop((8, 10))]
    transform = star_kornia.RecordedTransform(K.AugmentationSequential(*steps), 1)
    torch.manual_seed(0)
    (view,), (params,) = transform(places())[1:]
    names = [p.name for p in transform.parameters]
    resized = {
        "LongestMaxSize": (16, 20), "Resize": (20, 22), "SmallestMaxSize": (20, 25),
    }.get(name, (HEIGHT, WIDTH))  # fmt: skip
    for its, numbers in zip(view, params.tolist(), strict=True):
        told = dict(zip(names, numbers, strict=True))
        inside = its[2] > 0.99  # what is padded is black
        for channel, first, length, new, old, pixels in (
            (1, "top", "height", resized[0], HEIGHT, 8),
            (0, "left", "width", resized[1], WIDTH, 10),
        ):
            scale = old / new
            assert told[f"crop {length}"] == pytest.approx(scale * pixels, abs=1e-4)
            # A resized pixel shows the source about its own middle.
            low = 100 * its[channel][inside].min().item()
            expected = (low + 0.5) - scale / 2
            assert told[f"crop {first}"] == pytest.approx(expected, abs=0.6 if scale != 1 else 1e-3)


NEUTRAL = {
    "ColorJiggle": lambda: K.ColorJiggle(p=0.5),
    "ColorJitter": lambda: K.ColorJitter(p=0.5),
    "RandomAffine": lambda: K.RandomAffine((0.0, 0.0), p=0.5),
    "RandomBrightness": lambda: K.RandomBrightness((1.0, 1.0), p=0.5),
    "RandomContrast": lambda: K.RandomContrast((1.0, 1.0), p=0.5),
    "RandomGamma": lambda: K.RandomGamma((1.0, 1.0), (1.0, 1.0), p=0.5),
    "RandomHue": lambda: K.RandomHue((0.0, 0.0), p=0.5),
    "RandomPerspective": lambda: K.RandomPerspective(0.0),
    "RandomRGBShift": lambda: K.RandomRGBShift((0.0, 0.0), (0.0, 0.0), (0.0, 0.0)),
    "RandomRotation": lambda: K.RandomRotation((0.0, 0.0)),
    "RandomSaturation": lambda: K.RandomSaturation((1.0, 1.0), p=0.5),
    "RandomSharpness": lambda: K.RandomSharpness((1.0, 1.0)),
    "RandomShear": lambda: K.RandomShear((0.0, 0.0)),
    "RandomTranslate": lambda: K.RandomTranslate((0.0, 0.0), (0.0, 0.0)),
}


@pytest.mark.parametrize("name", NEUTRAL)
def test_neutral_values_change_nothing_and_have_no_number(name: str) -> None:
    augmentation = K.AugmentationSequential(NEUTRAL[name]())
    images = pictures()
    same(augmentation(images), images, 0.003)
    with pytest.raises(ValueError, match="expected something random to record"):
        star_kornia.RecordedTransform(augmentation)


@pytest.mark.parametrize("name", sorted(tree.KNOWN))
def test_what_is_never_applied_has_no_number(name: str) -> None:
    make = OPERATIONS[name][0][0] if name in OPERATIONS else FIXED[name]
    made = make()
    made.p = 0.0
    augmentation = K.AugmentationSequential(made, K.RandomInvert())
    transform = star_kornia.RecordedTransform(augmentation)
    assert [p.name for p in transform.parameters] == ["invert"]


UNTOLD = [
    "RandomChannelDropout", "RandomChannelShuffle", "RandomClahe", "RandomElasticTransform",
    "RandomGaussianIllumination", "RandomGaussianNoise", "RandomLinearCornerIllumination",
    "RandomLinearIllumination", "RandomPlasmaBrightness", "RandomPlasmaContrast",
    "RandomPlasmaShadow", "RandomSaltAndPepperNoise", "RandomSnow", "RandomThinPlateSpline",
]  # fmt: skip


@pytest.mark.parametrize("name", UNTOLD)
def test_what_is_left_out_replays(name: str) -> None:
    cls = getattr(K, name)
    augmentation = K.AugmentationSequential(K.RandomHorizontalFlip(), cls(p=0.6))
    with pytest.raises(TypeError, match=name):
        star_kornia.RecordedTransform(augmentation)
    transform = star_kornia.RecordedTransform(augmentation, unrecorded=[cls])
    images = F.resize(pictures(4), [64, 64])
    for seed in range(2):
        seed_all(seed)
        expected = [augmentation(images) for _ in range(2)]
        after = states()
        seed_all(seed)
        views = transform(images)
        assert states() == after
        assert all(map(torch.equal, views.views, expected))
        record = transform.sample(images)
        assert torch.equal(transform.apply(images, record), transform.apply(images, record))
