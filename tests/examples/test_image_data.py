"""Each data set's parts, from real files or stand-ins: there may be no network."""

import gzip
import pickle
import re
import shutil
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from star_head.examples.data import published
from star_head.examples.data.data_module import ImageDataModule
from star_head.examples.data.image_data import Images, load_images


def write(root: Path, *names: str) -> None:
    """Images, each of another colour."""
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6 + i, 4 + i), (10 * i, 0, 0)).save(root / name)


def names(images: Images, root: Path) -> list[str]:
    return [str(images.source._path(i).relative_to(root)) for i in images.indices]


def test_digits() -> None:
    pretrain, train, test = load_images("digits")
    assert (len(pretrain), len(train), len(test)) == (1437, 1437, 360)
    assert pretrain.image_sizes() == [(8, 8)]
    assert train[0][1] == 1
    assert test[0][1] == 0


def test_statistics_of_a_folder_are_estimated_once(tmp_path: Path) -> None:
    write(tmp_path, *(f"{'ab'[i % 2]}/{i}.png" for i in range(10)))
    data = ImageDataModule("folder", tmp_path)
    first = data.statistics
    shutil.rmtree(tmp_path / "a")
    assert data.statistics is first


@pytest.mark.parametrize("name", ["digits", "folder"])
def test_images_reach_workers_that_are_not_forked(name: str, tmp_path: Path) -> None:
    write(tmp_path, *(f"{'ab'[i % 2]}/{i}.png" for i in range(10)))
    for images in load_images(name, tmp_path):
        copy = pickle.loads(pickle.dumps(images))
        assert np.array_equal(np.array(copy[1][0]), np.array(images[1][0]))
        assert copy[1][1] == images[1][1]
    loader = DataLoader(images.with_transform(np.array), batch_size=None, num_workers=2)
    for i, (pixels, label) in enumerate(loader):
        assert np.array_equal(pixels, np.array(images[i][0]))
        assert label == images[i][1]


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


