"""A pretraining run is resumed as it was begun, and its record tells what it was."""

import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml

from star_head.examples import pretrain

# Two steps an epoch on digits.
OPTIONS = (
    "--seed_everything=3",
    "--trainer.accelerator=cpu",
    "--trainer.limit_train_batches=2",
    "--trainer.limit_val_batches=0",
    "--trainer.logger=false",
    "--model.backbone=test_resnet",
    "--model.num_experts=2",
    "--model.hidden_dim=16",
    "--model.output_dim=8",
    "--data.batch_size=32",
    "--data.num_workers=0",
    "--data.transform=STARTransform",
    "--data.transform.input_size=16",
)


def run(folder: Path, *arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sys, "argv", ["pretrain.py", f"--trainer.default_root_dir={folder}", *arguments]
        )
        pretrain.main()


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch."""
    folder = tmp_path_factory.mktemp("begun") / "run"
    run(folder, *OPTIONS, "--trainer.max_epochs=1")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


OTHERS = {
    "optimiser and loss": {
        "model.learning_rate=0.1": "learning_rate 0.03, and this has 0.1",
        "model.weight_decay=0.1": "weight_decay 0.0005, and this has 0.1",
        "model.momentum=0.5": "momentum 0.9, and this has 0.5",
        "model.decay_norm_and_bias=false": "decay_norm_and_bias True, and this has False",
        "model.temperature=0.5": "invariant_loss.temperature 0.2, and this has 0.5",
        "model.equivariant_weight=2": "equivariant_weight 1.0, and this has 2.0",
        "data.batch_size=64": "batch_size 32, and this has 64",
        "trainer.accumulate_grad_batches=2": "accumulate_grad_batches 1, and this has 2",
    },
    "network, views and numbers": {
        "model.init=timm": "model.init 'paper', and this has 'timm'",
        "model.backbone_args={drop_path_rate: 0.1}": "drop_path_rate None, and this has 0.1",
        "data.transform.cj_strength=1.0": "cj_strength 0.5, and this has 1.0",
        "data.statistics=stl10": "data.statistics None, and this has 'stl10'",
        "data.augment=device": "data.augment 'host', and this has 'device'",
        "trainer.precision=bf16-mixed": "trainer.precision None, and this has 'bf16-mixed'",
        "trainer.gradient_clip_val=1.0": "trainer.gradient_clip_val None, and this has 1.0",
        "trainer.limit_train_batches=3": "trainer.limit_train_batches 2.0, and this has 3.0",
    },
    "one alone": {"model.temperature=0.1": "checkpoint: its run had invariant_loss.temperature"},
}


@pytest.mark.parametrize("which", OTHERS)
def test_another_run_is_refused_by_name_and_nothing_is_written(
    begun: Path, tmp_path: Path, which: str
) -> None:
    folder = shutil.copytree(begun, tmp_path / "run")
    before = contents(folder)
    settings = [f"--{setting}" for setting in OTHERS[which]]
    with pytest.raises(ValueError, match="checkpoint: its run had ") as refused:
        run(folder, *OPTIONS, "--trainer.max_epochs=2", *settings, "--ckpt_path=last")
    for difference in OTHERS[which].values():
        assert difference in str(refused.value)
    assert contents(folder) == before


def test_what_does_not_change_the_run_may_change(begun: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(begun, tmp_path / "run")
    run(
        folder,
        *OPTIONS[1:],  # the seed is the run's, given again or not
        "--trainer.max_epochs=2",
        "--trainer.log_every_n_steps=1",
        "--monitors.rank=false",
        "--monitors.routing={every_n_steps: 1}",
        "--keep_every_n_epochs=1",
        "--ckpt_path=last",
    )
    saved = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    assert saved["global_step"] == 4
    record = yaml.safe_load((folder / "config.yaml").read_text())
    assert record["seed_everything"] == 3
    assert record["trainer"]["max_epochs"] == 2

    # The record is of the run: begun by it, the same weights come out.
    again = tmp_path / "again"
    with pytest.MonkeyPatch.context() as patch:
        arguments = [f"--config={folder}/config.yaml", f"--trainer.default_root_dir={again}"]
        patch.setattr(sys, "argv", ["pretrain.py", *arguments, "--ckpt_path=null"])
        pretrain.main()
    same = torch.load(again / "checkpoints/last.ckpt", weights_only=True)
    assert same["global_step"] == 4
    first = saved["optimizer_states"][0]["param_groups"][0]
    assert first == same["optimizer_states"][0]["param_groups"][0]


def test_a_checkpoint_of_version_0_1_0_tells_by_its_optimizer(begun: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(begun, tmp_path / "run")
    last = folder / "checkpoints/last.ckpt"
    old = torch.load(last, weights_only=True)
    for callback in ("SaveConfig", "RankMonitor"):
        del old["callbacks"][callback]
    del old["settings"]
    torch.save(old, last)
    arguments = (*OPTIONS, "--trainer.max_epochs=2", "--ckpt_path=last")
    others = ("--model.learning_rate=0.1", "--model.weight_decay=0.1", "--model.momentum=0.5")
    with pytest.raises(ValueError, match="its run had learning_rate 0.03.*momentum.*weight_decay"):
        run(folder, *arguments, *others)
    run(folder, *arguments)
    assert torch.load(last, weights_only=True)["global_step"] == 4
