"""What estimate_statistics takes as images' sizes, and what draws their records."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightly.transforms import SimCLRTransform
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset
from torchvision import transforms
from torchvision.datasets import FakeData, ImageFolder

from star_head import AugmentationRecord, estimate_statistics
from star_head.adapters.device import RecordingTransform
from star_head.adapters.image_sizes import image_sizes
from star_head.adapters.lightly import STARMultiViewTransform, STARTransform, STARViewTransform
from star_head.adapters.torchvision import RecordedTransform


class Whole:
    """Records the whole image, so that the mean crop is the mean size."""

    image_sizes = staticmethod(image_sizes)

    def sample(self, image: tuple[int, int]) -> AugmentationRecord:
        return AugmentationRecord(0, 0, *image)


def mean_size(sizes: Any, transform: Any = None) -> tuple[float, float]:
    mean, _ = estimate_statistics(transform or Whole(), sizes, num_samples=40)
    return round(mean[2], 4), round(mean[3], 4)


ONE = [(96, 64)] * 3
TWO = [(96, 64), (48, 32)]


@pytest.mark.parametrize(
    ("sizes", "pairs"),
    [
        ((96, 64), ONE),
        ([96, 64], ONE),
        (torch.Size([96, 64]), ONE),
        (np.array([96, 64]), ONE),
        (torch.tensor([96, 64]), ONE),
        ((np.int64(96), np.int32(64)), ONE),
        ((96.0, 64.0), ONE),
        ([(96, 64), [48, 32]], TWO),
        (((96, 64), (48, 32)), TWO),
        (np.array(TWO), TWO),
        (np.array(TWO, dtype=np.float32), TWO),
        (torch.tensor(TWO), TWO),
        (list(torch.tensor(TWO)), TWO),
        ([torch.Size(pair) for pair in TWO], TWO),
        (lambda: (pair for pair in TWO), TWO),
        (lambda: zip([96, 48], [64, 32], strict=True), TWO),
        (lambda: iter(TWO), TWO),
        (lambda: dict.fromkeys(TWO).keys(), TWO),
    ],
)  # fmt: skip
def test_sizes_in_any_container(sizes: Any, pairs: list[tuple[int, int]]) -> None:
    given = sizes() if callable(sizes) else sizes
    assert mean_size(given) == tuple(np.mean(pairs, axis=0))


@pytest.mark.parametrize(
    ("sizes", "error", "came"),
    [
        (96, TypeError, "got 96"),
        (None, TypeError, "got None"),
        (96.5, TypeError, "got 96.5"),
        ({"height": 96}, TypeError, "got a dict of height"),
        ([], ValueError, "got none"),
        (np.zeros((0, 2)), ValueError, "got none"),
        (iter(()), ValueError, "got none"),
        ((96,), ValueError, "got "),
        ((96, 96, 3), ValueError, r"got \(96, 96, 3\)"),
        ([(96, 96, 3)], ValueError, r"got \(96, 96, 3\)"),
        (torch.tensor([3, 96, 96]), ValueError, r"got \[3, 96, 96\]"),
        (torch.zeros(3, 96, 96), ValueError, r"an array of shape \(3, 96, 96\)"),
        (torch.tensor(96), ValueError, r"an array of shape \(\)"),
        ((96, 0), ValueError, r"whole numbers above 0, got \(96, 0\)"),
        ((96, -4), ValueError, r"whole numbers above 0, got \(96, -4\)"),
        ((96.5, 96), ValueError, r"whole numbers above 0, got \(96.5, 96\)"),
        ((float("nan"), 96), ValueError, "whole numbers above 0"),
        ([("96", "96")], ValueError, "none of 1 images can be read: 96: "),
        ("/nowhere/at/all", ValueError, "/nowhere/at/all is no folder"),
    ],
)
def test_what_are_no_sizes(sizes: Any, error: type[Exception], came: str) -> None:
    with pytest.raises(error, match=f"image_sizes: .*{came}"):
        mean_size(sizes)


class Drawings(Dataset):
    """A data set of one's own: images of two sizes in items of any form."""

    def __init__(self, form: Callable[[Any], Any], transform: Any = None) -> None:
        self.form, self.transform = form, transform

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        if index >= 4:
            raise IndexError
        image: Any = Image.new("RGB", (64, 96) if index % 2 else (32, 48))
        return self.form(image if self.transform is None else self.transform(image))


