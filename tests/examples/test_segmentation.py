"""Data sets with masks as they lie on disk, and the command on them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from running import output_of, run_here

from star_head.adapters.timm import create_backbone, export_encoder
from star_head.examples.data.mask_data import MaskName, load_masks

COLOURS = np.array([[250, 10, 10], [10, 250, 10], [10, 10, 250]], np.uint8)


def save(path: Path, pixels: np.ndarray, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if mode == "P":
        image = image.convert("L")
        palette = Image.new("P", image.size)
        palette.putpalette([17 * (i % 15) for i in range(768)])
        palette.putdata(list(image.getdata()))
        image = palette
    image.save(path)


def mask_of(seed: int, classes: int = 3, side: int = 16) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, classes, (4, 4))
    return coarse.repeat(side // 4, axis=0).repeat(side // 4, axis=1).astype(np.uint8)


def make_folder(root: Path, parts: tuple[str, ...] = ("",), inner: bool = True) -> None:
    for number, part in enumerate(parts):
        for i in range(8):
            mask = mask_of(10 * number + i)
            for kind, pixels in (("images", COLOURS[mask]), ("masks", mask)):
                place = root / kind / part if inner else root / part / kind
                save(place / f"{i}.png", pixels)


@pytest.mark.parametrize(
    ("parts", "inner", "counts"),
    [
        (("",), True, (7, 1)),
        (("train", "val"), True, (8, 8)),
        (("train", "val", "test"), False, (8, 8)),
        (("Training", "validation"), False, (8, 8)),
    ],
)
def test_a_folder(tmp_path: Path, parts: tuple[str, ...], inner: bool, counts: tuple) -> None:
    make_folder(tmp_path, parts, inner)
    data = load_masks("folder", tmp_path)
    assert (len(data.train), len(data.test), data.num_classes) == (*counts, 3)
    for part in (data.train, data.test):
        for image, mask in (part[i] for i in range(len(part))):
            assert np.array_equal(np.asarray(image), COLOURS[mask])
    if len(parts) == 3:
        assert np.array_equal(data.test[2][1], mask_of(22))
    few = load_masks("folder", tmp_path, max_images=3)
    assert (len(few.train), len(few.test)) == (3, counts[1])


def test_voc_as_published(tmp_path: Path) -> None:
    place = tmp_path / "VOCdevkit/VOC2012"
    lists = place / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    for i in range(4):
        save(place / f"JPEGImages/{i}.jpg", COLOURS[mask_of(i)])
        mask = mask_of(i, 21)
        mask[0] = 255
        save(place / f"SegmentationClass/{i}.png", mask, "P")
        save(place / f"SegmentationClassAug/{i}.png", mask_of(i + 50, 21))
    (lists / "train.txt").write_text("0\n1\n")
    (lists / "val.txt").write_text("2\n")
    data = load_masks("voc2012", tmp_path)
    assert (len(data.train), len(data.test), data.num_classes) == (2, 1, 21)
    mask = data.test[0][1]
    assert (mask[0] == 255).all()
    assert np.array_equal(mask[1:], mask_of(2, 21)[1:])
    (lists / "train_aug.txt").write_text("/JPEGImages/0.jpg /SegmentationClassAug/0.png\n1\n3\n")
    wide = load_masks("voc2012", tmp_path)
    assert (len(wide.train), len(wide.test)) == (3, 1)
    assert np.array_equal(wide.train[2][1], mask_of(53, 21))
    assert np.array_equal(wide.test[0][1], mask)
    (place / "SegmentationClassAug/3.png").unlink()
    with pytest.raises(ValueError, match="data_dir: 1 files are missing, .*3.png for one"):
        load_masks("voc2012", tmp_path)


def test_ade20k_as_published(tmp_path: Path) -> None:
    place = tmp_path / "ADEChallengeData2016"
    for part, count in (("training", 3), ("validation", 2)):
        for i in range(count):
            save(place / f"images/{part}/{i}.jpg", COLOURS[mask_of(i)])
            save(place / f"annotations/{part}/{i}.png", mask_of(i, 151))
    data = load_masks("ade20k", tmp_path)
    assert (len(data.train), len(data.test), data.num_classes) == (3, 2, 150)
    published, found = mask_of(1, 151), data.test[1][1]
    for before, after in zip(published.flat, found.flat, strict=True):
        assert after == (255 if before == 0 else before - 1)


def test_drawings(tmp_path: Path) -> None:
    for i in range(10):
        mask = mask_of(i, 2)
        opacity = np.where(mask, 200, 100).astype(np.uint8)[..., None]
        save(tmp_path / f"{i % 2}/{i}.png", np.concatenate([COLOURS[mask], opacity], axis=2))
    save(tmp_path / "opaque.png", COLOURS[mask_of(0)])
    data = load_masks("drawings", tmp_path)
    assert (len(data.train), len(data.test), data.num_classes) == (8, 2, 2)
    for part in (data.train, data.test):
        for path, (image, mask) in zip(
            part.paths, (part[i] for i in range(len(part))), strict=True
        ):
            drawn = mask_of(int(path.stem), 2)
            assert np.array_equal(mask, drawn)
            share = np.where(drawn, 200, 100)[..., None] / 255
            on_white = share * COLOURS[drawn] + (1 - share) * 255
            assert np.abs(np.asarray(image) - on_white).max() <= 2


def make_drawings(root: Path, count: int, side: int = 16) -> None:
    for i in range(count):
        opacity = 255 * mask_of(i, 2, side)[..., None]
        colours = COLOURS[mask_of(i, 3, side)]
        save(root / f"{side}_{i}.png", np.concatenate([colours, opacity], axis=2))


def test_drawings_that_cannot_be_opened_are_left_out_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_drawings(tmp_path, 10)
    make_drawings(tmp_path, 1, side=64)
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no image")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # as of a file made to fill the memory
    with pytest.warns(UserWarning, match=r"^3 of 13 images cannot be read") as caught:
        data = load_masks("drawings", tmp_path)
    (warning,) = caught
    for words in ("64_0.png (it has more pixels", "empty.png (the file is empty", "text.png ("):
        assert words in str(warning.message)
    assert (len(data.train), len(data.test)) == (8, 2)


def read_all(name: MaskName, root: Path) -> None:
    data = load_masks(name, root)
    for part in (data.train, data.test):
        for index in range(len(part)):
            part[index]


@pytest.mark.parametrize("name", ["drawings", "folder"])
def test_a_broken_file_is_named(
    tmp_path: Path, name: MaskName, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "drawings":
        make_drawings(tmp_path, 10)
        paths = list(tmp_path.glob("*.png"))
    else:
        make_folder(tmp_path)
        paths = list((tmp_path / "masks").glob("*.png"))
    whole = paths[0].read_bytes()
    paths[0].write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=rf"^data_dir: .*{paths[0].name} cannot be read: "):
        read_all(name, tmp_path)
    paths[0].write_bytes(whole)
    data = load_masks(name, tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"cannot be read: it has more pixels than Pillow takes"):
        data.train[0]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("folder", "data_dir: expected a folder of images and one of masks"),
        ("voc2012", "data_dir: expected .*train.txt; VOCtrainval_11-May-2012.tar"),
        ("ade20k", "data_dir: expected .*training; ADEChallengeData2016.zip"),
        ("drawings", "data_dir: expected at least 5 images with transparency in .*, got 0"),
        ("cityscapes", "dataset: expected one of"),
    ],
)
def test_what_is_not_there(tmp_path: Path, name: MaskName, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_masks(name, tmp_path)


def test_masks_that_are_none(tmp_path: Path) -> None:
    make_folder(tmp_path)
    (tmp_path / "masks/3.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 8 images in .* have no mask of the same name.*: 3"):
        load_masks("folder", tmp_path)
    save(tmp_path / "masks/3.png", COLOURS[mask_of(3)])
    with pytest.raises(ValueError, match="masks of one channel, .* got mode RGB in .*3.png"):
        load_masks("folder", tmp_path)
    for i in range(8):
        save(tmp_path / f"masks/{i}.png", 0 * mask_of(i))
    with pytest.raises(ValueError, match="expected masks of two classes or more"):
        load_masks("folder", tmp_path)
    (tmp_path / "images/train").mkdir()
    (tmp_path / "images/val").mkdir()
    with pytest.raises(ValueError, match="data_dir: expected the folder .*masks/train"):
        load_masks("folder", tmp_path)


def test_the_command_measures_encoders_side_by_side(tmp_path: Path) -> None:
    make_folder(tmp_path / "data", ("train", "test"))
    for name, folder in (("test_resnet", "small"), ("resnet10t", "larger")):
        torch.manual_seed(0)
        export_encoder(create_backbone(name), tmp_path / folder, input_size=32)
    arguments = ["small", "larger", "--data-dir=data", "--epochs=2", "--batch-size=4"]
    arguments += ["--num-workers=0", "--learning-rate=0.01"]
    done = run_here("examples/segmentation.py", *arguments, cwd=tmp_path)
    printed, printed_alone = output_of(done), done.stdout
    results = json.loads((tmp_path / "runs/segmentation/segmentation.json").read_text())
    assert list(results["encoders"]) == ["small", "larger"]
    assert (results["train"], results["test"], results["classes"]) == (8, 8, 3)
    for name, found in results["encoders"].items():
        assert 0 < found["mean IoU"] < found["pixel accuracy"] <= 1
        row = f"{name:6}{100 * found['mean IoU']:10.2f}{100 * found['pixel accuracy']:16.2f}"
        assert row in printed
    again = run_here("examples/segmentation.py", *arguments, cwd=tmp_path)
    assert again.stdout == printed_alone  # all was done: nothing is trained
    assert json.loads((tmp_path / "runs/segmentation/segmentation.json").read_text()) == results
