"""`star-head compare` from end to end: trains, is broken off, goes on, and measures."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from running import ROOT, output_of, own_environment, run_apart
from sklearn.linear_model import LogisticRegression

from star_head.evaluation import extract_features, open_encoder, open_trained
from star_head.examples.data.transfer_data import load_transfer

SETTINGS = (
    *("--dataset=digits", "--transfer=digits", "--seeds=2", "--jobs=2", "--threads=1"),
    *("--trainer.accelerator=cpu", "--trainer.max_epochs=2", "--data.num_workers=0"),
    *("--model.backbone=test_resnet", "--model.hidden_dim=32", "--model.output_dim=16"),
    *("--data.transform=STARTransform", "--data.transform.input_size=16"),
)
METHODS = ("augself", "star-mmoe-2")

pytestmark = pytest.mark.slow


def results(output: Path) -> dict[str, dict]:
    return {path.stem: json.loads(path.read_text()) for path in output.glob("results/*.json")}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Two methods with two seeds, ended in the midst of it by SIGTERM and resumed."""
    output = tmp_path_factory.mktemp("compare") / "out"
    script = ("examples/compare.py", *SETTINGS, f"--methods={','.join(METHODS)}")
    command = [sys.executable, str(ROOT / script[0]), *script[1:], f"--output={output}"]
    process = subprocess.Popen(command, env=own_environment(), stderr=subprocess.DEVNULL)
    begun = output / "runs/augself_0/checkpoints/last.ckpt"
    until = time.monotonic() + 300
    while not begun.exists():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    code = process.wait(timeout=60)
    before = results(output)
    checkpoint = torch.load(begun, weights_only=True)
    said = output_of(run_apart(*script, f"--output={output}"))
    return SimpleNamespace(
        output=output, script=script, code=code, before=before, checkpoint=checkpoint, said=said
    )


def test_what_is_ended_takes_its_runs_with_it(done: SimpleNamespace) -> None:
    assert done.code == 128 + signal.SIGTERM
    assert "augself_0" not in done.before
    log = done.output / "runs" / "augself_0.log"
    assert done.checkpoint["epoch"] < 2
    assert "Restored all states" in log.read_text()  # went on from it


def test_each_run_is_measured(done: SimpleNamespace) -> None:
    found = results(done.output)
    names = [f"{name}_{seed}" for name in ("untrained", *METHODS) for seed in (0, 1)]
    assert sorted(found) == sorted(names)
    for name, run in found.items():
        assert run["epochs"] == 2
        assert 0.2 < run["linear"] <= 1
        assert run["linear elsewhere"] == {"digits": run["linear"]}
        assert 0.2 < run["1-NN"] <= 1
        assert 0.2 < run["5-shot"] <= 1
        if name.startswith("untrained"):
            assert "step" not in run
            continue
        assert run["steps"] == 10
        assert run["step"]["processor seconds"] > 0
        assert 1e8 < run["step"]["memory"] < 1e11
        seconds = run["seconds"]
        parts = [seconds["start"], seconds["training"], *seconds["evaluation"].values()]
        assert 0 < sum(parts) < seconds["all"]
        assert (run["canonical correlation"] is None) == name.startswith("augself")
        assert (run["equivariance"] is None) == name.startswith("augself")
    assert found["untrained_0"]["linear"] != found["untrained_1"]["linear"]


def test_a_runs_numbers_are_those_of_its_files(done: SimpleNamespace) -> None:
    """1-NN and linear accuracy once more, by NumPy and scikit-learn, of the encoder it left."""
    run = results(done.output)["star-mmoe-2_1"]
    data = load_transfer("digits")
    encoder = open_encoder(done.output / "runs/star-mmoe-2_1/encoder")
    (x, y), (x_test, y_test) = (extract_features(encoder, part) for part in (data.train, data.test))
    units = [f / np.linalg.norm(f, axis=1, keepdims=True) for f in (x, x_test)]
    nearest = y[(units[1] @ units[0].T).argmax(axis=1)]
    assert run["1-NN"] == pytest.approx((nearest == y_test).mean(), abs=0.006)
    model = LogisticRegression(max_iter=3000).fit(x, y)
    assert run["linear"] == pytest.approx(model.score(x_test, y_test), abs=0.1)


def test_runs_can_be_opened(done: SimpleNamespace) -> None:
    trained = open_trained(done.output / "runs/augself_0/checkpoints/last.ckpt")
    assert trained.settings["head"] == "SimCLR, 1 expert, with AugSelf"


def test_the_page_and_its_numbers(done: SimpleNamespace) -> None:
    page = (done.output / "compare.html").read_text()
    found = json.loads((done.output / "compare.json").read_text())
    assert found["reference"] == "augself"
    cell = found["methods"]["star-mmoe-2"]["linear, %"]
    runs = results(done.output)
    differences = [
        100 * (runs[f"star-mmoe-2_{seed}"]["linear"] - runs[f"augself_{seed}"]["linear"])
        for seed in (0, 1)
    ]
    assert cell["difference"]["mean"] == pytest.approx(np.mean(differences))
    assert page.count("<img") == 2
    for text in ("AugSelf", "STAR-MMoE, 2 experts", "5-way 5-shot", "--trainer.max_epochs=2"):
        assert text in page
        assert text.startswith("--") or text in done.said.replace("\u00a0", " ")


def test_what_is_done_is_not_done_again(done: SimpleNamespace) -> None:
    times = {path: path.stat().st_mtime_ns for path in done.output.glob("results/*.json")}
    page = done.output / "compare.html"
    before = page.read_text()
    page.unlink()
    output_of(run_apart(*done.script, f"--output={done.output}"))
    assert page.read_text() == before
    assert {path: path.stat().st_mtime_ns for path in times} == times
    other = run_apart(*done.script, f"--output={done.output}", "--model.output_dim=8")
    assert "output: " in other.stderr
    assert "holds a comparison that had arguments" in other.stderr


def test_settings_that_are_wrong_show_at_once(tmp_path: Path) -> None:
    found = run_apart("examples/compare.py", *SETTINGS, f"--output={tmp_path}", "--model.wings=2")
    assert found.returncode
    assert "untrained_0 ended with 2" in found.stderr
    assert "wings" in found.stderr
    assert not list(tmp_path.glob("results/*"))
    assert os.listdir(tmp_path / "runs") == ["untrained_0.log"]
