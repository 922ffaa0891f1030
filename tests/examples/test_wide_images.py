"""Folders of images of more than 8 bits, through the scripts and the data module."""

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from star_head.adapters.lightly import STARTransform
from star_head.adapters.timm import create_backbone, export_encoder
from star_head.examples import few_shot, knn_eval, linear_eval
from star_head.examples.command_line import run
from star_head.examples.data.data_module import ImageDataModule
from star_head.examples.data.image_data import load_images


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Float TIFFs in [0, 1] in two folders that look like images and their masks."""
    generator = np.random.default_rng(0)
    for label, name in enumerate(("scan", "gt")):
        (tmp_path / "scans" / name).mkdir(parents=True)
        for i in range(25):
            pixels = generator.uniform(0.4 * label, 0.5 + 0.4 * label, (40, 40)).astype(np.float32)
            Image.fromarray(pixels).save(tmp_path / f"scans/{name}/{i}.tif")
    return tmp_path / "scans"


@pytest.mark.parametrize("script", [linear_eval, knn_eval, few_shot])
def test_scripts_take_a_range_and_what_folders_are(
    script: object, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    export_encoder(create_backbone("resnet10t"), tmp_path / "encoder", input_size=32)
    place = [str(scans)] if script is few_shot else [f"--data-dir={scans}"]
    arguments = [str(tmp_path / "encoder"), *place, "--dataset=folder"]
    arguments += [f"--cache={tmp_path}/features", f"--output={tmp_path}/results.json"]
    if script is few_shot:
        arguments += ["--episodes=2"]
        of_two = functools.partial(few_shot.few_shot, ways=2, queries=3)  # the scans' classes
        monkeypatch.setattr(few_shot, "few_shot", of_two)
    steps = [("could mean two things", "--folders=classes"), ("pixel_range", "--pixel-range=0,1")]
    for message, remedy in steps:
        monkeypatch.setattr(sys, "argv", ["script", *arguments])
        with pytest.raises(ValueError, match=message):
            run(script.main)
        arguments.append(remedy)
    monkeypatch.setattr(sys, "argv", ["script", *arguments])
    run(script.main)
    assert json.loads((tmp_path / "results.json").read_text())


@pytest.mark.parametrize(
    "make",
    [
        lambda scans: ImageDataModule("folder", scans, pixel_range=(0, 1), folders="classes"),
        lambda scans: ImageDataModule(
            "folder", scans, transform=STARTransform(16, pixel_range=(0, 1)), folders="classes"
        ),
    ],
    ids=["of the data", "of the transform"],
)
def test_pretraining_takes_a_range(make: Callable[[Path], ImageDataModule], scans: Path) -> None:
    data = make(scans)
    data.prepare_data()
    pixels = np.array(data._splits.pretrain[0][0])  # the first of gt
    assert 0.4 * 255 - 1 <= pixels.min() < pixels.max() <= 0.9 * 255 + 1
    state = data.state_dict()
    assert state["pixel_range"] == (0, 1)
    data.load_state_dict(state)
    with pytest.raises(ValueError, match=r"its run had pixel_range \(0, 2\), and this has \(0"):
        data.load_state_dict(state | {"pixel_range": (0, 2)})


def test_a_run_of_version_01_had_no_range(scans: Path) -> None:
    data = ImageDataModule("digits")
    data.prepare_data()
    state = data.state_dict()
    del state["pixel_range"]
    data.load_state_dict(state)


def test_a_cache_is_of_one_range(scans: Path, tmp_path: Path) -> None:
    found = []
    for high in (1, 2, 1):
        images = load_images(
            "folder", scans, cache=tmp_path / "cache", pixel_range=(0, high), folders="classes"
        )
        found.append((images.pretrain.fingerprint(), np.array(images.pretrain[0][0]).mean()))
    assert found[0] == found[2]
    assert found[0][0] != found[1][0]
    assert found[0][1] == pytest.approx(2 * found[1][1], abs=1)
    ranged, plain = (
        load_images("folder", scans, pixel_range=r, folders="classes").pretrain.fingerprint()
        for r in ((0, 1), None)
    )
    assert ranged != plain


def test_other_data_sets_need_no_range() -> None:
    with pytest.raises(ValueError, match="pixel_range, background: expected None with 'digits'"):
        load_images("digits", pixel_range=(0, 1))
