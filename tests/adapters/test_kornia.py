"""RecordedTransform of kornia's augmentations: views, generators, replays, records, errors."""

import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from same_draws import picture, seed_all, states
from torch import Tensor, nn
from torch.utils.data import default_collate
from torchvision.transforms import v2

from star_head import Parameter, ParameterSpec, STARProjectionHead, STARViews, estimate_statistics
from star_head.adapters.torchvision import RecordedTransform as RecordedImageTransform
from star_head.augmentation import STATISTICS

kornia = pytest.importorskip("kornia")
K: Any = kornia.augmentation
star_kornia = pytest.importorskip("star_head.adapters.kornia")
RecordedTransform = star_kornia.RecordedTransform

MEAN, STD = torch.tensor([0.43, 0.42, 0.39]), torch.tensor([0.27, 0.26, 0.27])
TO_FLOAT = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]


def batch(height: int = 20, width: int = 24, count: int = 6) -> Tensor:
    return torch.stack([v2.Compose(TO_FLOAT)(picture(height, width, i)) for i in range(count)])


def authors() -> Any:
    """What the authors ran on the GPU: kornia's ColorJiggle is the former ColorJitter."""
    return K.AugmentationSequential(
        K.RandomHorizontalFlip(p=0.5),
        K.ColorJiggle(0.4, 0.4, 0.4, 0.1, p=0.8),
        K.RandomGrayscale(p=0.2),
        K.RandomGaussianBlur((9, 9), (0.1, 2.0), p=0.5),
        K.Normalize(MEAN, STD),
    )


def check_same(transform: Any, images: Tensor, seed: int) -> tuple[STARViews, list[Any]]:
    """Views, generators and replays as they should be; the views and their records."""
    seed_all(seed)
    expected = [transform.augmentation(images) for _ in range(transform.copies)]
    after = states()
    seed_all(seed)
    views = transform(images)
    assert states() == after
    for view, plain in zip(views.views, expected, strict=True):
        assert torch.equal(view, plain)
    seed_all(seed)
    records = [transform.sample(images, i) for i in range(transform.copies)]
    assert states() == after
    before = states()
    for record, view, params in zip(records, views.views, views.params, strict=True):
        assert torch.equal(transform.apply(images, record), view)
        assert torch.equal(record.vector(), params)
        assert params.shape == (len(images), len(transform.parameters))
        assert params.dtype == torch.float32
    assert states() == before
    return views, records


def test_the_authors_pipeline_has_the_papers_numbers() -> None:
    crop = v2.RandomResizedCrop(96, scale=(0.2, 1.0))
    crops = RecordedImageTransform([crop, *TO_FLOAT])
    transform = RecordedTransform(authors(), after=crops)
    assert [(p.label, p.unit) for p in transform.parameters] == [
        (p.label, p.unit) for p in Parameter
    ]
    # And the statistics that they had on images of STL10's size.
    mean, std = (torch.tensor(s) for s in estimate_statistics(transform, (96, 96), 1500))
    expected = [torch.tensor(s) for s in STATISTICS["stl10"]]
    assert ((mean - expected[0]).abs() / expected[1]).max() < 0.12
    assert ((std - expected[1]).abs() / expected[1]).max() < 0.12


def test_crops_of_workers_and_the_rest_in_batches() -> None:
    crops = RecordedImageTransform([v2.RandomResizedCrop(16), *TO_FLOAT])
    transform = RecordedTransform(authors(), after=crops)
    given = default_collate([crops(picture(20 + i, 30, i)) for i in range(5)])
    for seed in range(4):
        seed_all(seed)
        expected = [transform.augmentation(view) for view in given.views]
        after = states()
        seed_all(seed)
        views = transform(given)
        assert states() == after
        for view, plain, params, crop in zip(
            views.views, expected, views.params, given.params, strict=True
        ):
            assert torch.equal(view, plain)
            assert torch.equal(params[:, :4], crop)
            assert params.shape == (5, 11)
        torch.testing.assert_close(
            views.original, (given.original - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1)
        )
        seed_all(seed)
        record = transform.sample(given, 0)
        assert torch.equal(record.vector(), views.params[0])
        assert torch.equal(transform.apply(given.views[0], record), views.views[0])


