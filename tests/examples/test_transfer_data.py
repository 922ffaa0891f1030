"""Validation parts, and the data sets that come without annotation files."""

import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100

from star_head.evaluation.labels import draw
from star_head.examples.data import image_data, published, transfer_data
from star_head.examples.data.available import available
from star_head.examples.data.stratified import hold_out
from star_head.examples.data.transfer_data import TransferData, TransferName, load_transfer


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / name)


def counts(data: TransferData) -> tuple[list[int], list[int], list[int]]:
    """Images of each class to fit on, to choose by, and to measure on."""
    parts = data.train.labels[: data.train_count], data.train.labels[data.train_count :]
    return tuple(np.bincount(part).tolist() for part in (*parts, data.test.labels))


@pytest.mark.parametrize(
    ("name", "sizes", "count"),
    [
        ("cifar10", [5_000] * 10, 5_000),
        ("cifar100", [500] * 100, 5_000),
        ("food101", [750] * 101, 7_575),
        ("pets", [100] * 35 + [93, 87], 740),
        ("cars", [41] * 108 + [42] * 88 + [20], 1_650),
        ("mit67", [80] * 67, 670),
        ("stl10", [500] * 10, 500),
        ("imagenet100", [1_300] * 90 + [969] * 9 + [968], 12_669),
        ("fashion-mnist", [6_000] * 10, 5_000),
        ("sun397", [50] * 397, 3_970),
    ],
)
def test_validation_counts(name: TransferName, sizes: list[int], count: int) -> None:
    """Of each set's number of training images, though not always of its sizes of classes."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    images, of = transfer_data._VALIDATION.get(name, (1, 5))
    if name == "cars":
        labels = labels[: transfer_data._VALIDATION["cars"][1]]
    assert round(len(labels) * images / of) == count
    rest, held_out = hold_out(labels, count)
    assert len(held_out) == count
    assert np.array_equal(np.sort(np.concatenate([rest, held_out])), np.arange(len(labels)))
    shares = np.bincount(labels) * count / len(labels)
    assert np.abs(np.bincount(labels[held_out]) - shares).max() < 1


def test_each_class_is_in_both_parts() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        sizes = generator.integers(1, 30, size=generator.integers(2, 20))
        sizes[generator.integers(len(sizes))] = 2
        labels = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
        count = int(generator.integers(1, len(labels)))
        rest, held_out = hold_out(labels, count)
        # What is possible: one of each class that has two, and all but one of each.
        least, most = (sizes > 1).sum(), (sizes - 1).sum()
        assert len(held_out) == min(max(count, least), most)
        assert set(labels[rest]) == set(range(len(sizes)))
        assert set(labels[held_out]) == set(np.flatnonzero(sizes > 1))
        assert not set(rest) & set(held_out)
        again = hold_out(labels, count)
        assert np.array_equal(again[0], rest)
        assert np.array_equal(again[1], held_out)


def test_what_is_drawn_is_no_block() -> None:
    drawn, _ = draw(np.repeat([0, 1], 100), np.array([50, 20]))
    assert len(set(np.diff(drawn))) > 2
    with pytest.raises(ValueError, match="expected at least 4 of class 1, got 3"):
        draw(np.array([0, 1, 1, 1]), np.array([1, 4]))


def test_digits() -> None:
    data = load_transfer("digits")
    assert (len(data.train), data.train_count, len(data.test)) == (1437, 1150, 360)
    assert (data.num_classes, data.metric) == (10, "top-1")
    splits = image_data.load_images("digits")
    assert sorted(data.train.indices) == splits.train.indices.tolist()
    assert data.test.fingerprint() == splits.test.fingerprint()
    for i in (0, 700, 1436):
        pixels, label = data.train[i]
        found = np.flatnonzero(splits.train.indices == data.train.indices[i])[0]
        expected, expected_label = splits.train[int(found)]
        assert np.array_equal(np.array(pixels), np.array(expected))
        assert label == expected_label
    assert load_transfer("digits", Path()).train.fingerprint() == data.train.fingerprint()


def test_folder_of_class_folders(tmp_path: Path) -> None:
    write(tmp_path, *(f"{c}/{i:02}.png" for c in "abc" for i in range(20)))
    data = load_transfer("folder", tmp_path)
    assert counts(data) == ([12, 13, 13], [4, 3, 3], [4, 4, 4])
    assert (data.num_classes, data.metric) == (3, "top-1")
    assert data.train.fingerprint() == load_transfer("folder", tmp_path).train.fingerprint()


def test_folder_with_two_parts(tmp_path: Path) -> None:
    write(tmp_path, *(f"train/{c}/{i}.png" for c in "ab" for i in range(10)), "test/b/1.png")
    assert counts(load_transfer("folder", tmp_path)) == ([8, 8], [2, 2], [0, 1])


def test_folder_with_three_parts(tmp_path: Path) -> None:
    write(tmp_path, *(f"train/{c}/{i}.png" for c in "ab" for i in range(5)))
    write(
        tmp_path, *(f"{part}/{c}/{i}.png" for part in ("val", "test") for c in "ab" for i in "12")
    )
    data = load_transfer("folder", tmp_path)
    assert counts(data) == ([5, 5], [2, 2], [2, 2])
    parts = [data.train.source._path(i).relative_to(tmp_path).parts[0] for i in data.train.indices]
    assert parts == ["train"] * 10 + ["val"] * 4
    write(tmp_path, "val/c/1.png")
    with pytest.raises(ValueError, match="validation images of classes .* not among its 2: 'c'"):
        load_transfer("folder", tmp_path)


def test_folders_that_do_not_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dataset: expected one of .*, got 'svhn'"):
        load_transfer("svhn", tmp_path)
    with pytest.raises(ValueError, match="data_dir: expected a folder of images, got"):
        load_transfer("folder", tmp_path / "nowhere")
    write(tmp_path / "flat", "1.png", "2.png")
    with pytest.raises(ValueError, match="data_dir: expected class folders in"):
        load_transfer("folder", tmp_path / "flat")
    write(tmp_path / "single", "train/a/1.png", "train/b/1.png", "val/a/2.png")
    with pytest.raises(ValueError, match="a class of two training images or more in folder"):
        load_transfer("folder", tmp_path / "single")
    write(tmp_path / "gap", "train/a/1.png", "train/a/2.png", "train/c/1.png", "val/a/2.png")
    (tmp_path / "gap/train/b").mkdir()
    with pytest.raises(ValueError, match="folder has no training images of class 'b'"):
        load_transfer("folder", tmp_path / "gap")
    names = [f"train/{c}/{i}.png" for c in "ab" for i in range(2)]
    write(tmp_path / "more", *names, "val/c/2.png")
    (tmp_path / "more/train/c").mkdir()
    with pytest.raises(ValueError, match="test images of class 2 and training images of 2 class"):
        load_transfer("folder", tmp_path / "more")
    write(tmp_path / "one", "train/a/1.png", "train/a/2.png", "val/a/2.png")
    with pytest.raises(ValueError, match="expected two classes or more in folder, got 1"):
        load_transfer("folder", tmp_path / "one")


def test_imagenet(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"imagenet100 is not in {tmp_path}/imagenet100\nGet ILS"):
        load_transfer("imagenet100", tmp_path)
    write(tmp_path / "imagenet100", *(f"train/n{c}/{i}.JPEG" for c in "01" for i in range(20)))
    with pytest.raises(ValueError, match="expected class folders in .*imagenet100"):
        load_transfer("imagenet100", tmp_path)
    assert available(tmp_path) == []
    write(tmp_path / "imagenet100", *(f"val/n{c}/{i}.JPEG" for c in "01" for i in range(5)))
    assert counts(load_transfer("imagenet100", tmp_path)) == ([18, 18], [2, 2], [5, 5])
    assert available(tmp_path) == ["imagenet100"]


def test_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of its size, in its format."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for file, _ in (*CIFAR10.train_list, *CIFAR10.test_list):
        pixels = generator.integers(256, size=(100, 3072), dtype=np.uint8)
        labels = (np.arange(100) % 10).tolist()
        (folder / file).write_bytes(pickle.dumps({"data": pixels, "labels": labels}))
    assert available(tmp_path) == []
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    assert available(tmp_path) == ["cifar10"]
    # It would compare digests with those of the published files.
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    data = load_transfer("cifar10", tmp_path)
    assert counts(data) == ([45] * 10, [5] * 10, [10] * 10)
    assert data.metric == "top-1"


def test_fashion_mnist(tmp_path: Path) -> None:
    for part, n in (("train", 120), ("t10k", 30)):
        for kind, array in (
            ("images-idx3", np.zeros((n, 28, 28), np.uint8)),
            ("labels-idx1", (np.arange(n) % 10).astype(np.uint8)),
        ):
            assert available(tmp_path) == []
            header = bytes([0, 0, 8, array.ndim])
            header += b"".join(length.to_bytes(4, "big") for length in array.shape)
            file = tmp_path / f"{part}-{kind}-ubyte.gz"
            file.write_bytes(gzip.compress(header + array.tobytes()))
    assert available(tmp_path) == ["fashion-mnist"]
    data = load_transfer("fashion-mnist", tmp_path)
    assert counts(data) == ([11] * 10, [1] * 10, [3] * 10)
    assert data.train.labels.dtype == np.int64
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for file in tmp_path.glob("*.gz"):
        (raw / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    assert available(tmp_path) == ["fashion-mnist"]
    assert counts(load_transfer("fashion-mnist", tmp_path)) == counts(data)


def test_stl10(tmp_path: Path) -> None:
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    for name, size in published._STL10_BYTES.items():
        assert available(tmp_path) == []
        with open(folder / name, "wb") as file:
            if name.endswith("y.bin"):
                file.write((np.arange(size) % 10 + 1).astype(np.uint8).tobytes())
            file.truncate(size)
    assert available(tmp_path) == ["stl10"]
    assert counts(load_transfer("stl10", tmp_path)) == ([450] * 10, [50] * 10, [800] * 10)


def test_sets_that_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class StandIn(CIFAR100):
        def __init__(self, root: Path, train: bool, download: bool) -> None:
            assert download
            n = 1000 if train else 100
            self.data, self.targets = np.zeros((n, 32, 32, 3), np.uint8), np.arange(n) % 100

    monkeypatch.setattr(published, "CIFAR100", StandIn)
    assert available(tmp_path) == []
    data = load_transfer("cifar100", tmp_path)
    assert counts(data) == ([9] * 100, [1] * 100, [1] * 100)
