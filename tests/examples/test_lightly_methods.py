"""Every method's example: its step with STAR and without, and a training run."""

import ast
import copy
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightly.data import LightlyDataset
from lightly.transforms import (
    BYOLTransform,
    BYOLView1Transform,
    BYOLView2Transform,
    DINOTransform,
    MoCoV2Transform,
    SimCLRTransform,
    SimSiamTransform,
    SwaVTransform,
    VICRegTransform,
)
from lightly_references import step
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from running import output_of, run_here
from same_draws import picture, seed_all, states
from torch import nn
from torch.utils.data import DataLoader

from star_head import STARViews, estimate_statistics
from star_head.adapters.lightly import STL10_NORMALIZE
from star_head.adapters.torchvision import RecordedTransform
from star_head.baselines import ESSL, AugSelf
from star_head.examples.lightly.other_tasks import beside

FOLDER = Path(__file__).parents[2] / "examples/lightly"
METHODS = {
    "barlow_twins": "BarlowTwins",
    "byol": "BYOL",
    "dcl": "DCL",
    "dino": "DINO",
    "moco": "MoCo",
    "nnclr": "NNCLR",
    "simclr": "SimCLR",
    "simsiam": "SimSiam",
    "swav": "SwaV",
    "vicreg": "VICReg",
}
# What a step asks of it.
TRAINER = SimpleNamespace(global_step=3, estimated_stepping_batches=10, current_epoch=2)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(16):
        pixels = rng.integers(0, 256, size=(20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def load(name: str) -> ModuleType:
    return importlib.import_module(f"star_head.examples.lightly.{name}")


def make(module: ModuleType, name: str, routing: str) -> LightningModule:
    torch.manual_seed(0)
    backbone = nn.Sequential(
        nn.Conv2d(3, 12, 3), nn.BatchNorm2d(12), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
    )
    star: dict[str, object] = {"num_experts": 2} if routing == "mmoe" else {}
    star["statistics"] = estimate_statistics(module.create_transform(16), (20, 24), 100)
    return getattr(module, METHODS[name])(backbone, 12, routing=routing, **star)


def make_loader(module: ModuleType, images: Path) -> DataLoader:
    """As lightly's users make it: their own data set class on a folder."""
    transform = module.create_transform(16, normalize=STL10_NORMALIZE)
    dataset = LightlyDataset(input_dir=str(images), transform=transform)
    return DataLoader(dataset, batch_size=8, shuffle=True, drop_last=True)


# As lightly's documentation has them.
TRANSFORMS: dict[str, Callable[[], Callable[[Any], Any]]] = {
    **dict.fromkeys(("simclr", "dcl", "nnclr"), lambda: SimCLRTransform(16)),
    **dict.fromkeys(
        ("byol", "barlow_twins"),
        lambda: BYOLTransform(BYOLView1Transform(16), BYOLView2Transform(16)),
    ),
    "moco": lambda: MoCoV2Transform(16),
    "simsiam": lambda: SimSiamTransform(16),
    "vicreg": lambda: VICRegTransform(16),
    "dino": lambda: DINOTransform(global_crop_size=16, local_crop_size=12),
    "swav": lambda: SwaVTransform(crop_sizes=(16, 12)),
}


@pytest.mark.parametrize("name", METHODS)
def test_views_are_those_that_lightly_makes_for_it(name: str) -> None:
    transform = load(name).create_transform(16)
    assert type(transform) is RecordedTransform
    for seed in range(4):
        image = picture(20, 24, seed)
        seed_all(seed)
        expected = TRANSFORMS[name]()(image)
        after = states()
        seed_all(seed)
        views = transform(image)
        assert states() == after
        assert len(views.params) == 2
        for view, plain in zip(views.views, expected, strict=True):
            assert torch.equal(view, plain)


@pytest.mark.parametrize("name", METHODS)
def test_a_file_can_be_pasted_alone(name: str) -> None:
    """It needs no neighbour unless run as a script, and its numbers have names and sources."""
    text = (FOLDER / f"{name}.py").read_text()
    tree = ast.parse(text)
    *body, main = tree.body
    assert isinstance(main, ast.If)
    for node in (node for statement in body for node in ast.walk(statement)):
        assert not isinstance(node, ast.Import | ast.ImportFrom) or "examples" not in (
            ast.unparse(node)
        )
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
    lines = text.splitlines()
    constants = [node for node in body if isinstance(node, ast.Assign)]
    assert len(constants) >= 3
    for constant in constants:
        assert "#" in lines[constant.lineno - 1] + lines[constant.lineno - 2], lines
    (method,) = [node for node in body if isinstance(node, ast.ClassDef)]
    numbers = {n.value for n in ast.walk(method) if isinstance(n, ast.Constant)}
    assert {n for n in numbers if isinstance(n, int | float)} <= {0, 1, 2, 0.5}  # and booleans
    pasted: dict[str, Any] = {"__name__": "pasted"}
    exec(text, pasted)
    assert issubclass(pasted[METHODS[name]], LightningModule)


class Gradients:
    """Names of parameters whose gradient was not zero after a step."""

    def __init__(self, module: LightningModule) -> None:
        self.seen: set[str] = set()
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                parameter.register_hook(lambda g, name=name: self.note(name, g))

    def note(self, name: str, gradient: torch.Tensor) -> None:
        if gradient.abs().sum() > 0:
            self.seen.add(name)


@pytest.mark.parametrize("name", METHODS)
def test_trains_both_tasks(name: str, images: Path) -> None:
    module = load(name)
    method = make(module, name, "mmoe")
    gradients = Gradients(method)
    before = {k: v.clone() for k, v in method.state_dict().items()}
    trainer = Trainer(
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(method, make_loader(module, images))
    assert trainer.global_step == 4
    assert {"projection_head.experts.router.weight", "backbone.0.weight"} <= gradients.seen
    predictor = {k for k in dict(method.named_parameters()) if "projection_head.predictor" in k}
    assert {k for k in predictor if k.endswith("weight")} <= gradients.seen
    for key, value in method.state_dict().items():
        assert value.isfinite().all(), key
    after, trained = method.state_dict(), dict(method.named_parameters())
    momentum = [k for k in trained if "_momentum" in k]
    assert bool(momentum) == (name in ("byol", "dino", "moco"))
    moved = 0
    for key in momentum:
        assert not trained[key].requires_grad
        change, whole = (after[k] - before[key] for k in (key, key.replace("_momentum", "")))
        if whole.norm() > 0:
            # It has followed by less than the online network has moved.
            assert change.norm() < 0.5 * whole.norm(), key
            moved += bool(change.norm() > 0)
    assert moved == sum(
        not torch.equal(after[k.replace("_momentum", "")], before[k]) for k in momentum
    )


def make_views(name: str, with_star: bool, parameter_dim: int) -> STARViews:
    """A batch in float64; without STAR the originals would spoil whatever took them."""
    generator = torch.Generator().manual_seed(1)
    sides = [16, 16] + [12] * (6 if name in ("dino", "swav") else 0)
    views = [torch.randn(8, 3, side, side, generator=generator).double() for side in sides]
    params = 10 * torch.rand(2, 8, parameter_dim, generator=generator).double()
    original = torch.randn(8, 3, 16, 16, generator=generator).double()
    if not with_star:
        original = torch.full_like(original, torch.nan)
    return STARViews(original, tuple(views), tuple(params))


def in_mid_training(method: LightningModule) -> LightningModule:
    """As it could be after some steps: momentum behind, nothing where it started."""
    method.double().trainer = TRAINER
    for tensor in (*filter(lambda p: p.requires_grad, method.parameters()), *centers(method)):
        tensor.data += 0.2 * torch.randn_like(tensor)
    return method


def centers(method: LightningModule) -> list[torch.Tensor]:
    return [buffer for key, buffer in method.named_buffers() if key == "criterion.center"]


@pytest.mark.parametrize("routing", ["invariant", "mmoe"])
@pytest.mark.parametrize("name", METHODS)
def test_a_step_is_the_methods_own(name: str, routing: str) -> None:
    """Against the step written by hand: loss, gradients, momentum networks and memory banks."""
    with_star = routing == "mmoe"
    method = in_mid_training(make(load(name), name, routing))
    twin = copy.deepcopy(method)
    twin.trainer = TRAINER
    predictor = method.projection_head.predictor
    views = make_views(name, with_star, predictor.parameter_dim if with_star else 11)
    loss = method.training_step((views, None), 0)
    loss.backward()
    expected = step(name, twin, views, with_star)
    expected.backward()

    assert expected.isfinite()
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)
    same = dict(twin.named_parameters())
    for key, parameter in method.named_parameters():
        torch.testing.assert_close(parameter, same[key], rtol=1e-12, atol=1e-12, msg=key)
        gradients = [p.grad for p in (parameter, same[key])]
        if None in gradients:
            assert not any(g is not None and g.any() for g in gradients), key
        else:
            torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-9, msg=key)
    buffers = dict(twin.named_buffers())
    banks = [key for key in buffers if key.endswith("memory_bank.bank") and buffers[key].numel()]
    assert bool(banks) == (name in ("moco", "nnclr"))
    for key, bank in method.named_buffers():
        assert not bank.requires_grad, key
        if key in banks:
            torch.testing.assert_close(bank, buffers[key], msg=key)


@pytest.mark.parametrize("name", ["byol", "dino", "moco"])
def test_targets_carry_no_gradient(name: str) -> None:
    method = in_mid_training(make(load(name), name, "mmoe"))
    # Even where an image would ask for one.
    images = make_views(name, True, 11).views[0].requires_grad_()
    assert not method.forward_momentum(images).requires_grad
    momentum = [p for key, p in method.named_parameters() if "_momentum" in key]
    assert momentum
    assert not any(p.requires_grad for p in momentum)


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few images in folders of two classes, told apart by their brightness."""
    folder = tmp_path_factory.mktemp("classes")
    rng = np.random.default_rng(0)
    for i in range(40):
        low = 20 + 130 * (i % 2)
        pixels = rng.integers(low, low + 80, size=(24, 24, 3), dtype=np.uint8)
        (folder / str(i % 2)).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{i % 2}/{i}.png")
    return folder


def run_method(tmp_path: Path, name: str, *arguments: str) -> tuple[dict[str, Any], str, Path]:
    """What a method's file leaves, and what it prints."""
    common = ("--backbone=test_resnet", "--num-workers=0", *arguments)
    printed = output_of(run_here(f"examples/lightly/{name}.py", *common, cwd=tmp_path))
    (path,) = (tmp_path / "runs/lightly").iterdir()
    return json.loads(path.read_text()), printed, path


def test_from_the_command_line(classes: Path, tmp_path: Path) -> None:
    arguments = ("--dataset=folder", f"--data-dir={classes}", "--epochs=1", "--batch-size=8")
    results, printed, path = run_method(tmp_path, "simclr", *arguments)
    assert path.name == f"simclr_mmoe_folder_{classes.name}_test_resnet_1_8_0.json"
    assert f"{'1-NN accuracy after':30} {results['1-NN accuracy after']:.3f}" in printed
    assert 0 < results["MRR by chance"] < 1
    assert 0.5 < results["1-NN accuracy after"] <= 1


@pytest.mark.slow
def test_digits_from_the_command_line(tmp_path: Path) -> None:
    results, _, path = run_method(tmp_path, "simclr", "--epochs=4")
    assert path.name == "simclr_mmoe_digits_test_resnet_4_64_0.json"
    assert results["images"] == 1437
    assert results["MRR"] > 1.3 * results["MRR by chance"]
    # Untrained features tell most digits apart; what 92 steps add depends on the CPU's rounding.
    assert results["1-NN accuracy after"] > 0.75


@pytest.mark.parametrize("name", ["simclr", "simsiam", "byol"])
def test_another_task_adds_its_loss_on_the_methods_features(name: str) -> None:
    module, method = load(name), getattr(load(name), METHODS[name])
    transform = module.create_transform(16)
    statistics = estimate_statistics(transform, (20, 24), 100)
    torch.manual_seed(0)
    augself = AugSelf(12, statistics, hidden_dim=8, parameters=transform.parameters)
    essl = ESSL(12, hidden_dim=8)
    alone = in_mid_training(make(module, name, "invariant"))
    views = make_views(name, False, len(transform.parameters))
    small = torch.randn(8, 3, 8, 8, dtype=torch.float64)
    expected = copy.deepcopy(alone)
    expected.trainer = TRAINER
    y0, y1 = (expected.backbone(x).flatten(1) for x in views.views)
    turned = torch.cat([small.rot90(k, (2, 3)) for k in range(4)])
    labels = torch.arange(4).repeat_interleave(8)
    added = {
        "augself": augself.double()(y0, y1, *views.params),
        "essl": essl.double()(expected.backbone(turned).flatten(1), labels),
    }
    for task, batch in ((augself, views), (essl, (views, small))):
        both = beside(method, task)(copy.deepcopy(alone.backbone), 12, routing="invariant").double()
        both.load_state_dict(alone.state_dict(), strict=False)
        both.trainer = TRAINER
        own = copy.deepcopy(alone)
        own.trainer = TRAINER
        loss = both.training_step((batch, None), 0)
        want = own.training_step((views, None), 0) + added[type(task).__name__.lower()]
        torch.testing.assert_close(loss, want)
        loss.backward()
        assert not both.backbone._forward_hooks
        groups = both.configure_optimizers().param_groups
        taken = {id(p) for group in groups for p in group["params"]}
        assert {id(p) for p in task.parameters()} <= taken
        assert all(p.grad is not None for p in task.parameters())


def test_augself_needs_features_of_both_views() -> None:
    module = load("moco")
    transform = module.create_transform(16)
    statistics = estimate_statistics(transform, (20, 24), 100)
    task = AugSelf(12, statistics, parameters=transform.parameters).double()
    backbone = make(module, "moco", "invariant").backbone
    method = beside(module.MoCo, task)(backbone, 12, routing="invariant").double()
    method.trainer = TRAINER
    with pytest.raises(ValueError, match="task: AugSelf needs .* of both views, .* those of 1"):
        method.training_step((make_views("moco", False, len(transform.parameters)), None), 0)


@pytest.mark.parametrize(
    ("name", "task"),
    [
        pytest.param("simclr", "essl", marks=pytest.mark.slow),
        pytest.param("simsiam", "augself", marks=pytest.mark.slow),
        pytest.param("simclr", "augself", marks=pytest.mark.slow),
        pytest.param("simsiam", "essl", marks=pytest.mark.slow),
    ],
)
def test_another_task_from_the_command_line(
    name: str, task: str, classes: Path, tmp_path: Path
) -> None:
    arguments = ("--dataset=folder", f"--data-dir={classes}", "--epochs=1", "--batch-size=8")
    results, _, path = run_method(tmp_path, name, *arguments, f"--task={task}")
    assert path.name == f"{name}_{task}_folder_{classes.name}_test_resnet_1_8_0.json"
    assert (results["task"], results["routing"]) == (task, "invariant")
    assert 0.5 < results["1-NN accuracy after"] <= 1
    assert "MRR" not in results
    with pytest.raises(ValueError, match="folder: expected runs of one method"):
        load("table").main(tmp_path / "runs/lightly")


def test_another_task_stands_in_place_of_star(tmp_path: Path) -> None:
    arguments = ["--task=augself", "--routing=mmoe"]
    done = run_here("examples/lightly/simclr.py", *arguments, cwd=tmp_path)
    assert done.returncode != 0
    assert "routing: expected none or 'invariant' with --task augself" in done.stderr


def test_the_table_has_a_row_for_each_pair_of_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = load("table")
    with pytest.raises(ValueError, match="folder: expected runs of one method with both routings"):
        table.main(tmp_path)
    run = {"method": "BYOL", "dataset": "digits", "backbone": "resnet10t", "images": 1437}
    run |= {"epochs": 30, "batch_size": 64, "1-NN accuracy before": 0.8}
    accuracies = {"invariant": 0.91, "mmoe": 0.92}
    for seed, routing in ((0, "invariant"), (0, "mmoe"), (1, "mmoe"), (2, "invariant")):
        found = run | {"seed": seed, "routing": routing, "1-NN accuracy after": accuracies[routing]}
        if routing == "mmoe":
            found |= {"MRR": 0.42, "MRR by chance": 0.18}
        (tmp_path / f"{routing}_{seed}.json").write_text(json.dumps(found))
    table.main(tmp_path)
    header, rule, *rows = capsys.readouterr().out.splitlines()
    assert rows == ["| BYOL | digits | 0 | 30 | 0.800 | 0.910 | 0.920 | 0.420 (0.180) |"]
    assert header.count("|") == rule.count("|") == rows[0].count("|")