def test_the_pages_code_is_the_authors_pipeline() -> None:
    page = (Path(__file__).parents[2] / "docs/views.md").read_text()
    (code,) = [b for b in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "after=crops" in b]
    lines, (loader, *_) = {"device": "cpu"}, code.split("for views, labels")
    exec(loader, lines)
    assert repr(lines["transform"].augmentation) == repr(authors())
    given = default_collate([lines["crops"](picture(100, 120, i)) for i in range(3)])
    views = lines["transform"](given)
    assert [p.label for p in lines["transform"].parameters] == [p.label for p in Parameter]
    assert views.views[1].shape == views.original.shape == (3, 3, 96, 96)


def test_an_order_of_colour_operations_for_a_whole_batch() -> None:
    """As the authors had it; it replays, and is not in the vector."""
    transform = RecordedTransform(authors())
    record = transform.sample(batch())
    (jiggle,) = [item.data for item in record.params if item.name.startswith("ColorJiggle")]
    assert sorted(jiggle["order"].tolist()) == [0, 1, 2, 3]
    assert record.vector().shape == (6, 7)


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_views_and_replays_are_kornias(copies: int) -> None:
    transform = RecordedTransform(authors(), copies)
    for seed in range(4):
        views, _ = check_same(transform, batch(), seed)
        assert len(views.views) == copies
        assert views.original.shape == views.views[0].shape


NESTED = {
    "nested": lambda: [
        K.RandomRotation(20.0),
        K.AugmentationSequential(K.RandomHorizontalFlip(), K.ColorJitter(hue=0.1, p=0.8)),
    ],
    "images": lambda: [
        K.ImageSequential(K.RandomSolarize(p=0.5), K.RandomPosterize((3, 8), p=0.5)),
        kornia.enhance.Normalize(MEAN, STD),
    ],
    "crops": lambda: [
        K.Resize((30, 40)),
        K.RandomHorizontalFlip(),
        K.RandomResizedCrop((16, 16), scale=(0.2, 1.0)),
        K.RandomVerticalFlip(),
        K.RandomCrop((12, 14), padding=2),
        K.CenterCrop(10),
    ],
    "twice": lambda: [K.RandomHue((-0.1, 0.1)), K.RandomErasing(), K.RandomHue((0.0, 0.2), p=0.5)],
}


@pytest.mark.parametrize("random_apply", [False, True, 1, (0, 2)], ids=str)
@pytest.mark.parametrize("name", NESTED)
def test_containers_of_containers_in_any_order(name: str, random_apply: Any) -> None:
    if name == "crops" and random_apply is not False:
        random_apply = False  # their sizes fit in one order alone
    augmentation = K.AugmentationSequential(*NESTED[name](), random_apply=random_apply)
    transform = RecordedTransform(augmentation)
    for seed in range(5):
        views, _ = check_same(transform, batch(), seed)
        if random_apply in (False, True):
            assert views.original.shape == views.views[0].shape


def test_same_on_batch() -> None:
    augmentation = K.AugmentationSequential(
        K.RandomRotation(30.0), K.RandomHorizontalFlip(), same_on_batch=True
    )
    views, _ = check_same(RecordedTransform(augmentation), batch(), 0)
    assert (views.params[0] == views.params[0][:1]).all()
    # Of one draw for a batch the statistics are over batches.
    mean, std = estimate_statistics(RecordedTransform(augmentation), (20, 24), 200)
    assert 0.3 < mean[1] < 0.7
    assert 10 < std[0] < 25


