"""Weights & Biases and MLflow by Lightning's own flags, read back from the files that they keep."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch.loggers import MLFlowLogger, WandbLogger
from PIL import Image
from running import output_of, run_apart
from watched import Method, fit, star_head

from star_head.adapters.callbacks import RoutingMonitor
from star_head.examples.training.run_logs import read_logs

pytestmark = pytest.mark.slow

Values = dict[str, dict[int, float]]

SMALL = (
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=2",
    "--trainer.log_every_n_steps=1",
    "--model.backbone=test_resnet",
    "--model.num_experts=2",
    "--model.hidden_dim=64",
    "--model.output_dim=16",
    "--data.transform=STARTransform",
    "--data.transform.input_size=16",
    "--data.num_workers=0",
)


def pretrain(folder: Path, *logger: str) -> Values:
    """Pretrain with a logger and CSV beside it; what the latter has."""
    beside = (
        "--trainer.logger+=CSVLogger",
        f"--trainer.logger.save_dir={folder}",
        "--trainer.logger.name=csv",
    )
    place = f"--trainer.default_root_dir={folder}"
    done = run_apart("examples/pretrain.py", *SMALL, place, *logger, *beside, cwd=folder)
    output = output_of(done)
    assert "loss, invariant part" in output
    logs = read_logs(folder)
    assert {"train_loss", "train_loss_invariant", "train_loss_equivariant"} <= logs.keys()
    assert {"knn_accuracy", "routing_divergence", "usage/invariant_00"} <= logs.keys()
    return logs


def pictured(folder: Path, logger: Any) -> None:
    """Train anybody's module with a picture of usage after each of two epochs."""
    weights = RoutingMonitor(
        lambda module, images: module.head.routing_weights(module.backbone(images)),
        every_n_steps=2,
        picture_every_n_epochs=1,
    )
    fit(folder, [weights], Method(head=star_head()), logger=logger)


def check_pictures(paths: list[Path]) -> None:
    assert len(paths) == 2
    for path in paths:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        assert min(pixels.shape[:2]) > 200
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20


def test_mlflow_has_what_csv_has(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    address = f"sqlite:///{tmp_path}/mlflow.db"
    flags = "--trainer.logger+=MLFlowLogger", f"--trainer.logger.tracking_uri={address}"
    logs = pretrain(tmp_path, *flags, f"--trainer.logger.artifact_location={tmp_path}/artifacts")
    client = mlflow.MlflowClient(address)
    (experiment,) = client.search_experiments(filter_string="name = 'lightning_logs'")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    found = {
        name: {m.step: m.value for m in client.get_metric_history(run.info.run_id, name)}
        for name in run.data.metrics
    }
    assert found == logs

    logger = MLFlowLogger(tracking_uri=address, run_id=run.info.run_id)
    pictured(tmp_path / "pictured", logger)
    check_pictures(sorted(tmp_path.glob("artifacts/*/artifacts/usage/*.png")))


def test_wandb_has_what_csv_has(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    flags = "--trainer.logger+=WandbLogger", "--trainer.logger.offline=true"
    logs = pretrain(tmp_path, *flags, f"--trainer.logger.save_dir={tmp_path}")
    found: Values = {}
    for row in wandb_rows(tmp_path):
        step = row["trainer/global_step"]
        for name in row.keys() & logs.keys():
            found.setdefault(name, {})[step] = row[name]
    assert found == logs

    folder = tmp_path / "pictured"
    folder.mkdir()
    logger = WandbLogger(save_dir=folder, offline=True)
    pictured(folder, logger)
    logger.experiment.finish()
    names = [name for row in wandb_rows(folder) for name in row.get("usage/filenames", ())]
    (files,) = folder.glob("wandb/offline-run-*/files")
    check_pictures([files / name for name in names])


def wandb_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """What was logged together, from the one offline run under a folder, once it is written."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    records: list[Any] = []
    until = time.monotonic() + 120  # a process of W&B's own writes, and may end after the run
    while not any(record.WhichOneof("record_type") == "exit" for record in records):
        assert time.monotonic() < until
        time.sleep(0.1)
        records = [Record.FromString(data) for data in leveldb_records(path.read_bytes())]
    for record in records:
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            yield {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}


def leveldb_records(data: bytes, block: int = 32768) -> Iterator[bytes]:
    """Records of a log in LevelDB's format, behind the 7 bytes that W&B writes first.

    A part is a checksum (4 bytes), its length (2), whether it is whole (1), the first (2), one
    within (3) or the last (4) of a record, and the bytes. No part's head crosses a block's end.
    """
    at, record = 7, b""
    while at + 7 <= len(data):
        left = block - at % block
        if left < 7:
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        at += 7 + length
        if at > len(data):
            return  # not yet whole
        record += data[at - length : at]
        if kind in (1, 4):
            yield record
            record = b""
