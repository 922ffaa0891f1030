"""Pretraining as a user runs it, small: from the command line, on real digits."""

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
import yaml
from lightly.transforms.utils import IMAGENET_NORMALIZE
from PIL import Image
from running import (
    ROOT,
    Done,
    in_one_process_and_in_two,
    output_of,
    own_environment,
    run_apart,
    run_here,
)
from safetensors.torch import load_file

from star_head.examples.pretrain import main

EXAMPLES = ROOT / "examples"
CONFIGS = EXAMPLES / "configs"
UMASK = os.umask(0)
os.umask(UMASK)
# Five steps an epoch on 1,437 digits.
SMALL = (
    "--trainer.accelerator=cpu",
    "--trainer.log_every_n_steps=1",
    "--model.backbone=test_resnet",
    "--model.num_experts=2",
    "--model.hidden_dim=64",
    "--model.output_dim=16",
    "--monitors.routing.every_n_steps=2",
    "--data.transform=STARTransform",
    "--data.transform.input_size=16",
)


def arguments_for(folder: Path, *arguments: object, config: Path | None = None) -> list[object]:
    options = SMALL if config is None else ("--config", config)
    return [*options, f"--trainer.default_root_dir={folder}", *arguments]


def pretrain(folder: Path, *arguments: object, config: Path | None = None) -> Done:
    given = arguments_for(folder, *arguments, config=config)
    return run_here(main, *given, cwd=folder.parent)


def weights(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


def losses(folder: Path) -> dict[int, str]:
    """Each step's loss as it is written in the CSV logs, later starts over earlier ones."""
    found: dict[int, str] = {}
    for path in sorted(folder.glob("csv/version_*/metrics.csv")):
        with open(path) as file:
            found |= {
                int(r["step"]): r["train_loss"] for r in csv.DictReader(file) if r["train_loss"]
            }
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A run of three epochs that nothing disturbs."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    output = output_of(
        pretrain(
            folder, "--trainer.max_epochs=3", "--keep_every_n_epochs=2", "--data.num_workers=2"
        )
    )
    return SimpleNamespace(folder=folder, output=output)


def test_lightning_says_nothing_that_a_user_could_not_change(whole: SimpleNamespace) -> None:
    for words in ("LeafSpec", "transfer_batch_to_device", "seamless cloud", "is not empty"):
        assert words not in whole.output, words
    assert "The encoder is in" in whole.output


def test_the_progress_bar_shows_what_one_looks_at(whole: SimpleNamespace) -> None:
    bars = [line for line in re.split(r"[\r\n]", whole.output) if "it/s" in line]
    assert any(
        all(name in line for name in ("train_loss=", "images_per_second=", "knn_accuracy="))
        for line in bars
    )
    assert "v_num" not in whole.output


@pytest.mark.parametrize(
    ("argument", "bars"),
    [
        ("--trainer.enable_progress_bar=false", False),
        ("--trainer.callbacks=TQDMProgressBar", True),
    ],
)
@pytest.mark.slow
def test_another_progress_bar_or_none(tmp_path: Path, argument: str, bars: bool) -> None:
    output = output_of(pretrain(tmp_path / "run", "--trainer.fast_dev_run=true", argument))
    assert ("it/s" in output) == bars


def test_a_table_at_the_end_says_how_it_went(whole: SimpleNamespace) -> None:
    rows = re.findall(r"^(\S[^\n]*?)  +((?:-?\d\S* *){2,3})$", whole.output, re.MULTILINE)
    found = {label: [float(value) for value in values.split()] for label, values in rows}
    with open(whole.folder / "csv/version_0/metrics.csv") as file:
        logged = [float(r["knn_accuracy"]) for r in csv.DictReader(file) if r["knn_accuracy"]]
    assert found["1-NN accuracy"] == pytest.approx([logged[0], logged[-1]], rel=1e-3)
    assert found["loss, invariant part"][1] < found["loss, invariant part"][0]
    assert 0 < found["linear probe, top-1"][1] <= 1
    for label in ("mean canonical correlation", "mean reciprocal rank", "mean R² of parameters"):
        assert len(found[label]) == 3, label  # first, last and chance


