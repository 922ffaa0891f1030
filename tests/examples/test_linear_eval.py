"""The linear evaluation script: every data set that is there, and what it writes."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from running import output_of, run_here

from star_head.adapters.timm import create_backbone, export_encoder
from star_head.evaluation import (
    Corrupted,
    extract_features,
    linear,
    linear_probe,
    open_encoder,
)
from star_head.evaluation.corruptions import CORRUPTIONS
from star_head.examples.data import available
from star_head.examples.data.corrupted_folders import find_corrupted
from star_head.examples.data.transfer_data import load_transfer
from star_head.examples.linear_eval import PAPER, extract, main, means


def test_means() -> None:
    accuracies = dict.fromkeys(PAPER, 0.5) | {"digits": 1.0, "pets": 0.7}
    assert means(accuracies) == pytest.approx(
        {"12 here": (10 * 0.5 + 1.7) / 12, "the paper's 11": 5.7 / 11}
    )
    del accuracies["cars"]
    assert means(accuracies) == pytest.approx({"11 here": (9 * 0.5 + 1.7) / 11})


def test_goes_on_after_a_data_set_that_fails(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(linear, "STRENGTHS", linear.STRENGTHS[::8])
    torch.manual_seed(0)
    export_encoder(create_backbone("resnet10t"), tmp_path / "encoder", input_size=32)
    monkeypatch.setattr(available, "available", lambda _: ["pets", "digits"])
    with pytest.raises(SystemExit, match="not measured: pets"):
        main(
            str(tmp_path / "encoder"),
            tmp_path,
            cache=tmp_path / "cache",
            output=tmp_path / "results.json",
        )
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results["datasets"]) == ["digits"]
    assert "not measured: data_dir: pets lacks" in capsys.readouterr().out
    with pytest.raises(ValueError, match="data_dir: pets lacks"):
        main(str(tmp_path / "encoder"), tmp_path, "pets")


def test_from_the_command_line(tmp_path: Path) -> None:
    torch.manual_seed(0)
    export_encoder(create_backbone("resnet10t"), tmp_path / "encoder", input_size=32)
    printed = output_of(
        run_here(
            "examples/linear_eval.py", "encoder", "--dataset=digits", "--half=true", cwd=tmp_path
        )
    )
    results = json.loads((tmp_path / "runs/linear_eval.json").read_text())
    assert list(results["datasets"]) == ["digits"]
    found = results["datasets"]["digits"]
    assert (found["train"], found["validation"], found["test"]) == (1150, 287, 360)
    assert 0.8 < found["accuracy"] <= 1
    assert len(found["validation accuracies"]) == 45
    assert results["mean"] == {"1 here": found["accuracy"]}
    assert "45 of 45 strengths converged" in printed
    assert f"mean of 1 here: {100 * found['accuracy']:.2f}" in printed


def test_few_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "STRENGTHS", linear.STRENGTHS[::8])
    torch.manual_seed(0)
    export_encoder(create_backbone("resnet10t"), tmp_path / "encoder", input_size=32)
    command = ["examples/linear_eval.py", "encoder", "--dataset=digits", "--label-share"]
    printed = output_of(run_here(*command, "0.05,0.2", cwd=tmp_path))
    results = json.loads((tmp_path / "runs/linear_eval.json").read_text())["label shares"]
    assert list(results) == ["0.05", "0.2"]
    few, more = (part["datasets"]["digits"] for part in results.values())
    assert abs(few["train"] - 0.05 * 1150) <= 5
    assert abs(more["validation"] - 0.2 * 287) <= 5
    assert few["test"] == more["test"] == 360
    assert 0.3 < few["accuracy"] < more["accuracy"]
    assert f"mean of 1 here, 20% of the labels: {100 * more['accuracy']:.2f}" in printed
    done = run_here(*command, "0.01", cwd=tmp_path)
    assert "label_share: 0.01 of the 27 images of class 0 leaves none" in done.stderr
    assert "among the validation images" in done.stderr


def save_class_folders(root: Path, count: int, shift: int = 0) -> None:
    for label, name in enumerate(("dark", "light")):
        (root / name).mkdir(parents=True)
        for i in range(count):
            level = 60 + 120 * label + 3 * i + shift
            Image.new("RGB", (32, 32), (level, level, level)).save(root / name / f"{i}.png")


def test_bad_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "STRENGTHS", linear.STRENGTHS[::8])
    torch.manual_seed(0)
    export_encoder(create_backbone("test_resnet"), tmp_path / "encoder", input_size=32)
    for part in ("train", "val", "test"):
        save_class_folders(tmp_path / "photos" / part, 4)
    for severity in (1, 2):
        save_class_folders(tmp_path / f"worse/blur/defocus/{severity}", 2, 5 * severity)
        save_class_folders(tmp_path / f"worse/fog/{severity}", 2)
    command = ["examples/linear_eval.py", "encoder", "--dataset=folder", "--data_dir=photos"]
    command += ["--corruptions=true", "--corrupted_dir=worse"]
    printed = output_of(run_here(*command, cwd=tmp_path))
    (found,) = json.loads((tmp_path / "runs/linear_eval.json").read_text())["datasets"].values()
    table = found["corrupted"]
    assert list(table) == [*CORRUPTIONS, "defocus", "fog", "mean"]
    assert set(table["jpeg"]) == {"1", "2", "3", "4", "5", "mean"}
    assert set(table["defocus"]) == {"1", "2", "mean"}
    assert table["fog"]["1"] == 1  # the test images' own levels
    means = [row["mean"] for row in list(table.values())[:-1]]
    assert table["mean"] == pytest.approx(sum(means) / len(means))
    assert f"    {'mean':17}{100 * table['mean']:8.2f}" in printed
    encoder = open_encoder(tmp_path / "encoder")
    data = load_transfer("folder", tmp_path / "photos")
    train, validation, _ = extract(encoder, data, cache=tmp_path / "cache")
    noisy = extract_features(encoder, Corrupted(data.test, "contrast", 4))
    assert table["contrast"]["4"] == linear_probe(train, validation, noisy).test
    with pytest.raises(ValueError, match="corrupted_dir: expected none with 'digits'"):
        main(str(tmp_path / "encoder"), None, "digits", corrupted_dir=tmp_path / "worse")
    with pytest.raises(ValueError, match="corrupted_dir: expected KIND/SEVERITY/CLASS/images"):
        find_corrupted(tmp_path / "photos", ["dark", "light"])
    with pytest.raises(ValueError, match="has no images of the classes cat, dog"):
        find_corrupted(tmp_path / "worse", ["cat", "dog"])


def test_a_named_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    export_encoder(create_backbone("resnet10t"), tmp_path / "encoder", input_size=32)
    encoder = str(tmp_path / "encoder")
    for dataset in ("all", "digits", "cifar10", "folder", "imagenet100", "food101", "stl10"):
        with pytest.raises(ValueError, match=f"data_dir: expected a folder .*got {missing}"):
            main(encoder, missing, dataset)
    with pytest.raises(ValueError, match="data_dir: expected a folder"):
        main("resnet18", missing)  # without a look for its weights
    assert not missing.exists()
    with pytest.raises(ValueError, match=f"data_dir: none of cifar10, .* lies in {tmp_path}; .*"):
        main(encoder, tmp_path)
