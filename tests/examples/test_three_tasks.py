"""Three tasks on one bank: the example as a user runs it, small, and its parts against loops."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from running import run_here
from torch import Tensor, nn

from star_head import EquivariantPredictor, NTXentLoss, Parameter, STARViews, Statistics
from star_head.adapters.lightly import STARTransform
from star_head.examples import three_tasks
from star_head.examples.data.image_data import load_images
from star_head.examples.three_tasks import PARTS, TASKS, ThreeTasks, by_chance, find_views

STATISTICS = Statistics([float(i) for i in range(11)], [1.0 + i for i in range(11)])
RANKS = [f"mean reciprocal rank, {name}" for name in PARTS]


def make_model(width: int = 12) -> ThreeTasks:
    backbone = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(192, width))
    return ThreeTasks(backbone, width, STATISTICS, batch_size=128)


@pytest.mark.slow
def test_every_task_learns(tmp_path: Path) -> None:
    arguments = ["--output", "out.json", "--backbone", "test_resnet", "--max-images", "640"]
    arguments += ["--epochs", "4", "--batch-size", "64", "--num-workers", "0"]
    done = run_here("examples/three_tasks.py", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "out.json").read_text())
    trained, untrained, chance = found["trained"], found["untrained"], found["chance"]
    assert found["images"] == 640
    assert trained["1-NN accuracy"] > untrained["1-NN accuracy"] + 0.05
    for name in RANKS:
        assert chance[name] == pytest.approx(sum(1 / rank for rank in range(1, 21)) / 20)
        assert abs(untrained[name] - chance[name]) < 0.05
        assert trained[name] > 1.4 * chance[name]
    divergences = [name for name in trained if name.startswith("divergence")]
    assert len(divergences) == 3
    for name in divergences:
        assert untrained[name] < 0.02 < trained[name] < 1
    for name, value in trained.items():
        (row,) = (line for line in done.stdout.splitlines() if line.startswith(name))
        assert row.split()[-3] == f"{value:.3f}"
    assert "loss" in done.stdout + done.stderr


def test_untrained_and_trained_are_measured_alike(tmp_path: Path) -> None:
    settings = {"backbone": "test_resnet", "max_images": 64, "epochs": 1, "batch_size": 32}
    three_tasks.main(**settings, num_workers=0, output=tmp_path / "out.json")
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["images"] == 64
    assert found["trained"].keys() == found["untrained"].keys() >= {"1-NN accuracy", *RANKS}
    assert found["trained"] != found["untrained"]
    assert np.isfinite([*found["trained"].values(), *found["untrained"].values()]).all()


def test_the_parts_are_the_whole_vector_once() -> None:
    labels = [p.label for p in Parameter]
    assert labels[PARTS["geometric"]] == [
        *("crop top", "crop left", "crop height", "crop width", "flip"),
    ]
    assert labels[PARTS["geometric"]] + labels[PARTS["photometric"]] == labels


def test_a_predictor_sees_its_own_part_alone() -> None:
    model = make_model().eval()
    z, params = torch.randn(6, 128), torch.randn(6, 11)
    for name, part in PARTS.items():
        predictor = model.predictors[name]
        assert isinstance(predictor, EquivariantPredictor)
        assert predictor.mean.tolist() == list(STATISTICS.mean[part])
        assert predictor.std.tolist() == list(STATISTICS.std[part])
        before = model.predict(name, z, params)
        for column in range(11):
            moved = params.clone()
            moved[:, column] += 1
            same = torch.equal(model.predict(name, z, moved), before)
            assert same == (column not in range(11)[part]), (name, column)


def test_the_loss_is_the_sum_of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model().double().eval()
    images = [torch.rand(5, 3, 32, 32, dtype=torch.double) for _ in range(3)]
    params = [torch.rand(5, 11, dtype=torch.double) for _ in range(2)]
    logged = {}
    monkeypatch.setattr(model, "log", lambda name, value, **_: logged.update({name: value}))
    loss = model.training_step((STARViews(images[0], images[1:], params), torch.zeros(5)), 0)

    def embed(x: Tensor, task: int) -> Tensor:
        return model.experts(model.backbone(x))[:, task]

    nt_xent = NTXentLoss(0.2)
    expected = nt_xent(embed(images[1], 0), embed(images[2], 0))
    for task, (name, columns) in enumerate(
        (("geometric", range(5)), ("photometric", range(5, 11)))
    ):
        e0 = embed(images[0], task + 1)
        predicted = [model.predictors[name](e0, p[:, list(columns)]) for p in params]
        viewed = [embed(x, task + 1) for x in images[1:]]
        expected += nt_xent(torch.cat(viewed), torch.cat(predicted))
    torch.testing.assert_close(loss, expected)
    assert logged["loss"] is loss


def test_every_task_trains_the_bank_by_its_own_router() -> None:
    model = make_model()
    z = model(torch.rand(4, 3, 32, 32))
    assert tuple(z) == TASKS
    for task, name in enumerate(TASKS):
        model.zero_grad()
        z[name].square().sum().backward(retain_graph=True)
        rows = model.experts.router.weight.grad.view(len(TASKS), -1)
        assert [bool(row.any()) for row in rows] == [i == task for i in range(len(TASKS))]
        assert all(w.any() for w in model.experts.layers[0].weight.grad)


def test_views_are_the_same_each_time_and_the_generator_untouched() -> None:
    model = make_model().eval()
    images = load_images("digits").test.part(np.arange(5))
    state = torch.get_rng_state()
    with torch.inference_mode():
        first, second = (find_views(model, STARTransform(32), images) for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), state)
    assert list(first) == RANKS


def test_chance_of_a_neighbour_by_a_loop() -> None:
    splits = load_images("digits")
    train, test = splits.train.part(np.arange(100)), splits.test.part(np.arange(30))
    same = [a == b for a in train.labels for b in test.labels]
    assert by_chance(train, test)["1-NN accuracy"] == pytest.approx(np.mean(same))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset": "folder", "data_dir": Path("nowhere")}, "data_dir: expected .* got nowhere"),
        ({"dataset": "folder", "data_dir": Path("flat")}, "expected class folders in flat"),
        ({"batch_size": 5000}, "batch_size: expected at most the 1437 images, got 5000"),
        ({"backbone": "resnet19"}, "name: timm .* has no model 'resnet19'"),
    ],
)
def test_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], message: str
) -> None:
    (tmp_path / "flat").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "flat/only.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        three_tasks.main(**arguments, output=Path("out.json"))
    assert not Path("out.json").exists()