def test_leaves_checkpoints_logs_settings_and_an_encoder(whole: SimpleNamespace) -> None:
    folder = whole.folder
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {
        "last.ckpt",
        "epoch=1.ckpt",
    }
    assert list(losses(folder)) == list(range(15))
    assert list(folder.glob("tensorboard/version_0/events*"))
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    assert settings["model"]["num_experts"] == 2
    assert settings["data"]["batch_size"] == 256
    with open(folder / "csv/version_0/metrics.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["knn_accuracy"]]
    assert [int(row["step"]) for row in rows] == [0, 4, 9, 14]  # the first before training
    assert all(float(row["knn_accuracy"]) > 0.7 for row in rows)

    encoder = timm.create_model(f"local-dir:{folder / 'encoder'}", pretrained=True)
    assert encoder.pretrained_cfg["input_size"] == (3, 16, 16)
    assert encoder.pretrained_cfg["mean"] == IMAGENET_NORMALIZE["mean"]
    assert encoder.pretrained_cfg["interpolation"] == "bilinear"
    assert encoder.pretrained_cfg["crop_pct"] == 1
    assert "| method | STAR, routing" in (folder / "encoder/README.md").read_text()
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, weights(folder)[f"star.backbone.{name}"]), name


@pytest.mark.parametrize(
    ("name", "to_group", "code"),
    [
        ("SIGKILL", False, -9),
        ("SIGTERM", True, 143),
    ],
)
@pytest.mark.slow  # tests/examples/test_pretrain_views.py breaks a run off in this process
def test_a_run_broken_off_ends_as_if_it_were_not(
    whole: SimpleNamespace, tmp_path: Path, name: str, to_group: bool, code: int
) -> None:
    folder = tmp_path / "run"
    broken = run_apart(
        "examples/pretrain.py",
        *arguments_for(folder),
        "--trainer.max_epochs=3",
        "--data.num_workers=2",
        "--trainer.callbacks=breaking_off.BreakOff",
        "--trainer.callbacks.step=8",
        f"--trainer.callbacks.name={name}",
        f"--trainer.callbacks.to_group={to_group}",
    )
    assert broken.returncode == code, broken.stderr[-3000:]
    if name == "SIGTERM":
        assert "--ckpt_path=last goes on" in broken.stdout + broken.stderr
        assert "Traceback" not in broken.stderr
        assert not (folder / "encoder").exists()
    saved = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    assert saved["global_step"] == 5

    output_of(
        pretrain(folder, "--trainer.max_epochs=3", "--data.num_workers=2", "--ckpt_path=last")
    )
    assert losses(folder) == losses(whole.folder)
    for key, tensor in weights(whole.folder).items():
        assert torch.equal(weights(folder)[key], tensor), key


@pytest.mark.slow
def test_neither_workers_nor_the_saved_settings_change_a_run(
    whole: SimpleNamespace, tmp_path: Path
) -> None:
    output_of(
        pretrain(
            tmp_path / "run",
            "--data.num_workers=0",
            "--trainer.max_epochs=1",
            "--keep_every_n_epochs=1",
            config=whole.folder / "config.yaml",
        )
    )
    assert (tmp_path / "run/checkpoints/epoch=0.ckpt").exists()
    # The schedule is a shorter one: only the first epoch's rate is the same.
    assert losses(tmp_path / "run") == {k: v for k, v in losses(whole.folder).items() if k < 5}


@pytest.mark.slow
def test_a_backbone_of_one_size_is_made_for_the_views(tmp_path: Path) -> None:
    output_of(
        pretrain(
            tmp_path / "run",
            "--model.backbone=test_vit",
            "--model.backbone_args={patch_size: 8, drop_path_rate: 0.1}",
            "--trainer.max_epochs=1",
            "--trainer.limit_train_batches=2",
            "--data.num_workers=0",
        )
    )
    saved = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["backbone"]
    assert (saved["name"], saved["input_size"], saved["patch_size"]) == ("test_vit", 16, 8)
    from star_head.evaluation.networks import open_encoder

    encoder = open_encoder(str(tmp_path / "run/checkpoints/last.ckpt"))
    alone = timm.create_model(f"local-dir:{tmp_path / 'run/encoder'}", pretrained=True)
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(encoder.backbone.eval()(images), alone.eval()(images))


@pytest.mark.slow
def test_two_processes_equal_one_with_the_whole_batch(tmp_path: Path) -> None:
    """Each takes half of the very same batches; norms are frozen, for want of GPUs to sync them."""
    one, two = in_one_process_and_in_two(tmp_path)
    assert len(one["losses"]) == 20
    assert one["losses"][-1] < one["losses"][0] - 0.1
    torch.testing.assert_close(two["losses"], one["losses"], rtol=1e-5, atol=1e-5)
    for name, tensor in one["weights"].items():
        torch.testing.assert_close(two["weights"][name], tensor, rtol=0, atol=1e-5, msg=name)


def read_settings(name: str) -> dict:
    """What a YAML file resolves to, as the command line parses it."""
    done = run_here(main, "--config", CONFIGS / name, "--print_config")
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


