"""Every known operation: drawn as it draws, and the numbers read again from what it made."""

import colorsys
import io
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from lightly.transforms import (
    GaussianBlur,
    IRFFT2DTransform,
    PhaseShiftTransform,
    RandomRotate,
    RandomSolarization,
    RFFT2DTransform,
)
from lightly.transforms.rotation import RandomRotateDegrees
from lightly.transforms.torchvision_v2_compatibility import ToTensor as LightlysToTensor
from PIL import Image
from same_draws import check_same, picture
from torch import Tensor
from torchvision import transforms as v1
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from star_head.adapters._recorded import own as known_of_lightly
from star_head.adapters._recorded import v1 as known_of_v1
from star_head.adapters._recorded import v2 as known_of_v2
from star_head.adapters.torchvision import RecordedTransform

BILINEAR = v2.InterpolationMode.BILINEAR
BOTH: dict[str, list[dict[str, Any]]] = {
    "ColorJitter": [
        {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1},
        {"contrast": (1.5, 1.5), "hue": 0.5},
    ],
    "GaussianBlur": [{"kernel_size": 5}, {"kernel_size": (3, 7), "sigma": (0.5, 4.0)}],
    "RandomAdjustSharpness": [{"sharpness_factor": 2.0}],
    "RandomAffine": [
        {"degrees": 20},
        {"degrees": 0, "translate": (0.2, 0.0)},
        {"degrees": 180, "translate": (0.1, 0.3), "scale": (0.5, 2), "shear": 10, "fill": 7},
        {"degrees": 0, "shear": (-5, 5, 0, 9), "interpolation": BILINEAR, "center": [3, 4]},
    ],
    "RandomAutocontrast": [{}],
    "RandomCrop": [
        {"size": 20},
        {"size": 20, "padding": 4},
        {"size": (20, 17), "padding": (1, 2), "padding_mode": "reflect"},
        {"size": (24, 33), "padding": (1, 2, 3, 4), "fill": 9},
        {"size": 50, "pad_if_needed": True},
        {"size": (24, 30)},
    ],
    "RandomEqualize": [{}],
    "RandomErasing": [
        {},
        {"value": "random", "p": 1.0},
        {"value": (1, 2, 3), "scale": (0.1, 0.5)},
        {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "p": 1.0},
    ],
    "RandomGrayscale": [{"p": 0.5}],
    "RandomHorizontalFlip": [{}],
    "RandomInvert": [{}],
    "RandomPerspective": [{}, {"distortion_scale": 1.0, "fill": 3}, {"distortion_scale": 0.1}],
    "RandomPosterize": [{"bits": 2}],
    "RandomResizedCrop": [
        {"size": 16},
        {"size": (12, 20), "scale": (0.5, 1.0), "interpolation": v2.InterpolationMode.BICUBIC},
        {"size": 16, "scale": (0.9, 1.0), "ratio": (3.0, 4.0)},
    ],
    "RandomRotation": [
        {"degrees": 30},
        {"degrees": 180, "interpolation": BILINEAR, "fill": 5},
        {"degrees": (10, 60), "expand": True},
        {"degrees": 20, "center": (2, 3), "fill": (1, 2, 3)},
    ],
    "RandomSolarize": [{"threshold": 100}],
    "RandomVerticalFlip": [{}],
}
ONLY_V2: dict[str, list[dict[str, Any]]] = {
    "JPEG": [{"quality": (5, 95)}],
    "RandomResize": [{"min_size": 12, "max_size": 40}],
    "RandomShortestSize": [{"min_size": [12, 16, 20]}, {"min_size": [20, 30], "max_size": 32}],
    "RandomZoomOut": [{}],
    "ScaleJitter": [{"target_size": (20, 20), "scale_range": (0.4, 2.0)}],
}
FIXED: dict[str, list[dict[str, Any]]] = {
    "CenterCrop": [{"size": 15}, {"size": (50, 10)}],
    "ConvertImageDtype": [{"dtype": torch.float64}],
    "Grayscale": [{}, {"num_output_channels": 3}],
    "LinearTransformation": [
        {"transformation_matrix": torch.rand(48, 48), "mean_vector": torch.rand(48)}
    ],
    "Normalize": [{"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]}],
    "PILToTensor": [{}],
    "Pad": [{"padding": 3}, {"padding": (1, 2)}, {"padding": (1, 2, 3, 4), "fill": 8}],
    "Resize": [{"size": 15}, {"size": 15, "max_size": 16}, {"size": (9, 20)}],
    "ToPILImage": [{}],
    "ToTensor": [{}],
}
ONLY_V2_FIXED: dict[str, list[dict[str, Any]]] = {
    "Identity": [{}],
    "RGB": [{}],
    "Resize": [{"size": None, "max_size": 20}],
    "ToDtype": [{"dtype": torch.float32, "scale": True}],
    "ToImage": [{}],
    "ToPureTensor": [{}],
}
OWN: list[Any] = [
    GaussianBlur(),
    GaussianBlur(prob=1.0, sigmas=(1.0, 1.5)),
    GaussianBlur(prob=0.5, sigmas=(2.0, 2.0)),
    RandomRotate(),
    RandomRotateDegrees(0.5, 30),
    RandomRotateDegrees(1.0, 180),
    RandomSolarization(),
    LightlysToTensor(),
    v2.Compose(
        [v2.ToImage(), v2.ToDtype(torch.float32), RFFT2DTransform(),
         v2.RandomApply([PhaseShiftTransform(include_negatives=True)], p=0.7),
         IRFFT2DTransform((24, 30))]
    ),
]  # fmt: skip
CASES = [
    *(
        (f"{where}.{name}-{i}", getattr(module, name), options)
        for where, module, tables in (
            ("v1", v1, (BOTH, FIXED)),
            ("v2", v2, (BOTH, ONLY_V2, FIXED, ONLY_V2_FIXED)),
        )
        for table in tables
        for name, several in table.items()
        for i, options in enumerate(several)
    ),
    *((f"lightly.{type(op).__name__}-{i}", lambda op=op: op, {}) for i, op in enumerate(OWN)),
]
NO_PIL = ("Normalize", "LinearTransformation", "ConvertImageDtype", "ToPILImage", "ToDtype")
NO_TENSOR = ("RandomSolarization", "v1.ToTensor", "PILToTensor")


def test_every_known_operation_is_tried() -> None:
    assert known_of_v1.KNOWN.keys() == {*BOTH, *FIXED, *V2_NAMES}
    assert known_of_v2.KNOWN.keys() == {*BOTH, *ONLY_V2, *FIXED, *ONLY_V2_FIXED}
    assert known_of_lightly.KNOWN.keys() == {
        "GaussianBlur", "IRFFT2DTransform", "PhaseShiftTransform", "RFFT2DTransform",
        "RandomResizedCropAndFlip", "RandomRotate", "RandomSolarization",
    }  # fmt: skip


# Of the second generation alone; that the first has their names too does no harm.
V2_NAMES = set(ONLY_V2_FIXED) - {"Resize"}


def takes(case: str, kind: str) -> bool:
    """Whether an operation takes images of a kind at all."""
    name = case.partition("-")[0]
    refused = {
        "PIL": (*NO_PIL, "v1.RandomErasing"),
        "uint8": (*NO_TENSOR, "Normalize", "LinearTransformation"),
        "float": (*NO_TENSOR, "JPEG", "RandomPosterize", "RandomEqualize"),
    }
    return not name.endswith(refused[kind])


GRID = [
    (*case, kind) for case in CASES for kind in ("PIL", "uint8", "float") if takes(case[0], kind)
]


@pytest.mark.filterwarnings("ignore:The transform `ToTensor:UserWarning")
@pytest.mark.parametrize(
    ("case", "cls", "options", "kind"), GRID, ids=[f"{one[0]}-{one[3]}" for one in GRID]
)
def test_draws_what_it_draws(
    case: str, cls: Callable[..., Any], options: dict[str, Any], kind: str
) -> None:
    operation = cls(**options)
    name = case.partition("-")[0]
    if kind == "float" and "RandomSolarize" in name:
        operation.threshold = 0.4
    size = (4, 4) if name.endswith("LinearTransformation") else (24, 30)
    image: Any = picture(*size)
    if kind != "PIL":
        image = F.pil_to_tensor(image)
    if kind == "float":
        image = (image / 255).contiguous()
    steps = [operation, v2.RandomVerticalFlip(), v2.ToImage(), v2.RandomCrop(4)]
    recorded = RecordedTransform(v2.Compose(steps), 1)
    for seed in range(4):
        check_same(recorded, image, seed)
    maybe = v2.Compose(
        [v2.RandomApply([operation], p=0.6), v2.RandomHorizontalFlip(), v2.ToImage()]
    )
    for seed in range(3):
        check_same(RecordedTransform(maybe, 1), image, seed)


# Numbers that are found again in what was made.


def ramps(height: int = 48, width: int = 64) -> Tensor:
    """A float image whose pixels say where they lie: row, column."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows, columns, 0 * rows]).float()


def values_of(recorded: RecordedTransform, params: Tensor) -> dict[str, float]:
    return {p.name: v for p, v in zip(recorded.parameters, params.tolist(), strict=True)}


def made(*steps: Any, image: Any = None, seed: int = 0) -> tuple[Tensor, dict[str, float]]:
    recorded = RecordedTransform(v2.Compose(steps), 1)
    torch.manual_seed(seed)
    views = recorded(ramps() if image is None else image)
    return views.views[0], values_of(recorded, views.params[0])


def crop_values(values: dict[str, float]) -> list[float]:
    return [values[f"crop {side}"] for side in ("top", "left", "height", "width")]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("module", [v1, v2])
def test_a_crop_of_known_pixels(module: Any, seed: int) -> None:
    view, values = made(module.RandomCrop((20, 30)), image=ramps(), seed=seed)
    assert crop_values(values) == [view[0, 0, 0], view[1, 0, 0], 20, 30]
    view, values = made(module.RandomCrop(20, padding=(3, 5)), seed=seed)
    inside = view[:2, 6:-6, 6:-6]
    assert crop_values(values)[:2] == [inside[0, 0, 0] - 6, inside[1, 0, 0] - 6]
    # After a mirror image: where it lies in the source.
    flips = [module.RandomHorizontalFlip(1.0), module.RandomVerticalFlip(1.0)]
    view, values = made(*flips, module.RandomCrop((20, 30)), seed=seed)
    assert crop_values(values) == [view[0].min(), view[1].min(), 20, 30]
    # After a change of size: in pixels of the source.
    view, values = made(module.Resize((96, 32)), module.RandomCrop((20, 12)), seed=seed)
    top, left, height, width = crop_values(values)
    assert (height, width) == (10, 24)
    assert view[0].mean() == pytest.approx(top + height / 2 - 0.5, abs=0.1)
    assert view[1].mean() == pytest.approx(left + width / 2 - 0.5, abs=0.1)
    view, values = made(module.RandomResizedCrop(32, scale=(0.3, 1)), seed=seed)
    top, left, height, width = crop_values(values)
    assert view[0].mean() == pytest.approx(top + height / 2 - 0.5, abs=0.1)
    assert view[1].mean() == pytest.approx(left + width / 2 - 0.5, abs=0.1)
    # After padding, and after the centre alone.
    view, values = made(module.CenterCrop(30), module.RandomCrop(20), seed=seed)
    assert crop_values(values)[:2] == [view[0, 0, 0], view[1, 0, 0]]
    view, values = made(module.Pad((4, 2)), module.RandomCrop((40, 60)), seed=seed)
    assert crop_values(values)[:2] == [view[0, 9, 9] - 9, view[1, 9, 9] - 9]


def gradients(view: Tensor) -> Tensor:
    """By how much row and column of the source change per row and column of the view's centre."""
    _, height, width = view.shape
    middle = view[:2, height // 2 - 4 : height // 2 + 4, width // 2 - 4 : width // 2 + 4]
    down = (middle[:, -1] - middle[:, 0]).mean(-1) / 7
    right = (middle[:, :, -1] - middle[:, :, 0]).mean(-1) / 7
    return torch.stack([down, right], dim=1)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("module", [v1, v2])
def test_an_angle_is_found_again(module: Any, seed: int) -> None:
    view, values = made(module.RandomRotation(40, interpolation=BILINEAR), seed=seed)
    (_, across), (down, along) = gradients(view)
    # Counter-clockwise: going right in the view is going down in the source.
    assert values["rotation"] == pytest.approx(-math.degrees(math.atan2(down, along)), abs=0.5)
    assert across.item() == pytest.approx(-down.item(), abs=0.02)
    view, values = made(module.RandomRotation(180, interpolation=BILINEAR), seed=seed)
    _, (down, along) = gradients(view)
    assert "rotation" not in values
    assert values["rotation sine"] == pytest.approx(-down.item(), abs=0.02)
    assert values["rotation cosine"] == pytest.approx(along.item(), abs=0.02)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("module", [v1, v2])
def test_an_affine_map_is_found_again(module: Any, seed: int) -> None:
    shift = module.RandomAffine(0, translate=(0.2, 0.2))
    view, values = made(shift, seed=seed)
    assert values.keys() == {"shift x", "shift y"}
    row, column, _ = view[:, 24, 32].tolist()
    assert (values["shift y"], values["shift x"]) == (24 - row, 32 - column)
    scale = module.RandomAffine(0, scale=(0.7, 2.0), interpolation=BILINEAR)
    view, values = made(scale, seed=seed)
    assert values["scale"] == pytest.approx(1 / gradients(view)[0, 0].item(), rel=0.02)
    shear = module.RandomAffine(0, shear=(-20, 20), interpolation=BILINEAR)
    view, values = made(shear, seed=seed)
    assert values.keys() == {"shear x"}
    slope = gradients(view)[1, 0]
    assert abs(values["shear x"]) == pytest.approx(abs(math.degrees(math.atan(slope))), abs=0.5)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("module", [v1, v2])
def test_corners_are_found_again(module: Any, seed: int) -> None:
    image = ramps()
    view, values = made(module.RandomPerspective(p=1.0), image=image, seed=seed)
    start = [[0, 0], [63, 0], [63, 47], [0, 47]]
    moved = np.array(list(values.values())).reshape(4, 2)
    assert list(values)[:2] == ["top-left corner x", "top-left corner y"]
    end = (np.array(start) + moved).astype(int).tolist()
    torch.testing.assert_close(view, F.perspective(image, start, end, fill=[0.0] * 3))
    assert abs(moved).max() > 0


def solid(red: int, green: int, blue: int) -> Image.Image:
    return Image.new("RGB", (8, 8), (red, green, blue))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("module", [v1, v2])
def test_colours_are_found_again(module: Any, seed: int) -> None:
    image = solid(200, 80, 60)
    view, values = made(module.ColorJitter(hue=0.4), v2.ToImage(), image=image, seed=seed)
    shifted = colorsys.rgb_to_hsv(*(view[:, 0, 0] / 255).tolist())[0]
    turned = shifted - colorsys.rgb_to_hsv(200, 80, 60)[0]
    assert (turned - values["hue"] + 0.5) % 1 - 0.5 == pytest.approx(0, abs=0.01)
    view, values = made(
        module.ColorJitter(brightness=0.3), v2.ToImage(), image=solid(90, 90, 90), seed=seed
    )
    assert values == {"brightness": pytest.approx(view[0, 0, 0].item() / 90, abs=0.01)}
    gray = 0.299 * 200 + 0.587 * 80 + 0.114 * 60
    view, values = made(module.ColorJitter(saturation=0.4), v2.ToImage(), image=image, seed=seed)
    saturation = (80 - gray) * values["saturation"] + gray
    assert view[1, 0, 0].item() == pytest.approx(saturation, abs=1.5)
    spread = ramps() / 64
    view, values = made(module.ColorJitter(contrast=0.3), image=spread / 2 + 0.2, seed=seed)
    assert values["contrast"] == pytest.approx(2 * (view.std() / spread.std()).item(), rel=0.01)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("module", [v1, v2])
def test_a_blur_is_found_again(module: Any, seed: int) -> None:
    point = torch.zeros(1, 41, 41)
    point[0, 20, 20] = 1
    view, values = made(module.GaussianBlur(39, (0.8, 4.0)), image=point, seed=seed)
    place = torch.arange(41.0) - 20
    variance = (view[0].sum(0) * place.square()).sum().item()
    assert values["blur sigma"] == pytest.approx(variance**0.5, rel=0.02)


@pytest.mark.parametrize("seed", range(4))
def test_boxes_and_sizes_are_found_again(seed: int) -> None:
    for module in (v1, v2):
        view, values = made(module.RandomErasing(p=1.0, value=-5), seed=seed)
        rows, columns = (view[0] == -5).nonzero(as_tuple=True)
        box = [rows.min(), columns.min(), len(rows.unique()), len(columns.unique())]
        assert list(values.values()) == box
    view, values = made(v2.RandomZoomOut(fill=-1, p=1.0), seed=seed)
    rows, columns = (view[0] >= 0).nonzero(as_tuple=True)
    assert values["padding top"] == rows.min()
    assert values["padding left"] == columns.min()
    assert values["padding bottom"] == view.shape[1] - 1 - rows.max()
    assert values["padding right"] == view.shape[2] - 1 - columns.max()
    for resize in (
        v2.RandomResize(20, 60),
        v2.ScaleJitter((40, 40)),
        v2.RandomShortestSize([20, 70]),
    ):
        view, values = made(resize, seed=seed)
        assert values == {"resize": pytest.approx(view.shape[1] / 48)}
    image = F.pil_to_tensor(picture(48, 64))
    view, values = made(v2.JPEG((10, 90)), image=image, seed=seed)
    written = io.BytesIO()
    F.to_pil_image(image).save(written, "JPEG", quality=int(values["JPEG quality"]))
    read = F.pil_to_tensor(Image.open(written))
    assert (view.int() - read.int()).abs().float().mean() < 2


SOMETIMES = {
    "flip": (v2.RandomHorizontalFlip(), 0, 1),
    "vertical flip": (v1.RandomVerticalFlip(), 0, 1),
    "grayscale": (v2.RandomGrayscale(0.5), 0, 1),
    "invert": (v1.RandomInvert(), 0, 1),
    "equalize": (v2.RandomEqualize(), 0, 1),
    "autocontrast": (v1.RandomAutocontrast(), 0, 1),
    "solarize": (v2.RandomSolarize(90), 0, 1),
    "posterize": (v1.RandomPosterize(3), 8, 3),
    "sharpness": (v2.RandomAdjustSharpness(4.0), 1, 4),
    "rotation": (RandomRotate(0.5, 90), 0, 90),
    "blur sigma": (GaussianBlur(prob=0.5, sigmas=(2.0, 2.0)), 0, 2),
    "contrast": (v2.RandomApply([v2.ColorJitter(contrast=(3.0, 3.0))], 0.5), 1, 3),
    "pad": (v1.RandomApply([v1.Pad(2)], 0.5), 0, 1),
    "center crop": (v2.RandomChoice([v2.CenterCrop(9), v2.Identity()]), 0, 1),
}


@pytest.mark.parametrize("name", SOMETIMES)
def test_what_was_not_drawn_changes_nothing(name: str) -> None:
    operation, neutral, applied = SOMETIMES[name]
    recorded = RecordedTransform(v2.Compose([operation, v2.ToImage()]), 1)
    assert [p.name for p in recorded.parameters] == [name]
    image = picture(24, 24)
    met = set()
    for _ in range(30):
        views = recorded(image)
        value = views.params[0].item()
        met.add(value)
        unchanged = torch.equal(views.views[0], F.pil_to_tensor(image))
        assert unchanged == (value == neutral)
    assert met == {neutral, applied}


@pytest.mark.parametrize(
    ("operation", "names"),
    [
        (v2.RandomHorizontalFlip(0.0), []),
        (v2.RandomHorizontalFlip(1.0), []),
        (v2.ColorJitter(), []),
        (v2.ColorJitter(hue=(0.2, 0.2), contrast=0.1), ["contrast"]),
        (v2.GaussianBlur(3, 1.0), []),
        (v1.GaussianBlur(3, (1.0, 1.0)), []),
        (v2.RandomRotation((20, 20)), []),
        (v2.RandomAffine(0), []),
        (v2.RandomAffine((9, 9), scale=(1.0, 2.0)), ["scale"]),
        (v2.RandomApply([v2.ColorJitter(hue=(0.2, 0.2))], p=0.5), ["hue"]),
        (v2.RandomApply([v2.ColorJitter(hue=(0.2, 0.2))], p=1.0), []),
        (v2.RandomApply([v2.ColorJitter(hue=0.2)], p=0.0), []),
        (v1.RandomApply([v1.RandomVerticalFlip(1.0)], p=0.5), ["vertical flip"]),
        (v2.RandomChoice([v2.RandomInvert(1.0), v2.Grayscale(3)], [1, 0]), []),
        (v2.RandomChoice([v2.RandomInvert(1.0), v2.Grayscale(3)]), ["invert", "grayscale"]),
        (v1.RandomOrder([v1.RandomInvert(), v1.RandomInvert()]), ["invert", "invert 2"]),
        (v2.RandomRotation((-90, 90)), ["rotation"]),
        (v2.RandomRotation((0, 350)), ["rotation sine", "rotation cosine"]),
        (v2.RandomZoomOut(side_range=(1.0, 1.0)), []),
        (v2.RandomPerspective(0.0), []),
        (v2.JPEG(50), []),
        (RandomRotate(1.0), []),
        (RandomSolarization(1.0), []),
        (GaussianBlur(prob=0.0), []),
        (RandomRotateDegrees(0.0, 30), []),
    ],
    # Without the addresses that lightly's show: every worker must know them by the same names.
    ids=lambda value: re.sub(r" object at 0x\w+", "", str(value)),
)
def test_what_never_varies_has_no_number(operation: Any, names: list[str]) -> None:
    crop = v2.RandomGrayscale()  # something that always has one
    recorded = RecordedTransform([operation, crop])
    found = [p.name for p in recorded.parameters]
    assert found[: len(names)] == names
    assert len(found) == len(names) + 1
