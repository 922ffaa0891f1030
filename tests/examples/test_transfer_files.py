"""Data sets of annotated image files: small trees in the published formats."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

from star_head.examples.data.available import available
from star_head.examples.data.image_data import Images
from star_head.examples.data.transfer_data import TransferData, load_transfer
from star_head.examples.data.transfer_files import ListedName, read_listing

CLASSES = ("ant", "bee", "cat")


def write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path)


def write_lines(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def write_listed(images: Path, lists: dict[Path, int]) -> None:
    """So many images of each class for each list, which names them as CLASS/IMAGE."""
    for file, each in lists.items():
        names = [f"{c}/{file.stem}_{i}.jpg" for c in CLASSES for i in range(each)]
        write_lines(file, names[::-1])
        for name in names:
            write_image(images / name)


def food101(root: Path) -> None:
    folder = root / "food-101"
    for part, each in (("train", 10), ("test", 4)):
        listed = {c: [f"{c}/{part}{i}" for i in range(each)] for c in CLASSES[::-1]}
        write_lines(folder / "meta" / f"{part}.json", [json.dumps(listed)])
        for images in listed.values():
            for image in images:
                write_image(folder / "images" / f"{image}.jpg")


def mit67(root: Path) -> None:
    folder = root / "mit67"
    lists = {folder / "TrainImages.txt": 16, folder / "TestImages.txt": 4}
    write_listed(folder / "Images", lists)


def pets(root: Path) -> None:
    folder = root / "oxford-iiit-pet"
    for part, each in (("trainval", 10), ("test", 5)):
        names = [(f"{c}_{part}{i}", n) for n, c in enumerate(CLASSES, 1) for i in range(each)]
        write_lines(folder / "annotations" / f"{part}.txt", [f"{x} {n} 1 {n}" for x, n in names])
        for name, _ in names:
            write_image(folder / "images" / f"{name}.jpg")


def flowers102(root: Path) -> None:
    folder = root / "flowers-102"
    for i in range(30):
        write_image(folder / "jpg" / f"image_{i + 1:05}.jpg")
    savemat(folder / "imagelabels.mat", {"labels": np.arange(30, dtype=np.uint8)[None] % 3 + 1})
    order = np.random.default_rng(0).permutation(30).astype(np.uint16) + 1
    # Whole classes in turn, so that each is in each part.
    order = order[np.argsort((order - 1) // 3 % 3, kind="stable")]
    parts = {"trnid": order[None, :12], "valid": order[None, 12:21], "tstid": order[None, 21:]}
    savemat(folder / "setid.mat", parts)


def caltech101(root: Path) -> None:
    folder = root / "caltech101" / "101_ObjectCategories"
    for c, count in zip((*CLASSES, "BACKGROUND_Google"), (31, 40, 50, 35), strict=True):
        for i in range(count):
            write_image(folder / c / f"image_{i + 1:04}.jpg")


def cars(root: Path) -> None:
    folder = root / "stanford_cars"
    kind = [(k, np.int32) for k in ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class")]
    for part, each in (("train", 10), ("test", 4)):
        names = [f"{i:05}.jpg" for i in range(1, 3 * each + 1)]
        annotations = np.zeros((1, len(names)), [*kind, ("fname", object)])
        annotations["class"] = np.arange(len(names)) % 3 + 1
        annotations["fname"] = names
        for name in names:
            write_image(folder / f"cars_{part}" / name)
        (folder / "devkit").mkdir(exist_ok=True)
        inside = part == "train"
        file = "devkit/cars_train_annos.mat" if inside else "cars_test_annos_withlabels.mat"
        savemat(folder / file, {"annotations": annotations})
    savemat(folder / "devkit/cars_meta.mat", {"class_names": np.array([CLASSES], object)})


def aircraft(root: Path) -> None:
    data = root / "fgvc-aircraft-2013b" / "data"
    write_lines(data / "variants.txt", ["cat", "ant", "bee 100"])
    number = 0
    for part, each in (("train", 4), ("val", 3), ("test", 5)):
        lines = []
        for i in range(3 * each):
            number += 1
            lines.append(f"{number:07} {('ant', 'bee 100', 'cat')[i % 3]}")
            write_image(data / "images" / f"{number:07}.jpg")
        write_lines(data / f"images_variant_{part}.txt", lines)


def dtd(root: Path) -> None:
    data = root / "dtd" / "dtd"
    lists = {data / "labels" / f"{part}1.txt": 4 for part in ("train", "val", "test")}
    write_listed(data / "images", lists)


def sun397(root: Path) -> None:
    folder = root / "SUN397"
    classes = ("/a/abbey", "/a/apse/indoor", "/b/bar")
    write_lines(folder / "ClassName.txt", classes)
    for part, each in (("Training", 10), ("Testing", 5)):
        images = [f"{c}/sun_{part.lower()}{i}.jpg" for c in classes for i in range(each)]
        write_lines(folder / f"{part}_01.txt", images)
        for image in images:
            write_image(folder / image[1:])


TREES: dict[ListedName, Callable[[Path], None]] = {
    "food101": food101,
    "mit67": mit67,
    "pets": pets,
    "flowers102": flowers102,
    "caltech101": caltech101,
    "cars": cars,
    "aircraft": aircraft,
    "dtd": dtd,
    "sun397": sun397,
}

# Images of each class to fit on, to choose by, and to measure on.
COUNTS: dict[ListedName, tuple[list[int], list[int], list[int]]] = {
    "food101": ([9] * 3, [1] * 3, [4] * 3),
    "mit67": ([14] * 3, [2] * 3, [4] * 3),
    "pets": ([8] * 3, [2] * 3, [5] * 3),
    "flowers102": ([4] * 3, [3] * 3, [3] * 3),
    "caltech101": ([25] * 3, [5] * 3, [1, 10, 20]),
    "cars": ([8] * 3, [2] * 3, [4] * 3),
    "aircraft": ([4] * 3, [3] * 3, [5] * 3),
    "dtd": ([4] * 3, [4] * 3, [4] * 3),
    "sun397": ([8] * 3, [2] * 3, [5] * 3),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One root with all sets; read only."""
    root = tmp_path_factory.mktemp("data")
    for write in TREES.values():
        write(root)
    return root


