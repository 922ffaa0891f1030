"""Reading VOC, on a made-up tree in its format."""

import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from made_up_voc import SHAPE, THINGS, make_voc
from torchvision.datasets import VOCDetection
from torchvision.io import decode_image

from star_head.examples.data.voc import CLASSES, TEST, TRAIN, VOCBoxes, read_boxes


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_voc(tmp_path_factory.mktemp("voc"), train=6, test=9)


def test_reads_what_the_files_say(tree: Path) -> None:
    train, test = VOCBoxes(tree, TRAIN), VOCBoxes(tree, TEST)
    assert (len(train), len(test)) == (12, 9)
    assert len(CLASSES) == 20
    assert list(CLASSES) == sorted(CLASSES)
    difficult = 0
    for part, (year, name, offset) in {
        train: ("2007", "trainval", 0),
        VOCBoxes(tree, TRAIN): ("2012", "trainval", 6),
        test: ("2007", "test", 0),
    }.items():
        theirs = VOCDetection(tree, year, name)
        for i, (image, annotation) in enumerate(theirs):
            pixels, target = part[offset + i]
            expected = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
            torch.testing.assert_close(pixels, expected)
            things = ElementTree.parse(theirs.annotations[i]).findall("object")
            assert len(things) == len(annotation["annotation"]["object"]) == len(target["boxes"])
            for thing, box, label, crowd in zip(things, *target.values(), strict=True):
                edges = [float(thing.find(f"bndbox/{e}").text) for e in ("xmin", "ymin")]
                edges = [edge - 1 for edge in edges]
                edges += [float(thing.find(f"bndbox/{e}").text) for e in ("xmax", "ymax")]
                assert box.tolist() == edges
                assert CLASSES[label - 1] == thing.find("name").text
                assert crowd == int(thing.find("difficult").text)
                difficult += int(crowd)
    assert difficult > 0


def test_boxes_lie_on_their_objects_mirrored_or_not(tree: Path) -> None:
    plain, mirroring = VOCBoxes(tree, TRAIN), VOCBoxes(tree, TRAIN, flip=True)
    flips = 0
    for i in range(len(plain)):
        pixels, target = mirroring[i]
        assert (type(pixels), type(target["boxes"])) == (torch.Tensor, torch.Tensor)
        assert (pixels.dtype, target["boxes"].dtype) == (torch.float32, torch.float32)
        flipped = not torch.equal(pixels, plain[i][0])
        flips += flipped
        if flipped:
            assert torch.equal(pixels, plain[i][0].flip(2))
        for box, label in zip(target["boxes"].int().tolist(), target["labels"], strict=True):
            left, top, right, bottom = box
            colour = torch.tensor(THINGS[CLASSES[label - 1]]) / 255
            inside = pixels[:, top:bottom, left:right]
            near = (inside - colour[:, None, None]).abs().amax(dim=0) < 0.3
            assert near.float().mean() > 0.95  # JPEG blurs
            around = torch.zeros(SHAPE, dtype=torch.bool)
            around[max(top - 3, 0) : bottom + 3, max(left - 3, 0) : right + 3] = True
            around[max(top - 1, 0) : bottom + 1, max(left - 1, 0) : right + 1] = False
            outside = pixels[:, around] - colour[:, None]
            assert (outside.abs().amax(dim=0) > 0.15).float().mean() > 0.7
    assert 0 < flips < len(plain)


def test_an_annotation_without_objects() -> None:
    target = read_boxes({"object": []})
    assert target["boxes"].shape == (0, 4)
    assert target["labels"].shape == target["iscrowd"].shape == (0,)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("VOC2007", "VOC2007 trainval is not in .* missing\nGet http.*VOCtrainval_06-Nov-2007.tar"),
        ("VOC2012", "VOC2012 trainval is not in .* missing\nGet http.*VOCtrainval_11-May-2012.tar"),
        (
            "VOC2007/ImageSets/Main/test.txt",
            "VOC2007 test is not in .*test.txt missing\nGet .*VOCtest",
        ),
        ("VOC2007/JPEGImages/2007_test_000003.jpg", "1 files of .*test.txt missing, first .*3.jpg"),
        ("VOC2012/Annotations/2012_trainval_000003.xml", "is not whole: 1 files of .*_000003.xml"),
    ],
)
def test_what_is_missing_is_named(tree: Path, tmp_path: Path, path: str, message: str) -> None:
    shutil.copytree(tree, tmp_path / "voc")
    missing = tmp_path / "voc/VOCdevkit" / path
    shutil.rmtree(missing) if missing.is_dir() else missing.unlink()
    with pytest.raises(ValueError, match=f"data_dir: .*{message}"):
        VOCBoxes(tmp_path / "voc", (*TRAIN, *TEST))


@pytest.mark.parametrize(
    ("was", "becomes", "message"),
    [
        (r"<name>\w+<", "<name>unicorn<", "expected one of VOC's classes, got 'unicorn'"),
        (r"<xmax>\d+<", "<xmax>0<", "expected a box with something in it"),
        (r"<ymax>\d+</ymax>", "", "'ymax'"),
        (r"<ymin>\d+<", "<ymin>top<", "could not convert"),
    ],
)
def test_annotations_that_are_not_vocs(
    tree: Path, tmp_path: Path, was: str, becomes: str, message: str
) -> None:
    shutil.copytree(tree, tmp_path / "voc")
    file = tmp_path / "voc/VOCdevkit/VOC2007/Annotations/2007_test_000000.xml"
    file.write_text(re.sub(was, becomes, file.read_text()))
    with pytest.raises(ValueError, match=f"_000000.xml is no annotation of VOC: .*{message}"):
        VOCBoxes(tmp_path / "voc", TEST)[0]


@pytest.mark.parametrize(
    "file", ["JPEGImages/2007_trainval_000003.jpg", "Annotations/2007_trainval_000003.xml"]
)
@pytest.mark.parametrize("content", [None, b"", b"<html>404 Not Found"])
def test_broken_files_are_named(
    tree: Path, tmp_path: Path, file: str, content: bytes | None
) -> None:
    root = Path(shutil.copytree(tree, tmp_path / "voc"))
    (path,) = root.rglob(f"VOC2007/{file}")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(ValueError, match=f"data_dir: .*{re.escape(file)}"):
        VOCBoxes(root, TRAIN)[3]


def test_decoding_agrees_with_torchvisions_own(tree: Path) -> None:
    boxes = VOCBoxes(tree, TEST)
    decoded = decode_image(boxes.parts[0].images[0]) / 255
    assert (boxes[0][0] - decoded).abs().max() < 0.05
