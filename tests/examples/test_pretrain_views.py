"""Pretraining on any torchvision or lightly transform, named in a YAML file or by flags."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from byol_views import BYOL
from lightly.transforms import BYOLTransform, DINOTransform, MoCoV1Transform, SimCLRTransform
from running import in_one_process_and_in_two, output_of, run_apart, run_here
from torchvision import transforms as first
from torchvision.transforms import v2

from star_head.adapters.lightning import STARModule
from star_head.adapters.torchvision import RecordedTransform
from star_head.evaluation import open_trained
from star_head.evaluation.preparation import EvaluationTransform
from star_head.examples import analyze, pretrain
from star_head.examples.configs import find_config
from star_head.examples.data.data_module import ImageDataModule

# Three steps an epoch on digits; BYOL's views draw from NumPy's generator too.
OPTIONS = (
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=2",
    "--trainer.limit_train_batches=3",
    "--trainer.limit_val_batches=1",
    "--trainer.log_every_n_steps=1",
    "--model.backbone=test_resnet",
    "--model.num_experts=2",
    "--model.hidden_dim=16",
    "--model.output_dim=8",
    "--data.batch_size=16",
)
# Two generations, lists, one channel, and numbers of all kinds.
TREE = """
data:
  transform:
    class_path: star_head.adapters.torchvision.RecordedTransform
    init_args:
      transform:
      - class_path: torchvision.transforms.v2.Compose
        init_args:
          transforms:
          - {class_path: torchvision.transforms.v2.RandomResizedCrop, init_args: {size: 16}}
          - class_path: torchvision.transforms.v2.RandomApply
            init_args:
              p: 0.5
              transforms:
              - class_path: torchvision.transforms.v2.RandomAffine
                init_args: {degrees: 30, translate: [0.1, 0.1]}
      - class_path: torchvision.transforms.Compose
        init_args:
          transforms:
          - {class_path: torchvision.transforms.RandomSolarize, init_args: {threshold: 128}}
          - class_path: torchvision.transforms.Grayscale
      - class_path: torchvision.transforms.v2.ToImage
      - {class_path: torchvision.transforms.v2.ToDtype, init_args: {dtype: float32, scale: true}}
      - {class_path: torchvision.transforms.v2.Normalize, init_args: {mean: [0.5], std: [0.25]}}
"""


def config(folder: Path, text: str) -> str:
    path = folder / "views.yaml"
    path.write_text(text)
    return f"--config={path}"


def run(folder: Path, *arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        given = [f"--trainer.default_root_dir={folder}", *arguments]
        patch.setattr(sys, "argv", ["pretrain.py", *given])
        pretrain.main()


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]


def assert_same_weights(found: Path, expected: Path) -> None:
    own, theirs = weights(found), weights(expected)
    assert own.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.equal(own[name], tensor), name


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs on BYOL's views that nothing disturbs."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    done = run_here(
        pretrain.main,
        *(f"--trainer.default_root_dir={folder}", config(folder.parent, BYOL), *OPTIONS),
        "--data.num_workers=0",
    )
    assert "cannot be made again" not in output_of(done)
    return folder


def test_a_run_that_fails_and_goes_on_ends_as_if_it_had_not(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second start reads its images by workers, whose draws are the same."""
    step = STARModule.training_step

    def failing(self: STARModule, *args: Any) -> torch.Tensor:
        if self.global_step == 4:
            raise InterruptedError("broken off")
        return step(self, *args)

    options = (config(tmp_path, BYOL), *OPTIONS)
    with monkeypatch.context() as patch:
        patch.setattr(STARModule, "training_step", failing)
        with pytest.raises(InterruptedError):
            run(tmp_path / "run", *options, "--data.num_workers=0")
    np.random.seed(99)  # noqa: NPY002 - what others drew meanwhile does not count
    run(tmp_path / "run", *options, "--data.num_workers=2", "--ckpt_path=last")
    assert_same_weights(tmp_path / "run", whole)

    text = config(tmp_path, BYOL.replace("rr_degrees: 30", "rr_degrees: 40"))
    with pytest.raises(ValueError, match=r"rr_degrees 30\.0, and this has 40\.0"):
        run(tmp_path / "run", text, *OPTIONS, "--trainer.max_epochs=3", "--ckpt_path=last")