def paths(images: Images) -> list[str]:
    return [str(images.source._path(i)) for i in images.indices]


def parts(data: TransferData) -> tuple[Images, Images, Images]:
    count = data.train_count
    everything = np.arange(len(data.train))
    return data.train.part(everything[:count]), data.train.part(everything[count:]), data.test


@pytest.mark.parametrize("name", get_args(ListedName))
def test_counts_and_parts(root: Path, name: ListedName) -> None:
    data = load_transfer(name, root)
    assert data.num_classes == 3
    for images, counts in zip(parts(data), COUNTS[name], strict=True):
        assert np.bincount(images.labels).tolist() == counts
    seen = [path for images in parts(data) for path in paths(images)]
    assert len(set(seen)) == len(seen)
    assert "BACKGROUND_Google" not in "".join(seen)
    own = name in ("aircraft", "caltech101", "flowers102", "pets")
    assert data.metric == ("mean per class" if own else "top-1")
    image, label = data.test[0]
    assert image.size == (4, 4)
    assert label == data.test.labels[0]
    again = load_transfer(name, root)
    assert again.train.fingerprint() == data.train.fingerprint()
    assert again.test.fingerprint() == data.test.fingerprint()
    assert again.train_count == data.train_count


def by_torchvision(name: ListedName, root: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Labels of the training and validation images, and of the test images, by path."""
    wanted: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
        "food101": (datasets.Food101, {"split": "train"}, {"split": "test"}),
        "pets": (datasets.OxfordIIITPet, {"split": "trainval"}, {"split": "test"}),
        "cars": (datasets.StanfordCars, {"split": "train"}, {"split": "test"}),
        "aircraft": (datasets.FGVCAircraft, {"split": "trainval"}, {"split": "test"}),
    }
    dataset, *splits = wanted[name]
    found = []
    for arguments in splits:
        loaded = dataset(root, **arguments)
        if name == "cars":
            found.append(dict(loaded._samples))
        else:
            files = loaded._images if name == "pets" else loaded._image_files
            found.append({str(p): c for p, c in zip(files, loaded._labels, strict=True)})
    return found[0], found[1]


def labels_by_path(*images: Images) -> dict[str, int]:
    return {p: int(c) for i in images for p, c in zip(paths(i), i.labels, strict=True)}


@pytest.mark.parametrize("name", ["food101", "pets", "cars"])
def test_labels_are_torchvisions(root: Path, name: ListedName) -> None:
    train, test = by_torchvision(name, root)
    data = load_transfer(name, root)
    assert labels_by_path(data.train) == train
    assert labels_by_path(data.test) == test


@pytest.mark.parametrize("name", ["flowers102", "aircraft", "dtd"])
def test_own_validation_parts_are_torchvisions(
    root: Path, name: ListedName, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset: Any = {
        "flowers102": datasets.Flowers102,
        "aircraft": datasets.FGVCAircraft,
        "dtd": datasets.DTD,
    }[name]
    # Flowers102 compares digests with those of the published annotation files.
    monkeypatch.setattr(datasets.flowers102, "check_integrity", lambda *_: True)
    for images, split in zip(
        parts(load_transfer(name, root)), ("train", "val", "test"), strict=True
    ):
        loaded = dataset(root, split=split)
        files = [str(path) for path in loaded._image_files]
        assert labels_by_path(images) == dict(zip(files, loaded._labels, strict=True))


def test_labels_of_sets_without_parts_are_torchvisions(root: Path) -> None:
    data = load_transfer("sun397", root)
    loaded = datasets.SUN397(root)
    expected = dict(zip(map(str, loaded._image_files), loaded._labels, strict=True))
    assert labels_by_path(data.train, data.test) == expected

    data = load_transfer("caltech101", root)
    loaded = datasets.Caltech101(root)
    folder = root / "caltech101" / "101_ObjectCategories"
    expected = {
        str(folder / loaded.categories[c] / f"image_{i:04}.jpg"): c
        for c, i in zip(loaded.y, loaded.index, strict=True)
    }
    assert labels_by_path(data.train, data.test) == expected


# A file of each set without which it cannot be read.
ANNOTATIONS: dict[ListedName, str] = {
    "food101": "food-101/meta/test.json",
    "mit67": "mit67/TestImages.txt",
    "pets": "oxford-iiit-pet/annotations/test.txt",
    "flowers102": "flowers-102/setid.mat",
    "cars": "stanford_cars/devkit/cars_meta.mat",
    "aircraft": "fgvc-aircraft-2013b/data/variants.txt",
    "dtd": "dtd/dtd/labels/val1.txt",
    "sun397": "SUN397/Training_01.txt",
}


@pytest.mark.parametrize("name", ANNOTATIONS)
def test_missing_and_broken_annotations(tmp_path: Path, name: ListedName) -> None:
    with pytest.raises(ValueError, match=f"data_dir: {name} lacks {tmp_path}/.*\n.*{tmp_path}"):
        load_transfer(name, tmp_path)
    TREES[name](tmp_path)
    file = tmp_path / ANNOTATIONS[name]
    if name != "aircraft":
        file.write_bytes(b"}\xff\0 nothing\n")
        with pytest.raises(ValueError, match=f"data_dir: {name}(: {file} is not|.* lacks .* im)"):
            load_transfer(name, tmp_path)
    for content in (b"<html><body>404 Not Found</body></html>\n", b"\x1f\x8b\x08\xff\xfe"):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=f"data_dir: {name}: {file} is not as published: "):
            load_transfer(name, tmp_path)
    file.unlink()
    with pytest.raises(ValueError, match=f"data_dir: {name} lacks {file}\n"):
        load_transfer(name, tmp_path)


# A list and the one that was saved under its name, and what is said.
SWAPPED: dict[ListedName, tuple[str, str, str]] = {
    "food101": ("food-101/meta/train.json", "food-101/meta/test.json", "in its training and"),
    "mit67": ("mit67/TestImages.txt", "mit67/TrainImages.txt", "in its training and in its test"),
    "pets": (
        "oxford-iiit-pet/annotations/trainval.txt",
        "oxford-iiit-pet/annotations/test.txt",
        "in its training and in its test",
    ),
    "flowers102": ("flowers-102/imagelabels.mat", "flowers-102/setid.mat", "expected 'labels'"),
    "cars": (
        "stanford_cars/devkit/cars_train_annos.mat",
        "stanford_cars/cars_test_annos_withlabels.mat",
        "cars_train_annos.mat is not as published: it lists 12 images, and cars_train has 30",
    ),
    "aircraft": (
        "fgvc-aircraft-2013b/data/images_variant_test.txt",
        "fgvc-aircraft-2013b/data/images_variant_val.txt",
        "in its test and in its validation images",
    ),
    "dtd": ("dtd/dtd/labels/train1.txt", "dtd/dtd/labels/test1.txt", "in its training and"),
    "sun397": ("SUN397/Testing_01.txt", "SUN397/Training_01.txt", "in its training and in its"),
}


@pytest.mark.parametrize("name", SWAPPED)
def test_a_file_under_the_name_of_another(tmp_path: Path, name: ListedName) -> None:
    TREES[name](tmp_path)
    file, other, said = SWAPPED[name]
    (tmp_path / file).write_bytes((tmp_path / other).read_bytes())
    with pytest.raises(ValueError, match=f"data_dir: {name}.*{said}"):
        load_transfer(name, tmp_path)


def test_how_to_get_it(tmp_path: Path) -> None:
    fetch = f"from torchvision.datasets import Food101; Food101('{tmp_path}', download=True)"
    with pytest.raises(ValueError, match=re.escape(f'To fetch it: python -c "{fetch}"')):
        load_transfer("food101", tmp_path)
    compile(fetch, "what the user runs", "exec")
    with pytest.raises(ValueError, match=rf"Get indoorCVPR_09.tar, .* into {tmp_path}/mit67"):
        load_transfer("mit67", tmp_path)
    with pytest.raises(ValueError, match=rf"from a mirror, .* into {tmp_path}/stanford_cars"):
        load_transfer("cars", tmp_path)
    with pytest.raises(ValueError, match=r"(?s)SUN397\(.*Training_01.txt .*/Partitions.zip"):
        load_transfer("sun397", tmp_path)


def test_missing_images(tmp_path: Path) -> None:
    dtd(tmp_path)
    images = tmp_path / "dtd/dtd/images"
    for name in ("bee/val1_0.jpg", "cat/val1_3.jpg"):
        (images / name).unlink()
    # As listed, from the last on.
    with pytest.raises(
        ValueError, match="dtd lacks 2 of 12 validation images, first .*cat/val1_3.jpg\nTo fetch it"
    ):
        load_transfer("dtd", tmp_path)


@pytest.mark.parametrize("part", ["training", "validation", "test"])
def test_a_class_that_is_absent_from_a_part(tmp_path: Path, part: str) -> None:
    aircraft(tmp_path)
    key = {"training": "train", "validation": "val", "test": "test"}[part]
    file = tmp_path / f"fgvc-aircraft-2013b/data/images_variant_{key}.txt"
    lines = file.read_text().splitlines()
    write_lines(file, [line for line in lines if not line.endswith("ant")])
    with pytest.raises(ValueError, match=f"aircraft has no {part} images of classes 'ant'"):
        load_transfer("aircraft", tmp_path)
    write_lines(file, [])
    with pytest.raises(ValueError, match=f"aircraft has no {part} images\nTo fetch it"):
        load_transfer("aircraft", tmp_path)
    write_lines(file, [*lines, f"{lines[0].split()[0]} dog"])
    with pytest.raises(ValueError, match=f"{part} images of classes .* not among its 3: 'dog'"):
        load_transfer("aircraft", tmp_path)


def test_labels_out_of_range(tmp_path: Path) -> None:
    pets(tmp_path)
    file = tmp_path / "oxford-iiit-pet/annotations/test.txt"
    image = file.read_text().split()[0]
    for label in (0, 4):
        write_lines(file, [*file.read_text().splitlines(), f"{image} {label} 1 1"])
        with pytest.raises(ValueError, match=f"classes that are not among its 3: '{label}'"):
            load_transfer("pets", tmp_path)
        write_lines(file, file.read_text().splitlines()[:-1])


def test_caltech_with_too_few_images(tmp_path: Path) -> None:
    caltech101(tmp_path)
    folder = tmp_path / "caltech101/101_ObjectCategories/ant"
    (folder / "image_0001.jpg").unlink()
    with pytest.raises(ValueError, match="caltech101 has no test images of classes 'ant'"):
        load_transfer("caltech101", tmp_path)
    (folder / "image_0002.jpg").unlink()
    with pytest.raises(ValueError, match="expected at least 30 of class 0, got 29"):
        load_transfer("caltech101", tmp_path)


def test_available(root: Path, tmp_path: Path) -> None:
    assert set(available(root)) == {*TREES}
    assert available(tmp_path) == []
    mit67(tmp_path)
    dtd(tmp_path)
    (tmp_path / "dtd/dtd/labels/test1.txt").unlink()
    with pytest.warns(UserWarning, match="dtd is left out: data_dir: dtd lacks .*test1.txt"):
        assert available(tmp_path) == ["mit67"]


def test_listing_keeps_its_order(root: Path) -> None:
    listing = read_listing("mit67", root)
    lines = (root / "mit67/TrainImages.txt").read_text().split()
    assert [str(path.relative_to(root / "mit67/Images")) for path, _ in listing.train] == lines
