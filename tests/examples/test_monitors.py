"""What star-head pretrain looks at while it trains, and tells at its end."""

import re
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from PIL import Image
from running import output_of, run_here
from torch import nn

from star_head import STAR, STARProjectionHead
from star_head.adapters.callbacks import (
    EquivarianceMonitor,
    NearestNeighbours,
    OnlineLinearProbe,
    RankMonitor,
    RedundancyMonitor,
    RoutingMonitor,
)
from star_head.adapters.lightly import STARTransform
from star_head.adapters.lightning import STARModule
from star_head.examples.pretrain import main, tell_logs
from star_head.examples.training.monitors import Monitors
from star_head.examples.training.run_logs import read_logs
from star_head.head import Routing

# Three steps an epoch, and embeddings of fewer dimensions than there are images.
OPTIONS = (
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=2",
    "--trainer.limit_train_batches=3",
    "--trainer.log_every_n_steps=1",
    "--model.backbone=test_resnet",
    "--model.hidden_dim=16",
    "--model.output_dim=8",
    "--data.batch_size=16",
    "--data.num_workers=0",
    "--data.transform=STARTransform",
    "--data.transform.input_size=16",
    "--monitors.equivariance.images=20",
)
OFF = [f"--monitors.{name}=false" for name in ("probe", "neighbours", "rank", "redundancy")]
OFF += ["--monitors.routing=false", "--monitors.equivariance=false"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images in no class folders."""
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for i in range(48):
        pixels = generator.integers(256, size=(20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    return folder


def pretrain(folder: Path, *arguments: object) -> str:
    root = f"--trainer.default_root_dir={folder}"
    return output_of(run_here(main, root, *OPTIONS, *arguments, cwd=folder.parent))


def table(output: str) -> dict[str, list[float]]:
    """Of each row first, last, and where there is one chance."""
    rows = re.findall(r"^(\S.*?)  +(-?\d\S*(?: +-?\d\S*)+) *$", output, re.MULTILINE)
    return {label: [float(value) for value in values.split()] for label, values in rows}


@pytest.mark.parametrize("routing", ["mmoe", "invariant"])
def test_a_run_without_labels_tells_what_was_learned(
    photos: Path, tmp_path: Path, routing: Routing
) -> None:
    data = ("--data.dataset=folder", f"--data.data_dir={photos}")
    output = pretrain(tmp_path / "run", *data, f"--model.routing={routing}")
    assert "left out" not in output
    assert f"The curves are in {tmp_path}/run/csv and for TensorBoard in {tmp_path}/run/" in output
    told = table(output)
    logs = read_logs(tmp_path / "run")
    of_any = {
        "loss, invariant part": "train_loss_invariant",
        "effective rank of the features": "effective_rank",
        "mean R² of parameters": "mean_r2",
    }
    of_two_tasks = {
        "loss, equivariant part": "train_loss_equivariant",
        "mean canonical correlation": "mean_canonical_correlation",
        "mean reciprocal rank": "mean_reciprocal_rank",
        "divergence of the routings": "routing_divergence",
    }
    expected = of_any | (of_two_tasks if routing == "mmoe" else {})
    assert told.keys() == expected.keys() | {"spread of the features"}
    for label, name in expected.items():
        values = logs[name]
        ends = [values[min(values)], values[max(values)]]
        if f"{name}_chance" in logs:
            chance = logs[f"{name}_chance"]
            ends.append(chance[max(chance)])
        assert told[label] == pytest.approx(ends, rel=1e-3), label
    for label in ("mean R² of parameters", *(list(of_two_tasks)[1:3] * (routing == "mmoe"))):
        assert len(told[label]) == 3, label
        assert min(logs[expected[label]]) == 0  # before training


def test_watching_changes_nothing_and_each_monitor_is_a_key(tmp_path: Path) -> None:
    """On digits, which have labels."""
    output = pretrain(tmp_path / "on", "--data.monitor_images=100")
    assert "left out" not in output
    told = table(output)
    for label in ("1-NN accuracy", "weighted k-NN accuracy", "linear probe, top-1"):
        assert 0 <= told[label][0] <= 1
    off = table(pretrain(tmp_path / "off", *OFF))
    assert off.keys() == {"loss, invariant part", "loss, equivariant part"}
    states = [
        torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for name in ("on", "off")
    ]
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name


def test_only_logs_that_were_written_are_pointed_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tell_logs(tmp_path) == {}  # another logger in place of the default ones
    assert not capsys.readouterr().out
    csv = tmp_path / "csv/version_0/metrics.csv"
    csv.parent.mkdir(parents=True)
    csv.write_text("step,train_loss_invariant\n0,2.5\n")
    for told in (
        f"{tmp_path}/csv",
        f"{tmp_path}/csv and for TensorBoard in {tmp_path}/tensorboard",
    ):
        assert tell_logs(tmp_path) == {"curves": f"star-head plot-run {tmp_path} curves.png"}
        output = capsys.readouterr().out
        assert f"The curves are in {told}\n" in output
        assert table(output) == {"loss, invariant part": [2.5, 2.5]}
        (tmp_path / "tensorboard").mkdir(exist_ok=True)


def test_an_argument_that_a_monitor_does_not_have_is_named() -> None:
    for arguments, known in (
        ({"rank": {"sample": 10}}, "monitors.rank: .* of samples, every_n_epochs, got sample"),
        ({"neighbours": {"images": 10}}, "monitors.neighbours: .* of k, temperature, got images"),
        ({"equivariance": {"predict": "x"}}, "images, views, every_n_epochs, got predict"),
    ):
        with pytest.raises(TypeError, match=known):
            Monitors(**arguments)


ALL = {
    OnlineLinearProbe,
    NearestNeighbours,
    RankMonitor,
    RedundancyMonitor,
    RoutingMonitor,
    EquivarianceMonitor,
}
LABELLED = {OnlineLinearProbe, NearestNeighbours}


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({}, set()),
        ({"is_labelled": False}, LABELLED),
        ({"routing": "invariant"}, {RedundancyMonitor, RoutingMonitor}),
        ({"images": 4}, {EquivarianceMonitor}),
        ({"limit_val_batches": 0}, LABELLED | {RedundancyMonitor}),
        ({"own": [RankMonitor("forward", samples=9)]}, {RankMonitor}),
    ],
)
def test_each_is_there_where_there_is_what_it_looks_at(
    changes: dict[str, Any], missing: set[type[Callback]]
) -> None:
    trainer, module = untrained(Monitors(), **changes)
    monitors, *own = trainer.callbacks
    few = "at least 5 held-out images, got 4" if EquivarianceMonitor in missing else None
    with pytest.warns(UserWarning, match=few) if few else warnings.catch_warnings():
        monitors.setup(trainer, module, "fit")
    added = [callback for callback in trainer.callbacks[1:] if callback not in own]
    assert {type(callback) for callback in added} == ALL - missing
    assert trainer.callbacks[-1:] == own or not own


@pytest.mark.parametrize("options", [{"rank": {"samples": 1}}, {"routing": {"every_n_steps": "x"}}])
def test_an_argument_that_a_monitor_refuses_is_named_with_its_key(options: dict[str, Any]) -> None:
    ((name, argument),) = options.items()
    trainer, module = untrained(Monitors(**options))
    with pytest.raises((TypeError, ValueError), match=f"^monitors.{name}: {next(iter(argument))}:"):
        trainer.callbacks[0].setup(trainer, module, "fit")


def untrained(monitors: Monitors, **changes: Any) -> tuple[SimpleNamespace, STARModule]:
    """What a Trainer has when its callbacks are set up, and what it trains."""
    given = {"is_labelled": True, "routing": "mmoe", "images": 5, "limit_val_batches": 1.0}
    given |= {"own": []} | changes
    head = STARProjectionHead(192, 8, 4, routing=given["routing"], statistics="stl10")
    module = STARModule(STAR(nn.Sequential(nn.Flatten(), nn.Linear(192, 192)), head))
    trainer = SimpleNamespace(
        callbacks=[monitors, *given["own"]],
        limit_val_batches=given["limit_val_batches"],
        datamodule=SimpleNamespace(
            is_labelled=given["is_labelled"],
            held_out=[Image.new("RGB", (9, 9))] * given["images"],
            transform=STARTransform(8),
        ),
    )
    return trainer, module