def test_what_a_run_leaves_is_opened_and_reported_by_its_own_parameters(
    whole: Path, tmp_path: Path
) -> None:
    trained = open_trained(whole / "checkpoints/last.ckpt")
    labels = [p.label for p in trained.transform.parameters]
    assert {"rotation", "solarize", "blur sigma"} < set(labels)
    assert trained.head.predictor.parameter_dim == len(labels) == 13
    # Another run's, of the paper's parameters, stands beside it.
    run(tmp_path / "star", *OPTIONS, "--data.transform=STARTransform", "--trainer.max_epochs=1",
        "--data.transform.input_size=16", "--data.num_workers=0")  # fmt: skip
    analyze.main(
        [str(folder / "checkpoints/last.ckpt") for folder in (whole, tmp_path / "star")],
        max_images=20,
        view_images=6,
        views=4,
        num_workers=0,
        output=tmp_path / "report",
    )
    results = yaml.safe_load((tmp_path / "report/report.json").read_text())["checkpoints"]
    byol, star = results.values()
    for r2 in byol["parameters"]["R^2"].values():
        assert list(r2) == labels
    assert list(byol["routing weights"]["correlation with parameters"]) == labels
    assert byol["equivariance"]["measured"]["mean_reciprocal_rank"] > 0
    assert "rotation" not in star["parameters"]["R^2"]["features"]
    page = (tmp_path / "report/report.html").read_text()
    assert "rotation (degrees)" in page
    assert "solarize (0 or 1)" in page
    assert page.count("<td>crop top (pixels)</td>") + page.count("crop top (pixels)</th>") == 1


@pytest.mark.slow
def test_a_tree_of_both_generations_in_yaml(tmp_path: Path) -> None:
    """One channel is what the encoder is built for; statistics are of the tree's own numbers."""
    done = run_here(
        pretrain.main,
        *(f"--trainer.default_root_dir={tmp_path / 'run'}", config(tmp_path, TREE), *OPTIONS),
        *("--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--data.num_workers=0"),
    )
    assert "cannot be made again" not in output_of(done)
    trained = open_trained(tmp_path / "run/checkpoints/last.ckpt")
    labels = [p.label for p in trained.transform.parameters]
    assert labels[4:] == ["rotation", "shift x", "shift y", "solarize"]
    assert trained.transform.in_chans == 1
    assert trained.transform.normalize == {"mean": [0.5], "std": [0.25]}
    assert trained.backbone(torch.randn(2, 1, 16, 16)).shape[0] == 2
    with pytest.raises(ValueError, match="prepared as RGB, and the encoder takes 1 channels"):
        EvaluationTransform(16, trained.transform.normalize)
    assert trained.head.predictor.parameter_dim == 8
    # What is written is taken again.
    again = ["--config", tmp_path / "run/config.yaml", "--print_config"]
    printed = yaml.safe_load(output_of(run_here(pretrain.main, *again)))
    written = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert printed["data"]["transform"] == written["data"]["transform"]


def read_settings(*arguments: str) -> dict[str, Any]:
    done = run_here(pretrain.main, *arguments, "--print_config")
    assert done.returncode == 0, done.stderr[-3000:]
    return yaml.safe_load(done.stdout)["data"]["transform"]


def test_flags_and_files_name_a_transform_and_its_arguments(tmp_path: Path) -> None:
    name = "--data.transform=lightly.transforms.SimCLRTransform"
    found = read_settings(name, "--data.transform.input_size=48")
    assert found["init_args"]["input_size"] == 48
    found = read_settings(
        "--data.transform=torchvision.transforms.v2.RandomRotation", "--data.transform.degrees=30"
    )
    assert found["init_args"]["degrees"] == 30
    # Classes to leave out of the record, in a file.
    left_out = "torchvision.transforms.v2.RandomChannelPermutation"
    recorded = {"unrecorded": [left_out], "transform": [{"class_path": left_out}]}
    name = "star_head.adapters.torchvision.RecordedTransform"
    text = yaml.safe_dump({"data": {"transform": {"class_path": name, "init_args": recorded}}})
    found = read_settings(config(tmp_path, text))["init_args"]
    assert found["unrecorded"] == [left_out]
    # The shipped settings, at another size.
    sides = [f"--data.transform.init_args.view_{i}_transform.init_args.input_size=64" for i in "12"]
    found = read_settings("--config=" + find_config("byol_views"), *sides)["init_args"]
    assert [view["init_args"]["input_size"] for view in found.values()] == [64, 64]
    assert [view["init_args"]["solarization_prob"] for view in found.values()] == [0.0, 0.2]


@pytest.mark.slow
def test_a_class_of_the_users_own_trains_and_is_said_not_to_be_opened_again(tmp_path: Path) -> None:
    text = TREE.replace(
        "class_path: torchvision.transforms.v2.ToImage",
        "{class_path: own_rotation.OwnRotation, init_args: {degrees: 10}}\n"
        "      - class_path: torchvision.transforms.v2.ToImage",
    )
    done = run_here(
        pretrain.main,
        *(f"--trainer.default_root_dir={tmp_path / 'run'}", config(tmp_path, text), *OPTIONS),
        *("--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--data.num_workers=0"),
    )
    output = output_of(done)
    assert "own_rotation.OwnRotation is none of torchvision's, lightly's and" in output
    assert "cannot be made again from its settings" in output
    with pytest.raises(ValueError, match=r"own_rotation.OwnRotation is none of"):
        open_trained(tmp_path / "run/checkpoints/last.ckpt")


