"""RecordedTransform: what it makes of lightly's transforms, of images, of records."""

import inspect
import pickle
from collections.abc import Callable
from typing import Any

import lightly.transforms as lightly_transforms
import numpy as np
import pytest
import torch
from lightly.transforms import (
    AmplitudeRescaleTransform,
    BYOLTransform,
    BYOLView1Transform,
    BYOLView2Transform,
    DINOTransform,
    FDATransform,
    GaussianMixtureMask,
    MAETransform,
    RandomFrequencyMaskTransform,
    SimCLRTransform,
    SimCLRViewTransform,
    SMoGTransform,
    SwaVTransform,
)
from lightly.transforms.ijepa_transform import IJEPATransform
from lightly.transforms.multi_view_transform import MultiViewTransform
from PIL import Image
from same_draws import check_same, picture, seed_all
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms as v1
from torchvision.transforms import v2

from star_head import Parameter, ParameterSpec, STARProjectionHead, estimate_statistics
from star_head.adapters.lightly import STARTransform, STARViewTransform
from star_head.adapters.torchvision import RecordedTransform, register

TO_TENSOR = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
# Made small; all else is lightly's own.
SMALL: dict[str, dict[str, Any]] = {
    "DINOTransform": {"global_crop_size": 32, "local_crop_size": 16},
    "DINOViewTransform": {"crop_size": 32},
    "IBOTTransform": {"global_crop_size": 32, "local_crop_size": 16},
    "IBOTViewTransform": {"crop_size": 32},
    "MMCRTransform": {"k": 4, "input_size": 32},
    "MSNTransform": {"random_size": 32, "focal_size": 16},
    "MSNViewTransform": {"crop_size": 32},
    "PIRLTransform": {"input_size": 33},
    "SMoGTransform": {"crop_sizes": (32, 16)},
    "SmoGViewTransform": {"crop_size": 32},
    "SwaVTransform": {"crop_sizes": (32, 16)},
    "VICRegLTransform": {"global_crop_size": 32, "local_crop_size": 16},
}
# The numbers of views, and of those that are recorded, of transforms that do not make two.
COUNTS = {
    "DINOTransform": (8, 2),
    "FastSiamTransform": (4, 4),
    "IBOTTransform": (12, 2),
    "MMCRTransform": (4, 4),
    "MSNTransform": (12, 2),
    "PIRLTransform": (2, 1),
    "SMoGTransform": (8, 4),
    "SwaVTransform": (8, 2),
    "VICRegLTransform": (16, 2),  # eight views and their grids
}
# Masks beside the image, operations on tensors of frequencies.
ELSEWHERE = {"DetConBTransform", "DetConSTransform", "DetConBView1Transform",
             "DetConBView2Transform", "DetConSViewTransform", "FDATransform",
             "FDAView1Transform", "FDAView2Transform", "AddGridTransform", "IRFFT2DTransform",
             "RFFT2DTransform", "AmplitudeRescaleTransform", "PhaseShiftTransform",
             "RandomFrequencyMaskTransform"}  # fmt: skip
NAMES = [
    *(
        name
        for name, cls in sorted(vars(lightly_transforms).items())
        if name.endswith("Transform") and inspect.isclass(cls) and name not in ELSEWHERE
        and name not in ("MultiViewTransform", "MultiViewTransformV2", "Transform")
    ),
    "IJEPATransform",
]  # fmt: skip


def lightlys(name: str) -> Callable[[Any], Any]:
    cls = IJEPATransform if name == "IJEPATransform" else getattr(lightly_transforms, name)
    options = SMALL.get(name, {})
    if not options and "input_size" in inspect.signature(cls).parameters:
        options = {"input_size": 32}
    return cls(**options)


@pytest.mark.parametrize("name", NAMES)
def test_lightlys_transforms_draw_what_they_draw(name: str) -> None:
    transform = lightlys(name)
    views = transform(picture(40, 50))
    copies = 1 if isinstance(views, list) and len(views) > 1 else 2
    count, recorded_count = COUNTS.get(name, (2, 2))
    recorded = RecordedTransform(transform)
    for seed in range(6):
        views, records = check_same(recorded, picture(40, 50, seed), seed, copies)
        assert (len(views.views), len(records)) == (count, recorded_count)
        assert views.original.shape == views.views[0].shape