# REFERENCE: arXiv 2510.27222, settings of its released program.
PAPER = {
    "stl10_resnet18.yaml": {
        "backbone": "resnet18",
        "dataset": "stl10",
        "input_size": 96,
        "num_experts": 16,
        "max_epochs": 200,
        "normalize": {"mean": [0.43, 0.42, 0.39], "std": [0.27, 0.26, 0.27]},
        "statistics": "stl10",
    },
    "imagenet100_resnet50.yaml": {
        "backbone": "resnet50",
        "dataset": "imagenet100",
        "input_size": 224,
        "num_experts": 8,
        "max_epochs": 500,
        "normalize": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        "statistics": "imagenet100",
    },
}


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_settings(name: str) -> None:
    paper = PAPER[name]
    settings = read_settings(name)
    trainer, model, data = settings["trainer"], settings["model"], settings["data"]
    transform = data["transform"]["init_args"]

    assert trainer["max_epochs"] == paper["max_epochs"]
    assert trainer["accumulate_grad_batches"] == 1
    assert trainer["gradient_clip_val"] is None
    assert trainer["precision"] is None
    assert (trainer["devices"], trainer["sync_batchnorm"]) == (
        (4, True) if name.startswith("imagenet100") else (1, False)
    )

    for key in ("backbone", "num_experts"):
        assert model[key] == paper[key]
    assert model["init"] == "paper"
    assert model["small_images"] is False
    assert model["routing"] == "mmoe"
    assert model["hidden_dim"] is None  # the backbone's width
    assert model["output_dim"] == 128
    assert model["temperature"] == 0.2
    assert model["equivariant_weight"] == 1.0
    assert model["learning_rate"] == 0.03
    assert model["momentum"] == 0.9
    assert model["weight_decay"] == 5e-4
    assert model["decay_norm_and_bias"] is True
    assert settings["optimizer"] is None

    assert data["dataset"] == paper["dataset"]
    assert data["batch_size"] == 256
    assert data["statistics"] == paper["statistics"]
    assert transform["input_size"] == paper["input_size"]
    assert transform["normalize"] == paper["normalize"]
    assert transform["min_scale"] == 0.2
    assert transform["hf_prob"] == 0.5
    assert transform["cj_prob"] == 0.8
    strengths = [transform[f"cj_{name}"] for name in ("bright", "contrast", "sat", "hue")]
    assert [transform["cj_strength"] * s for s in strengths] == [0.4, 0.4, 0.4, 0.1]
    assert transform["random_gray_scale"] == 0.2
    assert transform["gaussian_blur"] == 0.5
    assert transform["sigmas"] == [0.1, 2.0]
    assert transform["blur"] == "kernel"
    kernel = transform["input_size"] // 10 | 1
    assert kernel == {96: 9, 224: 23}[transform["input_size"]]


