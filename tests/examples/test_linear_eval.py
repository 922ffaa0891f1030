"""The linear evaluation script: every data set that is there, and what it writes."""

import json
from pathlib import Path

import pytest
import torch
from running import output_of, run_here

from star_head.adapters.timm import create_backbone, export_encoder
from star_head.evaluation import linear
from star_head.examples.data import available
from star_head.examples.linear_eval import PAPER, main, means


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


def test_a_named_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    export_encoder(create_backbone("resnet10t"), tmp_path / "encoder", input_size=32)
    encoder = str(tmp_path / "encoder")
    for dataset in ("all", "digits", "cifar10", "folder", "imagenet100", "food101", "stl10"):
        with pytest.raises(ValueError, match=f"data_dir: expected a folder .*got {missing}"):
            main(encoder, missing, dataset)
    assert not missing.exists()
    with pytest.raises(ValueError, match=f"data_dir: none of cifar10, .* lies in {tmp_path}; .*"):
        main(encoder, tmp_path)