def test_a_name_that_comes_again_is_counted() -> None:
    crops = RecordedImageTransform([v2.RandomCrop(16), v2.ColorJitter(hue=0.1), *TO_FLOAT])
    transform = RecordedTransform(
        K.AugmentationSequential(*NESTED["twice"](), K.RandomCrop((8, 8))), after=crops
    )
    names = [p.name for p in transform.parameters]
    assert names[:7] == [*(f"crop {s}" for s in ("top", "left", "height", "width")), "hue",
                         "hue 2", "erased top"]  # fmt: skip
    assert names[-5:] == ["hue 3", *(f"crop {s} 2" for s in ("top", "left", "height", "width"))]
    given = default_collate([crops(picture(20, 30, i)) for i in range(4)])
    params = transform(given).params[0]
    assert params.shape == (4, len(names))
    assert torch.equal(params[:, :5], given.params[0])
    assert torch.equal(params[:, -2:], torch.full((4, 2), 8.0))


def test_records_are_pickled() -> None:
    transform, images = RecordedTransform(authors()), batch()
    record = pickle.loads(pickle.dumps(transform.sample(images)))
    copy = pickle.loads(pickle.dumps(transform))
    assert copy.parameters == transform.parameters
    assert torch.equal(copy.apply(images, record), transform.apply(images, record))


def test_a_head_of_any_width_trains_on_them() -> None:
    transform = RecordedTransform(
        K.AugmentationSequential(K.RandomRotation(360.0, p=1.0), K.RandomSolarize())
    )
    assert [p.name for p in transform.parameters] == [
        "rotation sine", "rotation cosine", "solarize threshold", "solarize addition",
    ]  # fmt: skip
    statistics = estimate_statistics(transform, [(20, 24), (30, 30)], 400)
    assert statistics == estimate_statistics(transform, [(20, 24), (30, 30)], 400)
    head = STARProjectionHead(3, 8, 4, num_experts=2, statistics=statistics)
    views = transform(batch())
    z = head(views.original.mean(dim=(2, 3)))
    assert head.predict(z.equivariant, views.params[1]).shape == (6, 4)


def test_float64_and_what_is_differentiable() -> None:
    """As in kornia: dtypes and gradients go through."""
    transform = RecordedTransform(authors().double())
    images = batch().double().requires_grad_()
    views = transform(images)
    assert views.views[0].dtype == views.original.dtype == torch.float64
    assert views.params[0].dtype == torch.float32
    views.views[0].sum().backward()
    assert images.grad.abs().sum() > 0


def test_the_original_is_what_is_not_random() -> None:
    images = batch(40, 60)
    augmentation = K.AugmentationSequential(
        K.RandomRotation(30.0), K.RandomResizedCrop((20, 20)), K.Normalize(MEAN, STD)
    )
    original = RecordedTransform(augmentation).original(images)
    expected = v2.Normalize(MEAN.tolist(), STD.tolist())(v2.CenterCrop(20)(v2.Resize(20)(images)))
    torch.testing.assert_close(original, expected, atol=1e-5, rtol=1e-5)
    given = RecordedTransform(augmentation, original=lambda images: images[..., :20, :20])
    assert torch.equal(given(images).original, images[..., :20, :20])
    sometimes = K.AugmentationSequential(K.RandomInvert(), K.Normalize(MEAN, STD, p=0.5))
    transform = RecordedTransform(sometimes)
    assert torch.equal(transform.original(images), images)
    assert [p.name for p in transform.parameters] == ["invert", "normalize"]


def test_two_views_of_different_transforms_of_workers() -> None:
    from lightly.transforms.multi_view_transform import MultiViewTransform

    sure, never = (
        v2.Compose([v2.RandomCrop(16), v2.RandomSolarize(0.5, p=p), *TO_FLOAT]) for p in (0.9, 0.1)
    )
    small = v2.Compose([v2.RandomCrop(8), *TO_FLOAT])
    crops = RecordedImageTransform(MultiViewTransform([sure, never, small]))
    transform = RecordedTransform(authors(), after=crops)
    mean = estimate_statistics(transform, (20, 24), 400).mean
    assert 0.4 < mean[[p.name for p in transform.parameters].index("solarize")] < 0.6
    given = default_collate([crops(picture(20, 30, i)) for i in range(4)])
    seed_all(0)
    expected = [transform.augmentation(view) for view in given.views]
    seed_all(0)
    views = transform(given)
    assert [len(views.views), len(views.params)] == [3, 2]
    for view, plain in zip(views.views, expected, strict=True):
        assert torch.equal(view, plain)  # the small crop too, which follows