FORMS: dict[str, Callable[[Any], Any]] = {
    "image": lambda image: image,
    "labelled": lambda image: (image, 3),
    "with index": lambda image: (image, 3, 17),
    "list": lambda image: [image, "cat"],
    "dict": lambda image: {"image": image, "label": 3},
    "array": lambda image: (np.array(image), 3),
    "grey": lambda image: (np.array(image.convert("L")), 3),
    "tensor": lambda image: (torch.from_numpy(np.array(image)).permute(2, 0, 1), 3),
}
MEAN = (72, 48)


@pytest.mark.parametrize("form", FORMS)
def test_a_data_set_with_and_without_its_transform(form: str) -> None:
    for transform in (None, STARTransform(8)):
        data_set = Drawings(FORMS[form], transform)
        assert mean_size(data_set) == MEAN
        assert mean_size(DataLoader(data_set, batch_size=2)) == MEAN
        assert data_set.transform is transform
    assert mean_size(Subset(data_set, [0, 2])) == (48, 32)


def test_parts_and_joined_data_sets() -> None:
    drawings = Drawings(FORMS["labelled"], STARTransform(8))
    assert mean_size(Subset(drawings, [1])) == (96, 64)
    joined: Dataset = ConcatDataset([Subset(drawings, [1]), Subset(drawings, [0, 2, 1])])
    assert mean_size(joined) == MEAN
    assert mean_size(TensorDataset(torch.zeros(5, 3, 48, 32), torch.zeros(5))) == (48, 32)
    assert mean_size(FakeData(3, (3, 48, 32), transform=STARTransform(8))) == (48, 32)
    assert mean_size([Image.new("L", (32, 48)), Image.new("RGB", (64, 96))]) == MEAN
    assert mean_size([(Image.new("L", (32, 48)), 0)]) == (48, 32)
    recorded = [RecordingTransform(STARTransform(8))(Image.new("RGB", (32, 48)))]
    assert mean_size(recorded) == (48, 32)


def test_what_is_no_data_set_of_images() -> None:
    for form in (lambda i: 3, lambda i: (3, 4), lambda i: torch.zeros(7), lambda i: (i, i)[2:]):
        with pytest.raises(TypeError, match="image_sizes: .*items are images or begin with one"):
            mean_size(Drawings(form))
    made = [STARTransform(8)(Image.new("RGB", (32, 48)))]
    with pytest.raises(TypeError, match="without its transform, got items like a STARViews of"):
        mean_size(made)
    with pytest.raises(ValueError, match="got an empty data set"):
        mean_size(Subset(Drawings(FORMS["image"]), []))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, size in {
        "cats/a.png": (32, 48),
        "dogs/b.jpg": (64, 96),
        "dogs/c.PNG": (64, 96),
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", size).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_a_folder_and_data_sets_of_files_are_read_by_their_headers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightly.data import LightlyDataset

    transform = STARTransform(8)
    sources = [
        folder,
        str(folder),
        ImageFolder(str(folder), transform),
        LightlyDataset(str(folder), transform=transform),
        LightlyDataset(str(folder / "dogs"), transform=transform),
    ]
    Image.init()  # whose plugins make images
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    for source in sources[:4]:
        assert sorted(image_sizes(source)) == [(48, 32), (96, 64), (96, 64)]
        assert mean_size(source)[0] == pytest.approx(80, abs=1)
    assert image_sizes(sources[4]) == [(96, 64), (96, 64)]
    assert image_sizes(folder, max_count=1) == [(48, 32)]
    monkeypatch.setenv("HOME", str(folder.parent))
    assert len(image_sizes(f"~/{folder.name}")) == 3


def test_files_that_cannot_be_read_are_named(folder: Path) -> None:
    (folder / "dogs/torn.png").write_bytes(b"torn")
    with pytest.warns(UserWarning, match="1 of 4 images are left out.*torn.png"):
        assert len(image_sizes(folder)) == 3
    for path in folder.rglob("*.*"):
        path.write_bytes(b"torn")
    with pytest.raises(ValueError, match="none of 4 images can be read: .*a.png"):
        image_sizes(folder)
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match="there is no image in .*empty"):
        image_sizes(folder / "empty")
    with pytest.raises(ValueError, match="notes.txt is no folder"):
        image_sizes(folder / "notes.txt")
    with pytest.raises(TypeError, match="expected a folder or a map-style data set.*got 3"):
        image_sizes(3)
    with pytest.raises(TypeError, match="map-style data set.*got the class ImageFolder"):
        image_sizes(ImageFolder)


