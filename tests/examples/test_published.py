"""Files of published data sets that are not what their names say: they are named, with a remedy."""

import gzip
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR10, CIFAR100, FashionMNIST

from star_head.examples.data import published
from star_head.examples.data.few_shot_data import load_few_shot
from star_head.examples.data.image_data import load_images
from star_head.examples.data.transfer_data import load_transfer

COUNTS = {"train": 24, "t10k": 12}


def idx(array: np.ndarray) -> bytes:
    sizes = b"".join(length.to_bytes(4, "big") for length in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def fashion(part: str, kind: str, count: int | None = None) -> bytes:
    n = COUNTS[part] if count is None else count
    if kind == "images":
        return idx(np.zeros((n, 28, 28), np.uint8))
    return idx((np.arange(n) % 10).astype(np.uint8))


def file_name(part: str, kind: str) -> str:
    return f"{part}-{kind}-idx{3 if kind == 'images' else 1}-ubyte"


@pytest.fixture(params=["beside each other", "unpacked", "as fetched"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str, str, bytes], Path]:
    """Writes one of Fashion-MNIST's files where its reader looks for it; all four are there."""

    def write(part: str, kind: str, content: bytes) -> Path:
        folder = tmp_path / "FashionMNIST/raw"
        if request.param == "beside each other":
            folder = tmp_path
        packed = request.param != "unpacked"
        path = folder / (file_name(part, kind) + (".gz" if packed else ""))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content) if packed else content)
        return path

    for part in COUNTS:
        for kind in ("images", "labels"):
            write(part, kind, fashion(part, kind))
    return write


FASHION: dict[str, tuple[str, str, bytes, str]] = {
    "test labels as training labels": ("train", "labels", fashion("t10k", "labels"), "12 labels"),
    "training images as test images": ("t10k", "images", fashion("train", "images"), "12 labels"),
    "all test labels": ("train", "labels", fashion("t10k", "labels", 10_000), "10000 entries"),
    "images as labels": ("train", "labels", fashion("train", "images"), "magic number"),
    "labels as images": ("t10k", "images", fashion("t10k", "labels"), "magic number"),
    "cut": ("train", "images", fashion("train", "images")[:-1], "its header says"),
    "cut in the header": ("train", "labels", fashion("train", "labels")[:6], "magic number"),
    "empty": ("train", "labels", b"", "magic number"),
    "with more behind": ("t10k", "labels", fashion("t10k", "labels") + b"\0", "its header says"),
    "an error page": ("t10k", "labels", b"<html>404 Not Found</html>", "magic number"),
    "of other images": ("train", "images", idx(np.zeros((24, 32, 32), np.uint8)), "28 x 28"),
    "of 47 classes": ("train", "labels", idx(np.arange(24, dtype=np.uint8)), "labels of 0 to 9"),
}


@pytest.mark.parametrize("case", FASHION)
def test_fashion_mnist(place: Callable[[str, str, bytes], Path], tmp_path: Path, case: str) -> None:
    assert [len(images) for images in load_images("fashion-mnist", tmp_path)] == [24, 24, 12]
    part, kind, content, why = FASHION[case]
    path = place(part, kind, content)
    for load in (load_images, load_transfer):
        with pytest.raises(ValueError, match="data_dir: .* is not Fashion-MNIST's") as raised:
            load("fashion-mnist", tmp_path)
        assert str(path) in str(raised.value)
        assert why in str(raised.value)
        assert f"get the four .gz files at {FashionMNIST.mirrors[0]} anew" in str(raised.value)


@pytest.mark.parametrize(
    "content",
    [b"<html>404</html>", gzip.compress(b"0" * 99)[:-9], b""],
    ids=["page", "cut", "empty"],
)
def test_a_packed_file_that_is_none(tmp_path: Path, content: bytes) -> None:
    for part in COUNTS:
        for kind in ("images", "labels"):
            path = tmp_path / f"{file_name(part, kind)}.gz"
            path.write_bytes(gzip.compress(fashion(part, kind)))
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=f"data_dir: {path} is not Fashion-MNIST's [^$]*get the four"
    ):
        load_images("fashion-mnist", tmp_path)


@pytest.mark.parametrize(("name", "dataset"), [("cifar10", CIFAR10), ("cifar100", CIFAR100)])
def test_cifar(tmp_path: Path, name: str, dataset: type[CIFAR10]) -> None:
    folder = tmp_path / dataset.base_folder
    folder.mkdir()
    files = [file for file, _ in (*dataset.train_list, *dataset.test_list)]
    for file in (*files, dataset.meta["filename"]):
        (folder / file).write_bytes(pickle.dumps("another data set"))
    with pytest.raises(ValueError, match=f"data_dir: not as published.* {folder / files[0]}") as e:
        load_images(name, tmp_path)
    assert f"Delete {folder} and get {dataset.url}" in str(e.value)
    if name == "cifar100":
        with pytest.raises(ValueError, match=f"{folder / 'test'}.*\nDelete"):
            load_few_shot("fc100", tmp_path)


@pytest.mark.parametrize("name", ["train_y.bin", "test_y.bin"])
@pytest.mark.parametrize("label", [0, 11, ord("<")])
def test_labels_of_stl10(tmp_path: Path, name: str, label: int) -> None:
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    for file, size in published._STL10_BYTES.items():
        with open(folder / file, "wb") as opened:
            if file.endswith("y.bin"):
                opened.write(bytes([label if file == name else 1]))
                opened.write(bytes([1]) * (size - 1))
            opened.truncate(size)
    with pytest.raises(ValueError, match=f"{folder / name} is not STL10's .* labels of 1 to 10"):
        load_images("stl10", tmp_path)