def test_fashion_mnist_from_the_original_files(tmp_path: Path) -> None:
    for part, n in (("train", 5), ("t10k", 3)):
        pixels = np.arange(n, dtype=np.uint8)[:, None, None].repeat(28, 1).repeat(28, 2)
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", pixels)
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", np.arange(n, dtype=np.uint8))
    pretrain, train, test = load_images("fashion-mnist", tmp_path)
    assert (len(pretrain), len(train), len(test)) == (5, 5, 3)
    assert test[2][1] == np.unique(np.array(test[2][0])) == 2


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_that_torchvision_fetches(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    class StandIn(getattr(published, name.upper())):
        def __init__(self, root: Path, train: bool, download: bool) -> None:
            assert download
            n = 6 if train else 4
            self.data, self.targets = np.full((n, 32, 32, 3), n, np.uint8), [1] * n

    monkeypatch.setattr(published, name.upper(), StandIn)
    pretrain, train, test = load_images(name, tmp_path)
    assert pretrain is train
    for images, n in ((train, 6), (test, 4)):
        image, label = images[n - 1]
        assert (len(images), image.size, label) == (n, (32, 32), 1)
        assert images.image_sizes() == [(32, 32)]
        assert np.unique(np.array(image)) == n


def test_fashion_mnist_that_torchvision_fetches(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fetch(self: object, root: Path, download: bool) -> None:
        assert download
        raw = root / "FashionMNIST" / "raw"
        raw.mkdir(parents=True)
        for part, n in (("train", 6), ("t10k", 4)):
            write_idx(raw / f"{part}-images-idx3-ubyte.gz", np.full((n, 28, 28), n, np.uint8))
            write_idx(raw / f"{part}-labels-idx1-ubyte.gz", np.ones(n, np.uint8))

    monkeypatch.setattr(published.FashionMNIST, "__init__", fetch)
    _, train, test = load_images("fashion-mnist", tmp_path)
    for images, n in ((train, 6), (test, 4)):
        image, label = images[n - 1]
        assert (len(images), image.size, label) == (n, (28, 28), 1)
        assert np.unique(np.array(image)) == n


@pytest.mark.parametrize(
    ("name", "stands_in_for", "file"),
    [
        ("cifar10", "CIFAR10", "cifar-10-python.tar.gz"),
        ("cifar100", "CIFAR100", "cifar-100-python.tar.gz"),
        ("fashion-mnist", "FashionMNIST", "the four .gz files"),
        ("stl10", "STL10", "stl10_binary.tar.gz"),
    ],
)
@pytest.mark.parametrize("error", [URLError("no network"), RuntimeError("no network")])
def test_sets_that_cannot_be_fetched(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    stands_in_for: str,
    file: str,
    error: Exception,
) -> None:
    class Fails(getattr(published, stands_in_for)):
        def __init__(self, *_: object, **__: object) -> None:
            raise error

    monkeypatch.setattr(published, stands_in_for, Fails)
    with pytest.raises(ValueError, match=f"data_dir: {name} is not in .*no network") as raised:
        load_images(name, tmp_path)
    assert re.search(rf"Get .*{re.escape(file)}.* and put it into {tmp_path}", str(raised.value))


@pytest.fixture
def stl10(tmp_path: Path) -> Path:
    """Files of STL10's sizes that take up little room: all but a few images are holes."""
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name, size in published._STL10_BYTES.items():
        with open(folder / name, "wb") as file:
            if name.endswith("y.bin"):
                file.write(generator.integers(1, 11, size, dtype=np.uint8).tobytes())
                continue
            file.write(generator.integers(0, 256, 27648, dtype=np.uint8).tobytes())
            file.seek(size - 27648)
            file.write(generator.integers(0, 256, 27648, dtype=np.uint8).tobytes())
    return tmp_path


def never(*_: object, **__: object) -> None:
    raise AssertionError("torchvision would load all into memory")


def test_stl10_is_mapped(stl10: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published.STL10, "__init__", never)
    splits = load_images("stl10", stl10)
    assert [len(images) for images in splits] == [105_000, 5_000, 8_000]
    folder = stl10 / "stl10_binary"
    train, unlabeled, test = (
        np.memmap(folder / f"{name}_X.bin", np.uint8, "r").reshape(-1, 3, 96, 96)
        for name in ("train", "unlabeled", "test")
    )
    train_labels, test_labels = (
        np.fromfile(folder / f"{n}_y.bin", np.uint8) for n in ("train", "test")
    )
    for images, index, pixels, label in (
        (splits.pretrain, 0, train[0], train_labels[0] - 1),
        (splits.pretrain, 4_999, train[-1], train_labels[-1] - 1),
        (splits.pretrain, 5_000, unlabeled[0], -1),
        (splits.pretrain, 104_999, unlabeled[-1], -1),
        (splits.train, 4_999, train[-1], train_labels[-1] - 1),
        (splits.test, 0, test[0], test_labels[0] - 1),
        (splits.test, 7_999, test[-1], test_labels[-1] - 1),
    ):
        image, found = images[index]
        # As torchvision does: rows and columns swapped, then channels last.
        expected = np.transpose(np.transpose(pixels, (0, 2, 1)), (1, 2, 0))
        assert image.mode == "RGB"
        assert np.array_equal(np.array(image), expected)
        assert found == label
        copy = pickle.loads(pickle.dumps(images))
        assert np.array_equal(np.array(copy[index][0]), expected)
    assert splits.pretrain.image_sizes() == [(96, 96)]
    assert len(pickle.dumps(splits)) < 5e6
    with pytest.raises(IndexError):
        splits.test[8_000]


@pytest.mark.parametrize("name", ["unlabeled_X.bin", "test_y.bin"])
def test_stl10_with_a_wrong_file(stl10: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    file = stl10 / "stl10_binary" / name
    right = file.stat().st_size
    with open(file, "r+b") as opened:
        opened.truncate(right - 1)
    fetched = []
    monkeypatch.setattr(published.STL10, "__init__", lambda *_, **__: fetched.append(1))
    with pytest.raises(
        ValueError, match=f"stl10 .* {file} has {right - 1} bytes, expected {right}"
    ):
        load_images("stl10", stl10)
    assert fetched
    file.unlink()
    with pytest.raises(ValueError, match=f"stl10 .* {file} is missing"):
        load_images("stl10", stl10)


def test_imagenet(tmp_path: Path) -> None:
    write(tmp_path, "train/n2/b.JPEG", "train/n1/a.JPEG", "train/n3/c.JPEG", "train/n1/d.JPEG")
    pretrain, train, test = load_images("imagenet100", tmp_path)
    assert (len(pretrain), train, test) == (4, None, None)

    write(tmp_path, "val/n3/e.JPEG", "val/n1/f.JPEG", "val/n2/g.JPEG")
    pretrain, train, test = load_images("imagenet100", tmp_path)
    assert names(pretrain, tmp_path / "train") == [
        "n1/a.JPEG",
        "n1/d.JPEG",
        "n2/b.JPEG",
        "n3/c.JPEG",
    ]
    assert names(train, tmp_path) == names(pretrain, tmp_path)
    assert train.labels.tolist() == [0, 0, 1, 2]
    assert names(test, tmp_path / "val") == ["n1/f.JPEG", "n2/g.JPEG", "n3/e.JPEG"]
    assert test.labels.tolist() == [0, 1, 2]
    assert pretrain.image_sizes() == [(5, 7), (7, 9), (4, 6), (6, 8)]


def test_imagenet_of_some_classes(tmp_path: Path) -> None:
    write(tmp_path, *(f"{part}/n{i}/{i}.JPEG" for part in ("train", "val") for i in range(4)))
    chosen = tmp_path / "hundred.txt"
    chosen.write_text("# a few\nn3\n\n  n1  \n")
    pretrain, train, test = load_images("imagenet100", tmp_path, class_names=chosen)
    assert names(pretrain, tmp_path) == ["train/n3/3.JPEG", "train/n1/1.JPEG"]
    assert names(test, tmp_path) == ["val/n3/3.JPEG", "val/n1/1.JPEG"]
    assert train.labels.tolist() == test.labels.tolist() == [0, 1]

    chosen.write_text("n3\nn7\n")
    with pytest.raises(ValueError, match=r"data_dir: .*train has no folder for the class 'n7'"):
        load_images("imagenet100", tmp_path, class_names=chosen)
    write(tmp_path, "train/n7/1.png")
    with pytest.raises(ValueError, match=r"data_dir: .*val has no folder for the class 'n7'"):
        load_images("imagenet100", tmp_path, class_names=chosen)
    for text in ("# none\n", "n1\nn1\n"):
        chosen.write_text(text)
        with pytest.raises(ValueError, match="class_names: expected folder names, each once, in"):
            load_images("imagenet100", tmp_path, class_names=chosen)
    with pytest.raises(ValueError, match="class_names: expected a text file, got .*nowhere"):
        load_images("imagenet100", tmp_path, class_names=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="class_names: expected None with 'folder'"):
        load_images("folder", tmp_path, class_names=chosen)


def test_imagenet_laid_out_otherwise(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data_dir: expected a folder of images, got None"):
        load_images("imagenet100")
    with pytest.raises(ValueError, match=r"data_dir: expected .*train with class folders"):
        load_images("imagenet100", tmp_path)
    write(tmp_path, "train/a.png")
    with pytest.raises(ValueError, match=r"data_dir: expected class folders .* in .*train"):
        load_images("imagenet100", tmp_path)
    write(tmp_path, "train/n1/a.png", "val/a.png")
    with pytest.raises(ValueError, match=r"data_dir: expected class folders .* in .*val"):
        load_images("imagenet100", tmp_path)
    write(tmp_path, "val/n2/a.png")
    with pytest.raises(ValueError, match=r"val has class folders that .*train lacks: \['n2'\]"):
        load_images("imagenet100", tmp_path)


def test_folder_of_class_folders(tmp_path: Path) -> None:
    write(tmp_path, *(f"dogs/deep/{i}.png" for i in range(6)), *(f"cats/{i}.png" for i in range(6)))
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").touch()
    pretrain, train, test = load_images("folder", tmp_path)
    assert len(pretrain) == 12
    assert names(test, tmp_path) == ["cats/0.png", "cats/5.png", "dogs/deep/4.png"]
    assert test.labels.tolist() == [0, 0, 1]
    assert sorted([*train.indices, *test.indices]) == list(range(12))
    assert pretrain.labels.tolist() == [0] * 6 + [1] * 6


@pytest.mark.parametrize("held_out", ["val", "test"])
def test_folder_with_parts(tmp_path: Path, held_out: str) -> None:
    write(tmp_path, "train/b/1.png", "train/a/2.png", f"{held_out}/b/3.png")
    pretrain, train, test = load_images("folder", tmp_path)
    assert names(pretrain, tmp_path) == names(train, tmp_path) == ["train/a/2.png", "train/b/1.png"]
    assert names(test, tmp_path) == [f"{held_out}/b/3.png"]
    assert test[0][1] == 1


@pytest.mark.parametrize(
    "files",
    [
        ("1.png", "2.png"),
        ("a/1.png", "b/2.png", "3.png"),
        ("photos/a/1.png", "photos/b/2.png"),
        ("train/1.png",),
    ],
    ids=["flat", "mixed", "one folder", "only train"],
)
def test_folder_without_classes(tmp_path: Path, files: tuple[str, ...]) -> None:
    write(tmp_path, *files)
    pretrain, train, test = load_images("folder", tmp_path)
    assert sorted(names(pretrain, tmp_path)) == sorted(files)
    assert pretrain[0][1] == -1
    assert train is test is None


def test_folder_whose_path_is_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a/1.png", "b/2.png")
    monkeypatch.chdir(tmp_path)
    assert load_images("folder", Path()).pretrain.labels.tolist() == [0, 1]


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data_dir: expected a folder of images, got None"):
        load_images("folder")
    with pytest.raises(ValueError, match="data_dir: expected a folder of images, got nowhere"):
        load_images("folder", Path("nowhere"))
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/one.txt").write_text("no image")
    with pytest.raises(ValueError, match="data_dir: expected a folder of images, found none in"):
        load_images("folder", tmp_path)
    with pytest.raises(ValueError, match="dataset: expected one of .*got 'svhn'"):
        load_images("svhn")


@pytest.mark.parametrize("cached", [False, True])
def test_unreadable_images(tmp_path: Path, cached: bool) -> None:
    root, cache = tmp_path / "photos", tmp_path / "cache" if cached else None
    write(root, *(f"{'ab'[i // 10]}/{i:02}.png" for i in range(20)))
    before = load_images("folder", root)
    for name in ("a/05.png", "b/12.png"):
        (root / name).write_bytes(b"")
    if not cached:
        with pytest.raises(ValueError, match="05.png cannot be read: the file is empty; restore"):
            load_images("folder", root).pretrain[5]
    with pytest.warns(UserWarning, match=r"2 of 20 images cannot be read .*05.png \(the file is"):
        splits = load_images("folder", root, skip_unreadable=True, cache=cache)
    # No image moves from one part to another.
    for images, all_images in zip(splits, before, strict=True):
        assert images.indices.tolist() == [i for i in all_images.indices if i not in (5, 12)]
        assert all(images[i][1] == images.indices[i] // 10 for i in range(len(images)))
    assert len(splits.pretrain.image_sizes()) == 18


def test_a_part_without_readable_images(tmp_path: Path) -> None:
    write(tmp_path, "train/a/1.png", "val/a/2.png")
    (tmp_path / "val/a/2.png").write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="1 of 2 images"),
        pytest.raises(ValueError, match="data_dir: none of 1 images from .*val/a/2.png on can be"),
    ):
        load_images("folder", tmp_path, skip_unreadable=True)


def test_sizes_of_a_sample(tmp_path: Path) -> None:
    write(tmp_path, *(f"{i}.png" for i in range(9)))
    images = load_images("folder", tmp_path).pretrain
    assert images.image_sizes(3) == [(4, 6), (8, 10), (12, 14)]
    assert len(images.image_sizes()) == 9
    assert images.part(np.array([7, 8])).image_sizes() == [(11, 13), (12, 14)]
    with pytest.raises(ValueError, match="max_count: expected at least 1, got 0"):
        images.image_sizes(0)
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="data_dir: none of 9 images' headers can be read"):
        images.image_sizes()