def test_whatever_records_of_the_house() -> None:
    transform = STARTransform(16)
    expected = estimate_statistics(transform, (48, 64), num_samples=200)
    assert estimate_statistics(STARViewTransform(16), (48, 64), 200) == expected
    assert estimate_statistics(RecordingTransform(transform), (48, 64), 200) == expected
    assert estimate_statistics(STARMultiViewTransform([transform] * 2), (48, 64), 200) == expected


def test_several_recorded_views_count_alike() -> None:
    always, never = (STARViewTransform(16, hf_prob=p, min_scale=0.99) for p in (1.0, 0.0))
    small: Callable[[Any], Tensor] = nn.Identity()
    several = STARMultiViewTransform([always, never, never, never], [small])
    mean, _ = estimate_statistics(several, [(48, 48), (24, 24)], num_samples=400)
    assert mean[4] == pytest.approx(0.25)
    assert 33 < mean[2] < 39  # of either size as often, whichever view
    data_set = Drawings(FORMS["labelled"], several)
    assert estimate_statistics(several, data_set, 40) == estimate_statistics(
        several, image_sizes(data_set), 40
    )


def test_any_transform_recorded_of_a_data_set() -> None:
    crop = transforms.RandomResizedCrop(8, scale=(0.999, 1.0))
    recorded = RecordedTransform(transforms.Compose([crop, transforms.ToTensor()]))
    lightlys = RecordedTransform(SimCLRTransform(8))
    for transform in (recorded, lightlys):
        for form in FORMS.values():
            data_set = Drawings(form, transform)
            given = estimate_statistics(transform, image_sizes(data_set), 40)
            assert estimate_statistics(transform, data_set, 40) == given
    mean, _ = estimate_statistics(recorded, Drawings(FORMS["dict"], recorded), 400)
    height = [p.name for p in recorded.parameters].index("crop height")
    assert 60 < mean[height] < 73


@pytest.mark.parametrize(
    "transform",
    [nn.Identity(), STARTransform, None, lambda image: image, "stl10", [STARTransform(8)]],
)
def test_what_records_nothing(transform: Any) -> None:
    with pytest.raises(
        TypeError, match="transform: expected one that draws records, .*RecordedTransform"
    ):
        estimate_statistics(transform, (96, 96))


def test_a_transform_that_reads_no_data_set() -> None:
    class Own:
        def sample(self, image: tuple[int, int]) -> AugmentationRecord:
            return AugmentationRecord(0, 0, *image)

    assert mean_size((96, 64), Own()) == (96, 64)
    for source in ("photos", Drawings(FORMS["image"])):
        with pytest.raises(TypeError, match="star_head.adapters.image_sizes.image_sizes"):
            mean_size(source, Own())