@pytest.mark.parametrize(
    "name", sorted({path.name for path in CONFIGS.glob("*.yaml")} - set(PAPER))
)
def test_other_configs_parse(name: str) -> None:
    settings = read_settings(name)
    assert settings["model"]["backbone"] in timm.list_models("resnet*")


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Image files of differing sizes in two class folders, one of which cannot be read."""
    folder = tmp_path_factory.mktemp("drawings")
    generator = np.random.default_rng(0)
    for i in range(60):
        path = folder / f"class{i % 2}" / f"{i:02d}.PNG"
        path.parent.mkdir(exist_ok=True)
        shape = (20 + i % 5, 30 - i % 7, 3)
        Image.fromarray(generator.integers(256, size=shape, dtype=np.uint8)).save(path)
    (folder / "class1" / "broken.jpg").write_bytes(b"not an image")
    return folder


@pytest.mark.slow
def test_a_folder_with_views_made_on_the_device_equals_the_host(
    drawings: Path, tmp_path: Path
) -> None:
    """The records are the same, and so nearly are the losses; decoded images come from a cache."""
    found = {}
    for augment in ("host", "device"):
        output = output_of(
            pretrain(
                tmp_path / augment,
                "--model.backbone=resnet10t",  # in which roundings grow less
                "--data.dataset=folder",
                f"--data.data_dir={drawings}",
                "--data.skip_unreadable=true",
                f"--data.cache={tmp_path / 'cache'}",
                f"--data.augment={augment}",
                "--data.batch_size=20",
                "--data.num_workers=1",
                "--trainer.max_epochs=2",
            )
        )
        assert "broken.jpg" in output
        found[augment] = {k: float(v) for k, v in losses(tmp_path / augment).items()}
    assert len(found["host"]) == 6
    assert found["device"][0] == pytest.approx(found["host"][0], rel=5e-3)
    assert found["device"] == pytest.approx(found["host"], rel=5e-2)  # roundings grow
    assert found["device"] != found["host"]


def test_an_unreadable_image_stops_the_run_with_its_path(drawings: Path, tmp_path: Path) -> None:
    done = pretrain(
        tmp_path / "run",
        "--data.dataset=folder",
        f"--data.data_dir={drawings}",
        "--data.batch_size=20",
        "--data.num_workers=0",
    )
    assert done.returncode == 1
    assert re.search(r"broken.jpg.*skip_unreadable", done.stderr), done.stderr[-2000:]


def test_a_finished_run_exports_what_is_missing(whole: SimpleNamespace) -> None:
    """It may have been killed between its last checkpoint and the export."""
    shutil.rmtree(whole.folder / "encoder")
    output_of(pretrain(whole.folder, "--trainer.max_epochs=3", "--ckpt_path=last"))
    weight = load_file(whole.folder / "encoder/model.safetensors")["conv1.0.weight"]
    assert torch.equal(weight, weights(whole.folder)["star.backbone.conv1.0.weight"])


def test_folders_that_cannot_be_written_to_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from star_head.examples import pretrain
    from star_head.examples.training.resumable import check_folder

    module = pretrain.create_module("stl10", 8, "resnet10t", num_experts=2)
    check_folder(tmp_path / "fine", module, None, "output")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file/run is not writable"):
        check_folder(tmp_path / "file/run", module, None, "output")
    usage = SimpleNamespace(total=10**12, used=0, free=10**6)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage)
        with pytest.raises(OSError, match=r"two checkpoints need \d+ MB, and .* has 1 MB free"):
            check_folder(tmp_path / "full", module, None, "output")
    last = tmp_path / "fine/checkpoints/last.ckpt"
    last.touch()
    for own in ("last", str(last)):
        check_folder(tmp_path / "fine", module, own, "output")
    for other in (None, str(tmp_path / "elsewhere/checkpoints/last.ckpt")):
        with pytest.raises(FileExistsError, match="holds a run"):
            check_folder(tmp_path / "fine", module, other, "output")


def test_checkpoints_are_whole_or_not_there(tmp_path: Path) -> None:
    from star_head.examples.training.checkpoints import SafeCheckpointIO

    path = tmp_path / "last.ckpt"
    SafeCheckpointIO().save_checkpoint({"weight": torch.ones(3)}, path)
    before = path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o666 & ~UMASK
    with pytest.raises(AttributeError, match="local object"):  # in the midst of writing
        SafeCheckpointIO().save_checkpoint({"weight": torch.ones(10**6), "bad": lambda: 0}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_another_runs_folder_is_not_overwritten(whole: SimpleNamespace) -> None:
    settings = (whole.folder / "config.yaml").read_text()
    done = pretrain(whole.folder, "--trainer.max_epochs=1")
    assert done.returncode == 1
    assert "holds a run; go on with it by --ckpt_path=last" in done.stderr
    assert (whole.folder / "config.yaml").read_text() == settings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data.batch_size=128"], "checkpoint: its run had batch_size 256, and this has 128"),
        (["--model.num_experts=3"], r"its model is not this one; .*\(2, 64, 96\) in the"),
        (["--ckpt_path={truncated}"], "truncated.ckpt is no readable checkpoint: it is truncated"),
        (["--ckpt_path={foreign}"], "foreign.ckpt is not of a Lightning run: it lacks state_dict"),
        (["--ckpt_path={absent}"], "absent.ckpt"),
    ],
)
def test_checkpoints_that_do_not_fit_are_refused(
    whole: SimpleNamespace, tmp_path: Path, options: list[str], message: str
) -> None:
    last = whole.folder / "checkpoints/last.ckpt"
    paths = {name: tmp_path / f"{name}.ckpt" for name in ("truncated", "foreign", "absent")}
    paths["truncated"].write_bytes(last.read_bytes()[:100_000])
    torch.save({"weights": torch.ones(3)}, paths["foreign"])
    done = pretrain(
        tmp_path / "run", f"--ckpt_path={last}", *(option.format(**paths) for option in options)
    )
    assert done.returncode == 1
    assert re.search(message, done.stderr), done.stderr[-2000:]
    assert not (tmp_path / "run/config.yaml").exists()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="as on clusters: Linux")
def test_two_processes_stop_together_on_sigterm(tmp_path: Path) -> None:
    command = [
        *(sys.executable, EXAMPLES / "pretrain.py", *arguments_for(tmp_path / "run")),
        *("--trainer.devices=2", "--trainer.strategy=ddp", "--data.num_workers=1"),
    ]
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=own_environment(GLOO_SOCKET_IFNAME="lo"),
        )
        try:
            last = tmp_path / "run/checkpoints/last.ckpt"
            while not last.exists():
                assert process.poll() is None, (tmp_path / "log").read_text()[-3000:]
                time.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            assert process.wait() == 143
        finally:
            process.kill()
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert torch.load(last, weights_only=True)["global_step"] % 5 == 0