CROP, TENSOR = v2.RandomResizedCrop(16), [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "nothing random": (
        lambda: v2.Compose([v2.Resize((16, 16)), *TENSOR]),
        "expected something random to record, but Compose does the same to every image",
    ),
    "a lambda of the second generation": (
        lambda: v2.Compose([CROP, v2.Lambda(lambda image: image), *TENSOR]),
        "Lambda is not a known operation",
    ),
    "a lambda of the first": (
        lambda: first.Compose([CROP, first.Lambda(lambda image: image), first.ToTensor()]),
        "Lambda is not a known operation",
    ),
    "a bare lambda": (lambda: lambda image: image, "<lambda> is not a known operation"),
    "no tensor": (lambda: v2.Compose([CROP]), "got one that makes Image; end it with ToTensor"),
    "bytes": (lambda: v2.Compose([CROP, v2.ToImage()]), r"got torch.uint8; end it with ToDtype"),
    "no one size": (
        lambda: v2.Compose([v2.RandomRotation(9), *TENSOR]),
        "squares of one size, whatever the image's, got",
    ),
    "no squares": (
        lambda: v2.Compose([v2.RandomResizedCrop((16, 12)), *TENSOR]),
        r"squares of one size.*got \(3, 16, 12\)",
    ),
    "an expanding rotation": (
        lambda: v2.Compose([CROP, v2.RandomRotation(30, expand=True), *TENSOR]),
        r"squares of one size, whatever the image's, got \(3, 16, 16\) and",
    ),
    "an original of another size": (
        lambda: RecordedTransform(
            v2.Compose([CROP, *TENSOR]), original=v2.Compose([v2.Resize((24, 24)), *TENSOR])
        ),
        r"got \(3, 16, 16\) and \(3, 24, 24\)",
    ),
    "many crops": (DINOTransform, "got DINOTransform, which makes 8, 2 of them recorded"),
    "three views": (
        lambda: RecordedTransform(v2.Compose([CROP, *TENSOR]), copies=3),
        "got Compose, which makes 3, 3 of them recorded",
    ),
    "a class": (lambda: SimCLRTransform, "got the class SimCLRTransform"),
}


@pytest.mark.parametrize("what", BAD)
def test_transforms_that_a_run_cannot_take_are_named_at_its_door(what: str) -> None:
    make, message = BAD[what]
    with pytest.raises((TypeError, ValueError), match=message) as refused:
        ImageDataModule(transform=make())
    assert str(refused.value).startswith("transform: ")


def test_statistics_and_devices_are_those_of_the_transform() -> None:
    with pytest.raises(ValueError, match="statistics: 'stl10'.* records 12, with solarize and"):
        ImageDataModule(transform=BYOLTransform(), statistics="stl10")
    # As many numbers as the paper has, and others.
    turned = MoCoV1Transform(input_size=16, gaussian_blur=0.0, rr_prob=0.5, rr_degrees=9)
    with pytest.raises(ValueError, match="statistics: .* 11, with rotation and without blur sigma"):
        ImageDataModule(transform=turned, statistics="imagenet100")
    data = ImageDataModule(transform=SimCLRTransform(input_size=16), statistics="stl10")
    assert data.statistics.mean[0] == pytest.approx(13.0968)
    with pytest.raises(ValueError, match="augment: 'device' makes STARTransform's views only"):
        ImageDataModule(transform=BYOLTransform(), augment="device")


def test_statistics_are_estimated_from_both_views() -> None:
    data = ImageDataModule("digits", transform=BYOLTransform())
    labels = [p.label for p in data.transform.parameters]
    mean = dict(zip(labels, data.statistics.mean, strict=True))
    assert mean["solarize"] == pytest.approx(0.1, abs=0.02)  # 0 of one view and 0.2 of the other
    assert 3 < mean["crop height"] < 8
    assert (data.input_size, data.in_chans) == (224, 3)


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_weights(whole: Path, tmp_path: Path) -> None:
    options = (config(tmp_path, BYOL), *OPTIONS, "--data.num_workers=1")
    root = f"--trainer.default_root_dir={tmp_path / 'run'}"
    killed = run_apart(
        "examples/pretrain.py",
        *(root, *options, "--trainer.callbacks=breaking_off.BreakOff"),
        *("--trainer.callbacks.step=4", "--trainer.callbacks.name=SIGKILL"),
    )
    assert killed.returncode == -9, killed.stderr[-3000:]
    output_of(run_apart("examples/pretrain.py", root, *options, "--ckpt_path=last"))
    assert_same_weights(tmp_path / "run", whole)


@pytest.mark.slow
def test_two_processes_equal_one_on_byols_views(tmp_path: Path) -> None:
    one, two = in_one_process_and_in_two(tmp_path, "BYOLTransform")
    torch.testing.assert_close(two["losses"], one["losses"], rtol=1e-5, atol=1e-5)
    for name, tensor in one["weights"].items():
        torch.testing.assert_close(two["weights"][name], tensor, rtol=0, atol=1e-5, msg=name)