def test_the_papers_pipeline_has_the_papers_numbers() -> None:
    ours = RecordedTransform(SimCLRTransform(32, cj_strength=0.5, min_scale=0.2))
    assert [(p.label, p.unit) for p in ours.parameters] == [(p.label, p.unit) for p in Parameter]
    image = picture(40, 50)
    torch.testing.assert_close(ours.original(image), STARTransform(32).original(image))
    # And their distribution is that of STARTransform's.
    mean, std = (torch.tensor(s) for s in estimate_statistics(ours, [(40, 50)], 4000))
    expected = estimate_statistics(STARTransform(32), [(40, 50)], 4000)
    for found, other in ((mean, expected.mean), (std, expected.std)):
        difference = (found - torch.tensor(other)).abs() / torch.tensor(expected.std)
        assert difference.max() < 0.1


def test_views_of_different_pipelines_share_one_vector() -> None:
    transform = BYOLTransform(
        BYOLView1Transform(32, gaussian_blur=1.0), BYOLView2Transform(32, solarization_prob=0.5)
    )
    recorded = RecordedTransform(transform)
    names = [p.name for p in recorded.parameters]
    assert names == [*(p.label for p in Parameter), "solarize"]
    pairs = [recorded(picture(40, 50)).params for _ in range(60)]
    first, second = (torch.stack([pair[i] for pair in pairs]) for i in range(2))
    assert (first[:, -1] == 0).all()
    assert 0.2 < second[:, -1].mean() < 0.8
    blurred = names.index("blur sigma")
    assert (first[:, blurred] > 0).all()
    assert (second[:, blurred] == 0).any()


def test_a_missing_number_stands_where_its_view_has_it() -> None:
    crop, flip, blur = v2.RandomCrop(16), v2.RandomHorizontalFlip(), v2.GaussianBlur(3)
    views = [v2.Compose([flip, TO_TENSOR]), v2.Compose([flip, crop, blur, TO_TENSOR])]
    views[0].transforms.insert(0, v2.CenterCrop(16))
    recorded = RecordedTransform(MultiViewTransform(views))
    names = [p.name for p in recorded.parameters]
    assert names[0] == "flip"
    assert names[-1] == "blur sigma"
    params = recorded(picture(20, 30)).params[0]
    # Without a crop of its own, it has the whole image.
    assert params[1:5].tolist() == [0, 0, 20, 30]


def test_small_crops_follow() -> None:
    for transform in (
        DINOTransform(global_crop_size=32, local_crop_size=16),
        SwaVTransform(crop_sizes=(32, 16)),
        SMoGTransform(crop_sizes=(32, 16)),
    ):
        views = RecordedTransform(transform)(picture(40, 50))
        sizes = [view.shape[-1] for view in views.views]
        assert sizes == [32] * len(views.params) + [16] * (len(sizes) - len(views.params))


def test_what_follows_may_hold_anything() -> None:
    """Only a view that could be recorded must be known."""
    large, small = [v2.Compose([v2.RandomCrop(size), TO_TENSOR]) for size in (16, 8)]
    other, augment = v2.Compose([v2.Lambda(lambda image: image), small]), v2.TrivialAugmentWide()
    transform = MultiViewTransform([large, small, v2.Compose([augment, small]), other])
    for unrecorded in ([], [augment]):
        recorded = RecordedTransform(transform, unrecorded=unrecorded)
        views, records = check_same(recorded, picture(20, 30), 0)
        assert (len(views.views), len(records)) == (4, 1)


def test_copies_of_one_view() -> None:
    transform = SimCLRViewTransform(32)
    for copies in (1, 2, 5):
        views, _ = check_same(RecordedTransform(transform, copies), picture(40, 50), 0, copies)
        assert len(views.views) == copies
    assert len(RecordedTransform(MAETransform(32))(picture(40, 50)).views) == 2


def test_operations_of_frequencies_are_left_unrecorded() -> None:
    options = {"input_size": 32}
    transform = FDATransform(
        lightly_transforms.FDAView1Transform(**options, gmm_num_gaussians=2),
        lightly_transforms.FDAView2Transform(**options, gmm_num_gaussians=2),
    )
    with pytest.raises(TypeError, match="AmplitudeRescaleTransform draws a number for every freq"):
        RecordedTransform(transform)
    untold = [AmplitudeRescaleTransform, RandomFrequencyMaskTransform, GaussianMixtureMask]
    recorded = RecordedTransform(transform, unrecorded=untold)
    assert "phase shift" in [p.name for p in recorded.parameters]
    for seed in range(8):
        check_same(recorded, picture(40, 50), seed)
    assert recorded.sample((40, 50)).vector().shape == (len(recorded.parameters),)


