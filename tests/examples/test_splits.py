"""Folders of images: splits by any usual name, and what could mean two things is asked for."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from star_head.examples.data.class_names import class_names
from star_head.examples.data.few_shot_data import load_few_shot
from star_head.examples.data.image_data import Images, load_images, load_labelled
from star_head.examples.data.splits import split_of
from star_head.examples.data.transfer_data import load_transfer

CLASSES = ("cat", "dog", "fox")


def write(root: Path, *names: str, size: tuple[int, int] = (8, 6)) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(root / name)


def of_classes(split: str, count: int = 2) -> list[str]:
    return [f"{split}/{c}/{split}{i}.png" for c in CLASSES for i in range(count)]


def folders_of(images: Images, root: Path) -> set[str]:
    return {images.source._path(i).relative_to(root).parts[0] for i in images.indices}


@pytest.mark.parametrize("train", ["train", "Train", "TRAINING", "training_set", "train2017"])
@pytest.mark.parametrize(
    "held_out",
    ["val", "valid", "Validation", "VALID", "dev", "eval", "test", "Testing", "test_images",
     "val2017"],
)  # fmt: skip
def test_splits_by_their_usual_names(tmp_path: Path, train: str, held_out: str) -> None:
    write(tmp_path, *of_classes(train), *of_classes(held_out))
    splits = load_images("folder", tmp_path)
    assert folders_of(splits.pretrain, tmp_path) == folders_of(splits.train, tmp_path) == {train}
    assert folders_of(splits.test, tmp_path) == {held_out}
    assert splits.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert class_names("folder", tmp_path, 3) == list(CLASSES)
    data = load_transfer("folder", tmp_path)
    assert folders_of(data.train, tmp_path) == {train}
    assert folders_of(data.test, tmp_path) == {held_out}
    assert folders_of(load_few_shot("folder", tmp_path), tmp_path) == {train}


@pytest.mark.parametrize(
    "names", [("train", "valid", "test"), ("Training", "Dev", "TEST"), ("trn", "validation", "tst")]
)
def test_of_three_splits_one_chooses_and_one_measures(
    tmp_path: Path, names: tuple[str, str, str]
) -> None:
    write(tmp_path, *(name for split in names for name in of_classes(split)))
    data = load_transfer("folder", tmp_path)
    fitted = data.train.part(np.arange(data.train_count))
    chosen_by = data.train.part(np.arange(data.train_count, len(data.train)))
    found = [folders_of(images, tmp_path) for images in (fitted, chosen_by, data.test)]
    assert found == [{name} for name in names]
    splits = load_images("folder", tmp_path)
    assert folders_of(splits.pretrain, tmp_path) == {names[0]}
    assert folders_of(splits.test, tmp_path) == {names[1]}


def test_imagenet_and_plant_disease_by_other_names(tmp_path: Path) -> None:
    write(tmp_path / "plant_disease", *of_classes("Train"), *of_classes("Valid"))
    assert len(load_few_shot("plant-disease", tmp_path)) == 12
    write(tmp_path / "net", *of_classes("train"), *of_classes("validation"))
    splits = load_images("imagenet100", tmp_path / "net")
    assert folders_of(splits.test, tmp_path / "net") == {"validation"}


def test_test_images_without_classes_are_not_measured_on(tmp_path: Path) -> None:
    write(tmp_path, *of_classes("train"), "test/1.png", "test/2.png")
    for name in ("folder", "imagenet100"):
        pretrain, train, test = load_images(name, tmp_path)
        assert folders_of(pretrain, tmp_path) == {"train"}
        assert train is test is None


@pytest.mark.parametrize(
    "name", ["cat", "trainer", "testudo", "evaluated", "data", "2017", "devil"]
)
def test_other_names_are_no_splits(name: str) -> None:
    assert split_of(name) is None


AMBIGUOUS: dict[str, tuple[list[str], str]] = {
    "no training": (of_classes("valid") + of_classes("test"), "train: none"),
    "two trainings": (of_classes("train") + of_classes("Training") + of_classes("val"), "Training"),
    "two validations": (
        of_classes("train") + of_classes("dev") + of_classes("valid"), "dev, valid"
    ),
    "a split among classes": (["train/1.png", "car/2.png", "bus/3.png"], "bus, car"),
    "a test among classes": (["test/1.png", "car/2.png"], "train: none"),
    "the same subfolders": (of_classes("day") + of_classes("night"), "cat, dog, fox"),
    "subfolders but for one": ([*of_classes("a"), "b/cat/1.png", "b/DOG/2.png"], "cat, dog"),
    "splits within classes": (
        [f"{c}/{s}/{c}{s}.png" for c in "ab" for s in ("train", "test")],
        "test, train",
    ),
    "images and masks": ([f"{f}/{i}.png" for f in ("images", "masks") for i in "12"], "masks"),
    "masks named so": (["scan/1.png", "scan/2.png", "gt/1_mask.png", "gt/2_mask.png"], "gt"),
    "masks of some": ([f"photo/{i}.png" for i in "123"] + ["label/1.gif", "label/3.gif"], "label"),
    "left and right": ([f"{f}/{i}.png" for f in ("left", "right") for i in "abc"], "left"),
}  # fmt: skip


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_what_could_mean_two_things_is_asked_for(tmp_path: Path, case: str) -> None:
    files, seen = AMBIGUOUS[case]
    write(tmp_path, *files)
    for call in (load_images, load_transfer, load_few_shot):
        with pytest.raises(ValueError, match="data_dir: .* could mean two things: ") as raised:
            call("folder", tmp_path)
        assert seen in str(raised.value)
        assert "folders='classes'" in str(raised.value)
    tops = sorted({name.split("/")[0] for name in files})
    found = load_images("folder", tmp_path, folders="classes").pretrain
    assert len(found) == len(files)
    assert len(set(found.labels.tolist())) == len(tops)
    assert load_few_shot("folder", tmp_path, folders="classes").labels.max() == len(tops) - 1
    assert class_names("folder", tmp_path, len(tops), "classes") == tops
    splits = load_images("folder", tmp_path, folders="unlabelled")
    assert len(splits.pretrain) == len(files)
    assert splits.pretrain.labels.max() == -1
    assert splits.train is splits.test is None


def test_numbered_pairs_of_colour_and_grey_are_asked_for_and_numbered_classes_are_not(
    tmp_path: Path,
) -> None:
    for i in range(4):
        write(tmp_path / "pairs", f"a/{i}.png", size=(8 + i, 6))
        (tmp_path / "pairs/b").mkdir(exist_ok=True)
        Image.new("L", (8 + i, 6)).save(tmp_path / f"pairs/b/{i}.png")
        write(tmp_path / "classes", f"a/{i}.png", size=(8 + i, 6))
        write(tmp_path / "classes", f"b/{i}.png", size=(8, 6 + i))
        write(tmp_path / "equal", f"a/{i}.png", f"b/{i}.png", size=(8 + i, 6))
    with pytest.raises(ValueError, match="a and b hold files of the same names"):
        load_images("folder", tmp_path / "pairs")
    for name in ("classes", "equal"):
        assert load_images("folder", tmp_path / name).pretrain.labels.tolist() == [0] * 4 + [1] * 4


def test_splits_within_the_only_folder_are_not_pretrained_on(tmp_path: Path) -> None:
    write(tmp_path, *(f"unpacked/{name}" for name in of_classes("train") + of_classes("val")))
    with pytest.raises(
        ValueError, match=rf"data_dir: {tmp_path}/unpacked holds splits, train, val"
    ):
        load_images("folder", tmp_path)


def test_what_lies_beside_splits_is_named(tmp_path: Path) -> None:
    write(tmp_path, *of_classes("train"), *of_classes("val"), "extra/1.png", "2.png")
    with pytest.warns(UserWarning, match=r"splits train, val; passed over: 2.png, extra"):
        load_images("folder", tmp_path)


def test_folders_is_for_a_folder_and_one_of_three(tmp_path: Path) -> None:
    write(tmp_path, "a/1.png", "b/2.png")
    for call, name in (
        (load_images, "digits"),
        (load_transfer, "digits"),
        (load_few_shot, "fc100"),
    ):
        with pytest.raises(ValueError, match="folders"):
            call(name, tmp_path, folders="classes")
    with pytest.raises(ValueError, match="folders: expected None or.*got 'subjects'"):
        load_images("folder", tmp_path, folders="subjects")
    with pytest.raises(ValueError, match="data_dir: expected .*train with class folders"):
        load_images("folder", tmp_path, folders="splits")
    write(tmp_path, "3.png")
    with pytest.raises(ValueError, match="folders: expected two class folders or more"):
        load_images("folder", tmp_path, folders="classes")


@pytest.mark.parametrize("place", range(6))
def test_the_only_image_of_a_class_is_trained_on(tmp_path: Path, place: int) -> None:
    names = [f"{'abcdef'[i]}/{'abcdef'[i]}{k}.png" for i in range(6)
             for k in range(1 if i == place else 5)]  # fmt: skip
    write(tmp_path, *names)
    _, train, test = load_images("folder", tmp_path)
    assert set(train.labels.tolist()) == set(range(6))
    assert place not in test.labels
    assert len(train) + len(test) == len(names)
    data = load_transfer("folder", tmp_path)
    assert set(data.train.labels[: data.train_count].tolist()) == set(range(6))


def test_a_class_without_training_images_is_called_by_its_folder(tmp_path: Path) -> None:
    write(tmp_path, *of_classes("train"), *of_classes("test"))
    (tmp_path / "train/bear").mkdir()
    with (
        pytest.warns(UserWarning, match="class folders without an image: 'bear'"),
        pytest.raises(ValueError, match="folder has no training images of class 'bear'"),
    ):
        load_transfer("folder", tmp_path)


@pytest.mark.parametrize("count", [3, 30, 31, 1000])
@pytest.mark.parametrize("split", [True, False])
def test_max_images_takes_an_even_part_of_each_class(
    tmp_path: Path, count: int, split: bool
) -> None:
    sizes = {"cat": 50, "dog": 20, "fox": 8}
    for part in ("train", "val") if split else ("",):
        write(tmp_path, *(str(Path(part, c, f"{c}{i}.png")) for c, n in sizes.items()
                          for i in range(n)))  # fmt: skip
    whole, _ = load_labelled("folder", tmp_path, 1)
    train, _ = load_labelled("folder", tmp_path, 1, max_images=count)
    assert len(train) == min(count, len(whole))
    taken, most = np.bincount(train.labels, minlength=3), np.bincount(whole.labels)
    # As many of each as of another, but of a class that has no more.
    fullest = taken.max()
    assert ((taken >= fullest - 1) | (taken == most)).all()


def test_max_images_of_other_data_sets_takes_the_first() -> None:
    whole, _ = load_labelled("digits", None, 1)
    train, _ = load_labelled("digits", None, 1, max_images=30)
    assert train.indices.tolist() == whole.indices[:30].tolist()
    with pytest.raises(ValueError, match="max_images: expected at least 1, got 0"):
        load_labelled("digits", None, 1, max_images=0)


def test_what_pillow_reads_is_read_and_the_rest_is_told_once(tmp_path: Path) -> None:
    for suffix in ("gif", "jfif", "jp2", "tga", "ico", "PNG", "jpe", "dib"):
        write(tmp_path, f"a/image.{suffix}")
    write(tmp_path, "b/1.png", "b/2.png")
    (tmp_path / "b/3.heic").touch()
    (tmp_path / "b/4.HEIC").touch()
    (tmp_path / "c").mkdir()
    (tmp_path / "c/scan.dcm").touch()
    (tmp_path / "c/figure.eps").write_text("%!PS")  # Pillow would run Ghostscript
    message = (
        r"files that Pillow does not read are passed over: 2 .heic, 1 .\w+, 1 .\w+; "
        r"class folders without an image: 'c'"
    )
    with pytest.warns(UserWarning, match=message) as warned:
        images = load_images("folder", tmp_path).pretrain
    assert len(warned) == 1
    assert images.labels.tolist() == [0] * 8 + [1] * 2
    assert all(images[i][0].mode == "RGB" for i in range(10))


def test_passed_over_within_splits(tmp_path: Path) -> None:
    write(tmp_path, *of_classes("train"), *of_classes("val"), *of_classes("test"))
    (tmp_path / "val/dog/1.heic").touch()
    for call in (load_images, load_transfer):
        with pytest.warns(UserWarning, match="passed over: 1 .heic"):
            call("folder", tmp_path)


def test_nothing_is_said_of_a_plain_folder(tmp_path: Path) -> None:
    write(tmp_path, "a/1.png", "a/2.png", "b/3.png")
    (tmp_path / ".DS_Store").touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_images("folder", tmp_path)
