"""Finetuning as a user runs it, small: on real digits."""

import csv
import json
import math
import os
import random
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from running import run_apart
from timm.data import create_transform, resolve_model_data_config

from star_head.adapters.timm import create_backbone, export_encoder
from star_head.evaluation.networks import Encoder, open_encoder
from star_head.examples import finetune
from star_head.examples.data.image_data import load_images
from star_head.examples.training import trainers
from star_head.examples.training.classifier import FinetuneModule, add_classifier
from star_head.examples.training.trainers import SeededData, StepSeeds

CPU = {"accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1}
# 22 steps an epoch on 1,437 digits.
RECIPE: dict[str, Any] = {
    "dataset": "digits",
    "epochs": 4,
    "learning_rate": 0.02,
    "layer_decay": 0.9,
    "warmup_epochs": 1,
    "mixup": 0.1,
    "min_scale": 0.6,
    "num_workers": 0,
}


def weights(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return torch.load(folder / f"checkpoints/{name}.ckpt", weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    return export_encoder(create_backbone("test_resnet"), folder, input_size=32)


@pytest.fixture(scope="module")
def whole(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A run of four epochs that nothing disturbs."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    finetune.main(str(encoder), output=folder, trainer=CPU, **RECIPE)
    return SimpleNamespace(
        folder=folder, results=json.loads((folder / "finetune.json").read_text())
    )


def test_learns(whole: SimpleNamespace, encoder: Path) -> None:
    results = whole.results
    assert results["train images"] == 1437
    assert results["test images"] == 360
    assert results["measured on"] == "test"
    untrained = add_classifier(open_encoder(str(encoder)), 10)
    assert accuracy(untrained) < 0.25  # chance is 0.1
    assert results["accuracy"] > 0.6
    assert {path.name for path in (whole.folder / "checkpoints").iterdir()} == {
        "last.ckpt",
        "best.ckpt",
    }


def accuracy(model: torch.nn.Module) -> float:
    """Of a timm model on the digits' test images, prepared as timm says."""
    transform = create_transform(**resolve_model_data_config(model))
    images = load_images("digits").test
    batch = torch.stack([transform(image.convert("RGB")) for image, _ in images])
    with torch.no_grad():
        predicted = model.eval()(batch).argmax(dim=1)
    return float((predicted.numpy() == images.labels).mean())


def test_timm_alone_opens_the_model_with_its_classifier(whole: SimpleNamespace) -> None:
    model = timm.create_model(f"local-dir:{whole.folder / 'model'}", pretrained=True)
    assert model.num_classes == 10
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, weights(whole.folder)[f"model.{name}"]), name
    assert accuracy(model) == pytest.approx(whole.results["accuracy"], abs=1e-6)
    # It is an encoder too.
    features = open_encoder(str(whole.folder / "model")).backbone.eval()(torch.zeros(1, 3, 32, 32))
    assert features.shape == (1, 96)


def test_rates_warm_up_and_fall_by_a_cosine(whole: SimpleNamespace) -> None:
    with open(whole.folder / "csv/version_0/metrics.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["train_loss"]]
    assert len(rows) == 88
    top = 0.02 * 64 / 256
    for row in rows:
        step = int(row["step"])
        expected = top / 100 + (top - top / 100) * step / 22
        if step >= 22:
            expected = top * (1 + math.cos(math.pi * step / 88)) / 2
        assert float(row["learning_rate"]) == pytest.approx(expected, rel=1e-4)


def break_off_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = StepSeeds.on_train_batch_start

    def seed_or_break(self: StepSeeds, trainer: Any, *arguments: Any) -> None:
        if trainer.global_step == step:
            raise InterruptedError
        seed(self, trainer, *arguments)

    monkeypatch.setattr(StepSeeds, "on_train_batch_start", seed_or_break)


@pytest.mark.slow
def test_a_run_broken_off_ends_as_if_it_were_not(
    whole: SimpleNamespace, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = {**RECIPE, "output": tmp_path / "run", "trainer": CPU, "num_workers": 2}
    with monkeypatch.context() as patch:
        break_off_at(60, patch)
        with pytest.raises(InterruptedError):
            finetune.main(str(encoder), **again)
    saved = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert saved["global_step"] == 44
    torch.manual_seed(1)
    with pytest.raises(FileExistsError, match="output: .* holds a run; go on with it by"):
        finetune.main(str(encoder), **again)
    finetune.main(str(encoder), **again, ckpt_path="last")
    for key, tensor in weights(whole.folder).items():
        assert torch.equal(weights(tmp_path / "run")[key], tensor), key
    assert json.loads((tmp_path / "run/finetune.json").read_text()) == whole.results


def test_sigterm_ends_a_run_in_order(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = StepSeeds.on_train_batch_start

    def seed_or_signal(self: StepSeeds, trainer: Any, *arguments: Any) -> None:
        if trainer.global_step == 25:
            os.kill(os.getpid(), signal.SIGTERM)
        seed(self, trainer, *arguments)

    monkeypatch.setattr(StepSeeds, "on_train_batch_start", seed_or_signal)
    with pytest.raises(SystemExit) as ended:
        finetune.main(str(encoder), **RECIPE, output=tmp_path / "run", trainer=CPU)
    assert ended.value.code == 143
    saved = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert saved["global_step"] == 22
    assert not (tmp_path / "run/model").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mixup": 0.5}, "checkpoint: its run had mixup 0.1, and this has 0.5"),
        ({"batch_size": 32}, "checkpoint: its run had batch_size 64, and this has 32"),
        ({"epochs": 0}, "epochs: expected at least 1, got 0"),
        (
            {"batch_size": 63},
            "batch_size: mixup takes .* each of 1 processes in pairs, got 63",
        ),
        ({"batch_size": 2000}, "batch_size: expected at most the 1437 images to train on"),
        ({"trainer": {"callbacks": []}}, "trainer: expected arguments that the script does not"),
        ({"dataset": "folder"}, "data_dir: expected"),
        ({"label_share": 0.5}, "checkpoint: its run had .*label_share"),
        ({"label_share": 0.0}, "share: expected above 0 and at most 1, got 0.0"),
    ],
)
def test_bad_input(
    whole: SimpleNamespace, encoder: Path, tmp_path: Path, change: dict, message: str
) -> None:
    last = whole.folder / "checkpoints/last.ckpt"
    arguments = {**RECIPE, "output": tmp_path, "data_dir": tmp_path, "trainer": CPU} | change
    with pytest.raises(ValueError, match=message):
        finetune.main(str(encoder), ckpt_path=str(last), **arguments)


def test_another_models_checkpoint_is_refused(whole: SimpleNamespace, tmp_path: Path) -> None:
    torch.manual_seed(0)
    export_encoder(create_backbone("test_vit"), tmp_path / "vit")
    with pytest.raises(ValueError, match=r"its model is not this one; \d+ tensors differ: "):
        finetune.main(
            str(tmp_path / "vit"),
            **RECIPE,
            output=tmp_path / "run",
            trainer=CPU,
            ckpt_path=str(whole.folder / "checkpoints/last.ckpt"),
        )


@pytest.mark.slow
def test_from_the_command_line_in_two_processes(
    whole: SimpleNamespace, encoder: Path, tmp_path: Path
) -> None:
    """A finished run: what two processes measure together is what one has measured."""
    shutil.copytree(whole.folder, tmp_path / "run")
    (tmp_path / "run/finetune.json").unlink()
    options = {name.replace("_", "-"): value for name, value in RECIPE.items()}
    options |= {"output": "run", "ckpt_path": "last"}
    options |= {f"trainer.{name}": value for name, value in CPU.items()}
    options |= {"trainer.devices": 2, "trainer.strategy": "ddp"}
    done = run_apart(
        "examples/finetune.py",
        encoder,
        *(f"--{name}={value}" for name, value in options.items()),
        cwd=tmp_path,
        GLOO_SOCKET_IFNAME="lo",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((tmp_path / "run/finetune.json").read_text())
    assert results["accuracy"] == pytest.approx(whole.results["accuracy"], abs=1e-6)
    assert f"after 4 epochs: {100 * results['accuracy']:.2f}" in done.stdout
    assert done.stdout.count("The model is in") == 1


def test_validation_images_are_not_trained_on_where_they_are_measured(
    encoder: Path, tmp_path: Path
) -> None:
    arguments = RECIPE | {"epochs": 1, "validate": True, "label_share": 0.1}
    finetune.main(str(encoder), **arguments, output=tmp_path, trainer=CPU)
    results = json.loads((tmp_path / "finetune.json").read_text())
    assert results["measured on"] == "validation"
    assert results["test images"] == 287
    assert results["train images"] == pytest.approx(0.1 * 1150, abs=5)
    assert results["label_share"] == 0.1


@pytest.mark.parametrize(
    "name",
    ["test_vit", "test_efficientnet", "test_convnext", "test_byobnet", "mobilenetv3_small_050"],
)
def test_any_timm_model(name: str, tmp_path: Path) -> None:
    normalize = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    opened = Encoder(create_backbone(name), 160, normalize)
    model = add_classifier(opened, 7)
    module = FinetuneModule(model, 7, batch_size=2, batches=1)
    images = torch.randn(2, 3, 160, 160)
    logits = module.eval()(images)
    assert logits.std() > 0
    finetune._export(opened, tmp_path)
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    torch.testing.assert_close(again(images), logits)


def test_mean_per_class() -> None:
    module = FinetuneModule(
        torch.nn.Identity(), 3, batch_size=2, batches=1, metric="mean per class"
    )
    logits, labels = torch.randn(50, 3), torch.randint(3, (50,))
    counts = torch.rand(50) < 0.7
    module.validation_step((logits[:20], labels[:20], counts[:20]), 0)
    module.validation_step((logits[20:], labels[20:], counts[20:]), 1)
    right = (logits.argmax(dim=1) == labels)[counts]
    shares = [right[labels[counts] == c].float().mean() for c in range(3)]
    torch.testing.assert_close(module.accuracy.compute(), torch.stack(shares).mean())


@pytest.mark.parametrize("items", [1, 2, 7, 12, 13])
@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_each_test_item_counts_once(items: int, processes: int) -> None:
    data = [(index, 10 * index) for index in range(items)]
    seen, lengths = [], set()
    for rank in range(processes):
        loader = SeededData(data, data, batch_size=2 * processes, seed=0, num_workers=0)
        device = SimpleNamespace(root_device=torch.device("cpu"))
        loader.trainer = SimpleNamespace(
            world_size=processes, global_rank=rank, num_devices=1, strategy=device
        )
        batches = list(loader.test_dataloader())
        lengths.add(len(batches))
        for first, second, counts in batches:
            assert torch.equal(second, 10 * first)
            seen += first[counts].tolist()
    assert sorted(seen) == list(range(items))
    assert len(lengths) == 1  # else one process would wait for another forever


def test_items_follow_from_their_seed() -> None:
    """Whatever generator their transform draws from."""

    class Drawn:
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> tuple[float, ...]:
            return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002

    items = trainers._SeededItems(Drawn())
    first = items[0, 2**61 + 7]
    assert len(set(first)) == 3
    assert items[0, 2**61 + 7] == first
    assert not set(items[0, 2**61 + 8]) & set(first)