# Images of every kind.


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "CMYK", "P", "I;16", "F", "1"])
def test_pil_modes_go_through_unconverted(mode: str) -> None:
    steps = [v2.RandomCrop(16), v2.RandomHorizontalFlip(), v2.RandomRotation(20), v2.PILToTensor()]
    if mode in ("I;16", "F"):
        pixels = np.random.default_rng(0).integers(0, 5000, (20, 30))
        image = Image.fromarray(pixels.astype(np.uint16 if mode == "I;16" else np.float32))
    else:
        image = picture(20, 30, mode=mode)
    assert image.mode == mode
    check_same(RecordedTransform(v2.Compose(steps), 1), image, 0)


@pytest.mark.parametrize("channels", [1, 2, 4, 13])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32, torch.float64])
def test_tensors_of_any_channels(channels: int, dtype: torch.dtype) -> None:
    image = torch.randint(255, (channels, 20, 30)).to(dtype)
    geometric = [v2.RandomHorizontalFlip(), v2.RandomVerticalFlip(), v2.RandomCrop(16)]
    scaled = [v2.ToDtype(torch.float32, scale=True), v2.RandomErasing(), v2.RandomAffine(20)]
    recorded = RecordedTransform(v2.Compose([*geometric, *scaled]))
    views, _ = check_same(recorded, image, 0, 2)
    assert views.views[0].shape == views.original.shape == (channels, 16, 16)


def test_tensors_that_know_that_they_are_images() -> None:
    image = v2.functional.to_image(picture(20, 30))
    steps = [v2.RandomResizedCrop(16), v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32)]
    views, _ = check_same(RecordedTransform(v2.Compose(steps)), image, 0, 2)
    assert type(views.original) is type(views.views[0]) is type(image)


def test_an_original_is_left_as_the_views_need_it() -> None:
    """An operation in place must not change the image that the views are made of."""
    image = torch.rand(3, 20, 20)
    steps = [v2.Normalize([0.5] * 3, [0.5] * 3, inplace=True), v2.RandomHorizontalFlip()]
    before = image.clone()
    RecordedTransform(v2.Compose(steps)).original(image)
    assert torch.equal(image, before)


# Originals.


def test_the_original_is_what_is_not_random() -> None:
    image = picture(60, 80)
    steps = [
        v2.Resize(50),
        v2.RandomResizedCrop(24, interpolation=v2.InterpolationMode.BICUBIC),
        v2.RandomRotation(90),
        v2.RandomApply([v2.Grayscale(3)], p=0.5),
        v2.RandomApply([v2.Pad(2)], p=1.0),
        TO_TENSOR,
        v2.Normalize([0.1] * 3, [0.2] * 3),
    ]
    expected = v2.Compose(
        [
            v2.Resize(50),
            v2.Resize(24, interpolation=v2.InterpolationMode.BICUBIC),
            v2.CenterCrop(24),
            v2.Pad(2),
            TO_TENSOR,
            v2.Normalize([0.1] * 3, [0.2] * 3),
        ]
    )
    assert torch.equal(RecordedTransform(v2.Compose(steps)).original(image), expected(image))
    given = RecordedTransform(v2.Compose(steps), original=TO_TENSOR)
    assert torch.equal(given(image).original, TO_TENSOR(image))


@pytest.mark.parametrize("size", [(20, 12), (12, 20), (40, 16)])
@pytest.mark.parametrize("image_size", [(60, 80), (80, 60), (30, 30), (200, 24)])
def test_originals_of_crops_that_are_not_square(
    size: tuple[int, int], image_size: tuple[int, int]
) -> None:
    recorded = RecordedTransform(v2.Compose([v2.RandomResizedCrop(size), TO_TENSOR]))
    assert recorded.original(picture(*image_size)).shape == (3, *size)


# Records.