# What is not known.


class Salt(K.AugmentationBase2D):
    """One of a user's own, which draws through kornia's generators."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p=p)
        self._param_generator = K.random_generator.PlainUniformGenerator(
            (torch.tensor([0.1, 0.3]), "salt", None, None)
        )

    def apply_transform(self, input: Tensor, params: Any, flags: Any, transform: Any) -> Tensor:
        return input + params["salt"].view(-1, 1, 1, 1)


def test_a_class_can_be_taught() -> None:
    augmentation = K.AugmentationSequential(K.RandomHorizontalFlip(), Salt())
    with pytest.raises(TypeError, match=r"Salt is not known.*kornia\.register.*unrecorded"):
        RecordedTransform(augmentation)
    check_same(RecordedTransform(augmentation, unrecorded=[Salt]), batch(), 0)
    number = ParameterSpec("salt", "brightness", 0.0)
    star_kornia.register(Salt, [number], read=lambda operation, params: {"salt": params["salt"]})
    transform = RecordedTransform(augmentation)
    assert transform.parameters[1] == number
    images = torch.full((40, 3, 8, 8), 0.5)
    views, _ = check_same(transform, images, 0)
    seen = (views.views[0] - images).mean(dim=(1, 2, 3))
    torch.testing.assert_close(seen, views.params[0][:, 1], atol=1e-6, rtol=0)
    assert 5 < (seen == 0).sum() < 35
    with pytest.raises(ValueError, match="augmentation: Salt is known already"):
        star_kornia.register(Salt, [number], read=dict)
    with pytest.raises(ValueError, match="augmentation: RandomHue is known already"):
        star_kornia.register(K.RandomHue, [number], read=dict)
    with pytest.raises(TypeError, match="augmentation: expected a class of kornia"):
        star_kornia.register(Salt(), [number], read=dict)
    with pytest.raises(TypeError, match="parameters: expected ParameterSpecs, got 'salt'"):
        star_kornia.register(Salt, ["salt"], read=dict)


def test_what_is_taught_tells_all_its_numbers() -> None:
    class Pepper(Salt):
        pass

    star_kornia.register(Pepper, [ParameterSpec("pepper", "share", 0.0)], read=lambda o, p: {})
    with pytest.raises(ValueError, match=r"read: expected values of \['pepper'\] for Pepper"):
        RecordedTransform(K.AugmentationSequential(Pepper())).sample(batch())


class OwnFlip(K.RandomHorizontalFlip):
    """Whatever a subclass does is not known."""


FLIP = K.RandomHorizontalFlip
REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "noise": (lambda: K.RandomGaussianNoise(), TypeError, "RandomGaussianNoise draws noise for ev"),
    "subclass": (lambda: OwnFlip(), TypeError, r"OwnFlip is not known"),
    "lamp": (lambda: K.RandomPlasmaShadow(), TypeError, "RandomPlasmaShadow draws a field of li"),
    "mix": (lambda: K.RandomMixUpV2(), TypeError, "RandomMixUpV2 mixes the images of a batch"),
    "auto": (lambda: K.auto.TrivialAugment(), TypeError, "TrivialAugment draws a choice of oper"),
    "patches": (
        lambda: K.PatchSequential(K.RandomInvert(), patchwise_apply=False),
        TypeError,
        "PatchSequential draws for every",
    ),
    "video": (lambda: K.VideoSequential(FLIP()), TypeError, "VideoSequential is for videos"),
    "dropout": (lambda: nn.Dropout(), TypeError, "Dropout is none of the augmentations whose dra"),
    "sequential": (lambda: nn.Sequential(FLIP()), TypeError, "Sequential is none of the augmenta"),
    "3d": (lambda: K.RandomHorizontalFlip3D(), TypeError, "RandomHorizontalFlip3D is"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_known_is_named(name: str) -> None:
    make, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        RecordedTransform(K.AugmentationSequential(FLIP(), make()))


BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "list": (lambda: ([FLIP()],), TypeError, r"expected kornia's AugmentationSequential .*got"),
    "alone": (lambda: (FLIP(),), TypeError, r"put kornia's augmentations into one"),
    "torchvision": (lambda: (v2.RandomHorizontalFlip(),), TypeError, "expected kornia's Augm"),
    "nothing": (lambda: (K.AugmentationSequential(),), ValueError, "expected something random"),
    "fixed": (
        lambda: (K.AugmentationSequential(K.Normalize(MEAN, STD), FLIP(p=0.0)),),
        ValueError, "augmentation: expected something random",
    ),
    "masks": (
        lambda: (K.AugmentationSequential(FLIP(), data_keys=["input", "mask"]),),
        ValueError, r"data_keys=\['input'\].*got \['IMAGE', 'MASK'\]",
    ),
    "repeats": (
        lambda: (K.AugmentationSequential(FLIP(), K.RandomHue((0, 0.1)), random_apply=3),),
        ValueError, "random_apply may choose 3 of 2 members",
    ),
    "weights": (
        lambda: (
            K.AugmentationSequential(
                FLIP(), K.RandomInvert(), random_apply=2, random_apply_weights=[0.5, 0.5]
            ),
        ),
        ValueError, "random_apply may choose 2 of 2 members with weights of 1 in all",
    ),
    "copies": (lambda: (authors(), 0), ValueError, "copies: expected at least one view, got 0"),
    "copies type": (lambda: (authors(), 2.0), TypeError, "copies: expected a number of views"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments(name: str) -> None:
    arguments, error, message = BAD[name]
    with pytest.raises(error, match=message):
        RecordedTransform(*arguments())


def test_bad_arguments_of_what_came_before() -> None:
    crops = RecordedImageTransform([v2.RandomResizedCrop(16), *TO_FLOAT])
    with pytest.raises(ValueError, match="copies: after= makes 2 views itself; expected None, got"):
        RecordedTransform(authors(), 2, after=crops)
    with pytest.raises(TypeError, match="after: expected a RecordedTransform of star_head"):
        RecordedTransform(authors(), after=v2.RandomResizedCrop(16))
    anywhere = RecordedImageTransform([v2.RandomHorizontalFlip(), *TO_FLOAT])
    with pytest.raises(ValueError, match="after: expected views of one size, to be batched"):
        RecordedTransform(authors(), after=anywhere)
    normalised = RecordedImageTransform(
        [v2.RandomResizedCrop(16), *TO_FLOAT, v2.Normalize([0.5] * 3, [0.5] * 3)]
    )
    with pytest.raises(ValueError, match=r"after: expected pixels in \[0, 1\], to which kornia's"):
        RecordedTransform(authors(), after=normalised)
    turned = RecordedTransform(K.AugmentationSequential(K.RandomRotation(9.0)), after=normalised)
    assert len(turned.parameters) == 5  # which leaves the pixels' range as it is
    transform = RecordedTransform(authors(), after=crops)
    with pytest.raises(TypeError, match="images: expected the STARViews that after= made, batched"):
        transform(batch())
    with pytest.raises(ValueError, match=r"2 views with parameters \(B, 4\).*\(3, 11\)"):
        transform(STARViews(batch(), (batch(), batch()), (torch.ones(3, 11), torch.ones(3, 11))))
    (one,) = default_collate([[crops(picture(20, 30))]])
    assert transform(one).params[0].shape == (1, 11)
    with pytest.raises(ValueError, match=r"parameters \(B, 4\).*\(4,\)"):
        transform(crops(picture(20, 30)))  # of a single image


@pytest.mark.parametrize("scale", [(0.0, 255.0), (-2.0, 3.0), (0.0, 1.4)])
def test_pixels_that_kornia_would_cut_off(scale: tuple[float, float]) -> None:
    low, high = scale
    images = low + (high - low) * (batch() - batch().min()) / (batch().max() - batch().min())
    with pytest.raises(ValueError, match=r"images: expected pixels in \[0, 1\].*ColorJiggle cuts"):
        RecordedTransform(authors())(images)
    bicubic = -0.1 + 1.2 * batch()
    check_same(RecordedTransform(authors()), bicubic, 0)
    turned = K.AugmentationSequential(K.RandomRotation(9.0), K.RandomErasing())
    check_same(RecordedTransform(turned), images, 0)  # which leave the range as it is


def test_each_adapter_names_the_other() -> None:
    for made in (authors(), K.RandomHue((0, 0.1))):
        with pytest.raises(TypeError, match="is kornia's, for batches; star_head.adapters.kornia"):
            RecordedImageTransform(made)
        with pytest.raises(TypeError, match="is kornia's, for batches; star_head.adapters.kornia"):
            RecordedImageTransform([v2.RandomCrop(8), made])


def test_moved_as_a_module_is() -> None:
    transform = RecordedTransform(authors())
    assert transform.to(torch.float64) is transform
    assert transform.augmentation[1].dtype == torch.float64
    check_same(transform, batch().double(), 0)


def test_unrecorded_augmentations() -> None:
    blur = K.RandomGaussianBlur((3, 3), (0.1, 2.0))
    augmentation = K.AugmentationSequential(FLIP(), blur, K.RandomGaussianNoise(), K.RandomHue())
    for unrecorded in (
        [blur, K.RandomGaussianNoise],
        [K.RandomGaussianBlur, K.RandomGaussianNoise],
    ):
        transform = RecordedTransform(augmentation, unrecorded=unrecorded)
        assert [p.name for p in transform.parameters] == ["flip"]
        check_same(transform, batch(), 0)
    with pytest.raises(ValueError, match="unrecorded: .*RandomInvert.* is not in the augmentation"):
        RecordedTransform(augmentation, unrecorded=[K.RandomGaussianNoise, K.RandomInvert])
    diffusion = K.RandomDissolving.__new__(K.RandomDissolving)  # without its network
    nn.Module.__init__(diffusion)
    for made in (nn.Dropout(), diffusion, K.RandomMixUpV2()):
        with pytest.raises(TypeError, match="apply it before or after"):
            RecordedTransform(K.AugmentationSequential(FLIP(), made), unrecorded=[type(made)])


def test_bad_images_and_records() -> None:
    transform, images = RecordedTransform(authors()), batch()
    record = transform.sample(images)
    for bad, error, message in (
        (images[0], ValueError, r"images: expected shape \(B, C, H, W\), got \(3, 20, 24\)"),
        (images[:0], ValueError, "images: expected shape"),
        ((images * 255).byte(), TypeError, r"floating-point pixels in \[0, 1\], got torch.uint8"),
        (picture(8, 8), TypeError, r"images: expected a batch \(B, C, H, W\)"),
    ):
        for call in (transform, transform.sample, lambda x: transform.apply(x, record)):
            with pytest.raises(error, match=message):
                call(bad)
    for size in ((0, 8), (8.0, 8), (8, 8, 8)):
        with pytest.raises(ValueError, match=r"images: expected \(height, width\) in pixels"):
            transform.sample(size)
    for view in (-1, 2):
        with pytest.raises(ValueError, match="view: expected one of 2 views"):
            transform.sample(images, view)
    with pytest.raises(TypeError, match="record: expected one of sample, got"):
        transform.apply(images, record.params)
    other = RecordedTransform(K.AugmentationSequential(K.RandomInvert()))
    with pytest.raises(ValueError, match="record: expected one of this augmentation"):
        other.apply(images, record)
    with pytest.raises(ValueError, match=r"record: drawn for a batch of shape \(6, 3, 20, 24\)"):
        transform.apply(images[:2], record)
    with pytest.raises(ValueError, match="record: expected finite parameters"):
        record._replace(values=record.values / 0).vector()
