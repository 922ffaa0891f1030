"""``~`` in every path, on the command line and from Python, and lists without brackets."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from star_head._checkpoint_files import read_checkpoint
from star_head._whole_files import replacing, write_json
from star_head.adapters.timm import create_backbone, export_encoder, load_encoder
from star_head.checkpoint import load_official_checkpoint
from star_head.evaluation import extract_features
from star_head.evaluation.networks import open_encoder
from star_head.evaluation.trained import open_trained
from star_head.examples import knn_eval, linear_eval, plot_run
from star_head.examples.command_line import run, with_lists
from star_head.examples.data.class_names import class_names
from star_head.examples.data.data_module import ImageDataModule
from star_head.examples.data.few_shot_data import load_few_shot
from star_head.examples.data.image_cache import cache_images
from star_head.examples.data.image_data import load_images, load_labelled
from star_head.examples.data.transfer_data import load_transfer
from star_head.examples.data.voc import TEST, VOCBoxes

PHOTOS = Path("~/photos")
AS_TEXT: Any = "~/photos"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the user's own with images in it; the scripts run elsewhere."""
    folder, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    for name in ("a/1", "a/2", "a/3", "b/4", "b/5", "b/6"):
        (folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (40 * int(name[-1]), 0, 0)).save(folder / f"photos/{name}.png")
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    return folder


def nothing_made(elsewhere: Path = Path()) -> bool:
    return not any(path.name == "~" for path in elsewhere.iterdir())


@pytest.mark.parametrize(
    "load",
    [
        lambda: load_images("folder", PHOTOS).pretrain,
        lambda: load_images("folder", PHOTOS, cache=Path("~/cache")).pretrain,
        lambda: load_images("folder", AS_TEXT, cache=AS_TEXT + "/../cache").pretrain,
        lambda: load_labelled("folder", PHOTOS, 1)[0],
        lambda: load_transfer("folder", AS_TEXT).train,
        lambda: load_transfer("folder", PHOTOS).train,
        lambda: load_few_shot("folder", PHOTOS),
        lambda: ImageDataModule("folder", PHOTOS)._load().pretrain,
    ],
)
def test_images(load: Callable[[], object], home: Path) -> None:
    assert len(load()) >= 4
    assert class_names("folder", PHOTOS, 2) == ["a", "b"]
    assert nothing_made()


def test_a_cache_is_made_there(home: Path) -> None:
    cache_images(sorted((home / "photos").rglob("*.png")), Path("~/cache"))
    assert len(list((home / "cache").iterdir())) == 1
    assert nothing_made()


def test_what_is_not_there_is_looked_for_there(home: Path) -> None:
    calls: list[Callable[[], object]] = [
        lambda: load_official_checkpoint("~/none.pth"),
        lambda: read_checkpoint("~/none.ckpt"),
        lambda: open_trained("~/none.ckpt"),
        lambda: load_encoder("~/none"),
        lambda: plot_run.read_logs(Path("~/none")),
        lambda: VOCBoxes(Path("~/none"), TEST),
        lambda: load_images("folder", Path("~/none")),
    ]
    for call in calls:
        with pytest.raises((ValueError, FileNotFoundError)):
            call()
    (home / "none.ckpt").write_bytes(b"no checkpoint")
    for call in calls[1:3]:
        with pytest.raises(ValueError, match="none.ckpt") as raised:
            call()
        assert "expected files of" not in str(raised.value)  # it was found


def test_files_are_written_there(home: Path) -> None:
    write_json(Path("~/runs/results.json"), {"accuracy": 0.5})
    with replacing(Path("~/runs/text")) as scratch:
        scratch.write_text("whole")
    assert sorted(path.name for path in (home / "runs").iterdir()) == ["results.json", "text"]
    torch.manual_seed(0)
    export_encoder(create_backbone("resnet10t"), "~/encoder", input_size=32)
    opened = open_encoder("~/encoder")
    load_encoder("~/encoder")
    images = load_images("folder", PHOTOS).pretrain
    extract_features(opened, images, cache=Path("~/features"), num_workers=0)
    assert len(list((home / "features").iterdir())) == 1
    assert nothing_made()


def test_scripts_on_the_command_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    export_encoder(create_backbone("resnet10t"), home / "encoder", input_size=32)
    for script, name in ((knn_eval, "knn"), (linear_eval, "linear")):
        more = ["--k=1"] if script is knn_eval else ["--half", "true"]
        arguments = [
            "~/encoder",
            "--dataset=folder",
            "--data-dir=~/photos",
            "--cache",
            "~/features",
        ]
        monkeypatch.setattr(sys, "argv", [name, *arguments, f"--output=~/{name}.json", *more])
        run(script.main)
        assert (home / f"{name}.json").is_file()
    assert nothing_made()


def numbers(k: tuple[int, ...] = (1,), sigmas: list[float] | None = None, n: int = 3) -> None:
    """A script's main function."""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--k=20"], ["--k=[20]"]),
        (["--k", "20"], ["--k", "[20]"]),
        (["--k=1,20"], ["--k=[1,20]"]),
        (["--k=1 20"], ["--k=[1,20]"]),
        (["--k=(1, 20)"], ["--k=[1,20]"]),
        (["--k=[1,20]"], ["--k=[1,20]"]),
        (["--sigmas=0.1"], ["--sigmas=[0.1]"]),
        (["--sigmas=null"], ["--sigmas=null"]),
        (["--n=3", "20"], ["--n=3", "20"]),
    ],
)
def test_lists_without_brackets(given: list[str], expected: list[str]) -> None:
    assert with_lists(given, numbers) == expected


def test_every_list_of_a_script_takes_one_number(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[tuple[list[int], list[int] | None]] = []

    def main(k: tuple[int, ...] = (1,), sides: list[int] | None = None) -> None:
        """A script."""
        found.append((list(k), sides))

    main.__module__ = knn_eval.__name__
    for arguments in (["--k=20"], ["--k=20", "--sides", "7"], ["--k=[1,20]", "--sides=7,8"]):
        monkeypatch.setattr(sys, "argv", ["script", *arguments])
        run(main)
    assert found == [([20], None), ([20], [7]), ([1, 20], [7, 8])]