def test_records_are_pickled() -> None:
    recorded = RecordedTransform(SimCLRTransform(16))
    image = picture(20, 30)
    record = pickle.loads(pickle.dumps(recorded.sample(image)))
    copy = pickle.loads(pickle.dumps(recorded))
    assert copy.parameters == recorded.parameters
    assert torch.equal(copy.apply(image, record), recorded.apply(image, record))
    views = torch.utils.data.default_collate([copy(image) for _ in range(3)])
    assert views.params[0].shape == (3, 11)
    assert views.views[1].shape == views.original.shape == (3, 3, 16, 16)


@pytest.mark.slow
def test_workers_that_are_started_and_not_forked() -> None:
    recorded, image = RecordedTransform(SimCLRTransform(16)), picture(20, 30)
    loader: Any = DataLoader(
        [image] * 4, 2, num_workers=1, collate_fn=Collate(recorded), multiprocessing_context="spawn"
    )
    (views, *_) = loader
    assert views.params[0].shape == (2, 11)
    assert views.views[1].shape == (2, 3, 16, 16)


class Collate:
    def __init__(self, transform: RecordedTransform) -> None:
        self.transform = transform

    def __call__(self, images: list[Image.Image]) -> Any:
        return torch.utils.data.default_collate([self.transform(image) for image in images])


def test_statistics_and_a_head_of_any_width() -> None:
    transform = RecordedTransform(SimCLRTransform(16, rr_prob=0.5, rr_degrees=180, vf_prob=0.5))
    names = [p.name for p in transform.parameters]
    assert names[4:8] == ["flip", "vertical flip", "rotation sine", "rotation cosine"]
    torch.manual_seed(7)
    before = torch.get_rng_state()
    statistics = estimate_statistics(transform, [(20, 30), (40, 40)], 500)
    assert torch.equal(torch.get_rng_state(), before)
    again = estimate_statistics(transform, [(20, 30), (40, 40)], 500)
    assert statistics == again
    head = STARProjectionHead(8, 8, 4, num_experts=2, statistics=statistics)
    assert head.predictor.parameter_dim == len(transform.parameters) == 14
    views = torch.utils.data.default_collate([transform(picture(20, 30, i)) for i in range(4)])
    z = head(torch.rand(4, 8))
    assert head.predict(z.equivariant, views.params[1]).shape == (4, 4)


def test_statistics_are_of_all_recorded_views() -> None:
    """BYOL's second view alone is solarised."""
    recorded = RecordedTransform(
        BYOLTransform(BYOLView1Transform(16), BYOLView2Transform(16, solarization_prob=1.0))
    )
    # The probability of 1 never varies within the view.
    assert "solarize" not in [p.name for p in recorded.parameters]
    recorded = RecordedTransform(
        BYOLTransform(BYOLView1Transform(16), BYOLView2Transform(16, solarization_prob=0.9))
    )
    mean, std = estimate_statistics(recorded, [(20, 30)], 2000)
    assert 0.4 < mean[-1] < 0.5
    assert 0.45 < std[-1] < 0.55


# Bad input.


def view_of(*steps: Any) -> v2.Compose:
    return v2.Compose([*steps, TO_TENSOR])


FLIP = v2.RandomHorizontalFlip()
BAD: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "nothing random": (
        lambda: RecordedTransform(view_of(v2.Resize(8))),
        ValueError,
        "transform: expected something random to record, but Compose does the same to every",
    ),
    "probabilities of 0 and 1": (
        lambda: RecordedTransform(view_of(v2.RandomHorizontalFlip(1.0), v2.RandomVerticalFlip(0))),
        ValueError,
        "expected something random",
    ),
    "all of it unrecorded": (
        lambda: RecordedTransform(view_of(FLIP), unrecorded=[FLIP]),
        ValueError,
        "or what it draws is unrecorded",
    ),
    "a function": (
        lambda: RecordedTransform(view_of(FLIP, lambda image: image)),
        TypeError,
        r"<lambda> is not a known operation.*register.*unrecorded=",
    ),
    "a lambda of torchvision's": (
        lambda: RecordedTransform(view_of(FLIP, v2.Lambda(lambda image: image))),
        TypeError,
        r"Lambda is not a known operation",
    ),
    "not a transform": (
        lambda: RecordedTransform(3),
        TypeError,
        "transform: expected an operation on images, got 3",
    ),
    "a choice within itself": (
        lambda: RecordedTransform(view_of(v2.TrivialAugmentWide())),
        TypeError,
        "TrivialAugmentWide draws a choice of operations within itself",
    ),
    "a field": (
        lambda: RecordedTransform(v1.ElasticTransform()),
        TypeError,
        "ElasticTransform draws a shift for every pixel, so it cannot be recorded",
    ),
    "several images": (
        lambda: RecordedTransform(view_of(v2.FiveCrop(3))),
        TypeError,
        "FiveCrop makes several images",
    ),
    "records already": (
        lambda: RecordedTransform(STARViewTransform(8)),
        TypeError,
        "transform: expected one without records, got STARViewTransform",
    ),
    "no copies": (
        lambda: RecordedTransform(FLIP, 0),
        ValueError,
        "copies: expected at least one view, got 0",
    ),
    "half a copy": (lambda: RecordedTransform(FLIP, 1.5), TypeError, "copies: expected a number"),
    "copies of several views": (
        lambda: RecordedTransform(SimCLRTransform(8), 2),
        ValueError,
        "copies: SimCLRTransform makes 2 views itself; expected None, got 2",
    ),
    "unrecorded elsewhere": (
        lambda: RecordedTransform(FLIP, unrecorded=[v2.RandomInvert]),
        ValueError,
        "unrecorded: .*RandomInvert.* is not in the transform",
    ),
    "no tensor": (
        lambda: RecordedTransform(FLIP)(picture(8, 8)),
        TypeError,
        "transform: expected one that makes a tensor of an image, got one that makes Image",
    ),
    "a record of another tree": (
        lambda: RecordedTransform(view_of(FLIP)).apply(
            picture(8, 8), RecordedTransform(view_of(FLIP, v2.RandomInvert())).sample((8, 8))
        ),
        ValueError,
        r"record: expected one of this transform, but it is of one with Compose of 3 in place of "
        r"Compose of 2",
    ),
    "a record of other arguments": (
        lambda: RecordedTransform(view_of(v2.RandomCrop(4))).apply(
            picture(8, 8), RecordedTransform(view_of(v2.RandomCrop(5))).sample((8, 8))
        ),
        ValueError,
        r"of one with RandomCrop\(size=\(5, 5\).* in place of RandomCrop\(size=\(4, 4\)",
    ),
    "a class": (
        lambda: RecordedTransform(view_of(v2.RandomInvert)),
        TypeError,
        r"got the class RandomInvert; give RandomInvert\(\.\.\.\)",
    ),
    "no operations": (lambda: RecordedTransform([]), ValueError, "expected something random"),
    "a record of another view": (
        lambda: RecordedTransform(view_of(FLIP), 1).apply(
            picture(8, 8), RecordedTransform(view_of(FLIP), 2).sample((8, 8), 1)
        ),
        ValueError,
        "view: expected one of 1 views, got 1",
    ),
    "a record of another image": (
        lambda: RecordedTransform(view_of(FLIP)).apply(
            picture(8, 8), RecordedTransform(view_of(FLIP)).sample((9, 8))
        ),
        ValueError,
        "drawn for an image of height 9 and width 8, got an image of height 8 and width 8",
    ),
    "a record of STARTransform": (
        lambda: RecordedTransform(view_of(FLIP)).apply(
            picture(8, 8), STARViewTransform(8).sample((8, 8))
        ),
        TypeError,
        "record: expected one of sample, got AugmentationRecord",
    ),
    "a batch": (
        lambda: RecordedTransform(FLIP)(torch.rand(2, 3, 8, 8)),
        ValueError,
        r"image: expected a tensor of shape \(C, H, W\), got \(2, 3, 8, 8\)",
    ),
    "an array": (
        lambda: RecordedTransform(FLIP)(np.zeros((8, 8, 3))),
        TypeError,
        "image: expected a PIL image, a tensor or its .height, width., got ndarray",
    ),
    "a size of three": (
        lambda: RecordedTransform(FLIP).sample((3, 8, 8)),
        ValueError,
        r"image: expected \(height, width\) in pixels, got \(3, 8, 8\)",
    ),
    "statistics of another width": (
        lambda: STARProjectionHead(
            8, 8, 4, parameter_dim=11,
            statistics=estimate_statistics(RecordedTransform(view_of(FLIP)), [(8, 8)], 10),
        ),
        ValueError,
        r"statistics: expected a mean of shape \(11,\), got \(1,\)",
    ),
    "the paper's statistics for other parameters": (
        lambda: STARProjectionHead(8, 8, 4, parameter_dim=12, statistics="stl10"),
        ValueError,
        r"statistics: expected a mean of shape \(12,\), got \(11,\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case: str) -> None:
    act, error, message = BAD[case]
    with pytest.raises(error, match=message):
        act()


# Teaching.


class Roll:
    """Moves the columns of a tensor by a random count, one time in two."""

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        if torch.rand(()) < 0.5:
            image = image.roll(int(torch.randint(5, ())), -1)
        return image


class Taught(Roll):
    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return super().__call__(image)


def draw_roll(operation: Roll, image: torch.Tensor) -> dict[str, float] | None:
    return {"roll": int(torch.randint(5, ()))} if torch.rand(()) < 0.5 else None


def test_an_operation_is_taught() -> None:
    steps = v2.Compose([TO_TENSOR, Taught(), v2.RandomCrop(8)])
    with pytest.raises(TypeError, match="test_recorded.Taught is not a known operation"):
        RecordedTransform(steps)
    roll = ParameterSpec("roll", "pixels", 0.0)
    register(Taught, [roll], draw_roll, lambda op, image, drawn: image.roll(drawn["roll"], -1))
    recorded = RecordedTransform(steps)
    assert recorded.parameters[0] == roll
    found = {check_same(recorded, picture(9, 12), s, 2)[1][0].vector()[0].item() for s in range(30)}
    assert found == {0, 1, 2, 3, 4}
    with pytest.raises(ValueError, match="operation: Taught is known already"):
        register(Taught, [roll], draw_roll, lambda op, image, drawn: image)


def test_teaching_says_what_is_wrong() -> None:
    class Other(Roll):
        def __call__(self, image: torch.Tensor) -> torch.Tensor:
            return image

    with pytest.raises(TypeError, match="operation: expected a class"):
        register(Roll(), [], draw_roll, lambda op, image, drawn: image)
    with pytest.raises(TypeError, match="parameters: expected ParameterSpecs, got 'roll'"):
        register(Other, ["roll"], draw_roll, lambda op, image, drawn: image)
    with pytest.raises(ValueError, match="operation: RandomHorizontalFlip is known already"):
        register(v2.RandomHorizontalFlip, [], draw_roll, lambda op, image, drawn: image)
    register(
        Other,
        [ParameterSpec("angle", "degrees", 0.0)],
        lambda operation, image: {"roll": 1},
        lambda operation, image, drawn: image,
    )
    with pytest.raises(ValueError, match=r"draw: expected values of \['angle'\] for Other"):
        RecordedTransform(Other()).sample((8, 8))


@pytest.mark.parametrize(
    "operation",
    [
        v2.TrivialAugmentWide(),
        v2.AutoAugment(),
        v2.ElasticTransform(),
        v2.RandomPhotometricDistort(),
        v1.RandAugment(),
        Roll(),
    ],
    ids=lambda operation: type(operation).__name__,
)
def test_what_is_left_unrecorded_still_replays(operation: Any) -> None:
    tensors = [v2.ToImage()] if isinstance(operation, Roll) else []
    steps = [v2.RandomCrop(50), *tensors, operation, v2.RandomHorizontalFlip(), TO_TENSOR]
    for left_out in (operation, type(operation)):
        recorded = RecordedTransform(v2.Compose(steps), unrecorded=[left_out])
        assert [p.name for p in recorded.parameters][-1] == "flip"
        for seed in range(4):
            check_same(recorded, picture(60, 54), seed, 2)


def test_classes_that_only_set_arguments_are_their_bases() -> None:
    class Mild(v2.ColorJitter):
        def __init__(self) -> None:
            super().__init__(hue=0.1)

    class Wild(v2.ColorJitter):
        def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
            return inpt

    assert [p.name for p in RecordedTransform(view_of(Mild())).parameters] == ["hue"]
    with pytest.raises(TypeError, match="Wild is not a known operation"):
        RecordedTransform(view_of(Wild()))


def test_lists_and_sequentials_are_steps() -> None:
    steps = [v1.RandomCrop(8), v1.RandomHorizontalFlip()]
    image = torch.rand(3, 10, 12)
    seed_all(3)
    expected = [nn.Sequential(*steps)(image) for _ in range(2)]
    for transform in (steps, tuple(steps), nn.Sequential(*steps), [nn.Sequential(*steps)]):
        seed_all(3)
        found = RecordedTransform(transform)(image).views
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
