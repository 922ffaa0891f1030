"""Detection as a user runs it, small: on a made-up VOC tree."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightly.transforms.utils import IMAGENET_NORMALIZE
from made_up_voc import make_voc
from running import Done, run_apart, run_here
from torchmetrics.detection import MeanAveragePrecision
from torchvision.ops import box_iou

from star_head.adapters.timm import create_backbone, export_encoder, load_encoder
from star_head.evaluation.networks import Encoder
from star_head.examples import detection
from star_head.examples.data.voc import TRAIN, VOCBoxes
from star_head.examples.training.detector import (
    DetectionModule,
    _rate,
    average_precision,
    build_detector,
)
from star_head.examples.training.trainers import StepSeeds

CPU = {"accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1}
SMALL: dict[str, Any] = {"iterations": 6, "batch_size": 2, "short_side": 64, "num_workers": 0}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_voc(tmp_path_factory.mktemp("voc"), train=30, test=13)


@pytest.fixture(scope="module")
def encoder(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small ResNet whose norms know the images' statistics, as a pretrained one's do."""
    torch.manual_seed(0)
    backbone = create_backbone("test_resnet")
    images = VOCBoxes(tree, TRAIN)
    mean, std = (torch.tensor(IMAGENET_NORMALIZE[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        for step in range(40):
            backbone(torch.stack([(images[(4 * step + i) % 60][0] - mean) / std for i in range(4)]))
    return export_encoder(
        backbone,
        tmp_path_factory.mktemp("encoder"),
        input_size=96,
        normalize=IMAGENET_NORMALIZE,
    )


def state(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]


def run_detection(
    encoder: Path, tree: Path, cwd: Path, *arguments: object, processes: int = 1
) -> Done:
    done = (run_here if processes == 1 else run_apart)(
        "examples/detection.py",
        *(encoder, f"--data-dir={tree}", "--num-workers=0"),
        *("--trainer.accelerator=cpu", "--trainer.log_every_n_steps=1"),
        *(f"--trainer.devices={processes}", *arguments),
        cwd=cwd,
        GLOO_SOCKET_IFNAME="lo",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.mark.slow
def test_learns_and_is_measured_alike_in_two_processes(
    encoder: Path, tree: Path, tmp_path: Path
) -> None:
    options = ("--batch-size=2", "--short-side=96", "--learning-rate=0.6")
    run_detection(encoder, tree, tmp_path, *options, "--iterations=1", "--output=untrained")
    untrained = json.loads((tmp_path / "untrained/detection.json").read_text())

    options = (*options, "--iterations=180", "--output=run")
    done = run_detection(encoder, tree, tmp_path, *options)
    results = json.loads((tmp_path / "run/detection.json").read_text())
    assert (results["train images"], results["test images"]) == (60, 13)
    assert untrained["AP50"] < 5
    assert results["AP50"] > 25
    assert results["AP"] > untrained["AP"] + 4
    for words in ("at VOC07's 11 recalls", "STAR-MMoE", "48.85", "comparable"):
        assert words in done.stdout
    with open(tmp_path / "run/csv/version_0/metrics.csv") as file:
        losses = [float(row["train_loss"]) for row in csv.DictReader(file) if row["train_loss"]]
    assert len(losses) == 180
    assert np.mean(losses[-20:]) < 0.3 * np.mean(losses[:20])

    (tmp_path / "run/detection.json").unlink()
    again = ("--ckpt-path=last", "--evaluate-only=true")
    again = (*again, "--trainer.strategy=ddp")
    done = run_detection(encoder, tree, tmp_path, *options, *again, processes=2)
    found = json.loads((tmp_path / "run/detection.json").read_text())
    assert found == pytest.approx(results, abs=1e-4)
    assert done.stdout.count("VOC07 test") == 1


@pytest.mark.parametrize("finetune", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_what_is_frozen_does_not_change_by_a_bit(
    encoder: Path, tree: Path, tmp_path: Path, finetune: bool
) -> None:
    backbone = load_encoder(encoder)
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # zeros would keep their block from learning
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    export_encoder(backbone, tmp_path / "encoder", input_size=96, normalize=IMAGENET_NORMALIZE)
    before = backbone.state_dict()
    detection.main(
        str(tmp_path / "encoder"),
        tree,
        finetune,
        **SMALL,
        learning_rate=1.0,
        output=tmp_path / "run",
        trainer=CPU,
    )
    after = state(tmp_path / "run")
    changed = {}
    for name, tensor in before.items():
        place = "roi_heads.box_head" if name.startswith("layer4") else "backbone"
        changed[name] = not torch.equal(after[f"detector.{place}.{name}"], tensor)
    c4 = [changed[name] for name in changed if not name.startswith("layer4")]
    assert len(c4) == 72
    assert c4 == [finetune] * 72
    assert all(changed[name] for name in changed if name.startswith("layer4"))


@pytest.mark.slow
def test_a_run_broken_off_ends_as_if_it_were_not(
    encoder: Path, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detection, "_EPOCH", 3)
    small = {**SMALL, "data_dir": tree, "trainer": CPU}
    detection.main(str(encoder), **small, output=tmp_path / "whole")
    seed = StepSeeds.on_train_batch_start

    def seed_or_break(self: StepSeeds, trainer: Any, *arguments: Any) -> None:
        if trainer.global_step == 4:
            raise InterruptedError
        seed(self, trainer, *arguments)

    broken = small | {"output": tmp_path / "run", "num_workers": 1}
    with monkeypatch.context() as patch:
        patch.setattr(StepSeeds, "on_train_batch_start", seed_or_break)
        with pytest.raises(InterruptedError):
            detection.main(str(encoder), **broken)
    with pytest.raises(ValueError, match="its run had short_side 64, and this has 65"):
        detection.main(str(encoder), **broken | {"short_side": 65}, ckpt_path="last")
    detection.main(str(encoder), **broken, ckpt_path="last")
    for name, tensor in state(tmp_path / "whole").items():
        assert torch.equal(state(tmp_path / "run")[name], tensor), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iterations": 0}, "iterations: expected at least 1, got 0"),
        ({"batch_size": 61}, "batch_size: expected at most the 60 images to train on, got 61"),
        ({"data_dir": Path("nowhere")}, "data_dir: VOC2007 trainval is not in nowhere"),
        ({"evaluate_only": True}, "ckpt_path: expected a checkpoint to evaluate, got None"),
        ({"evaluate_only": True, "ckpt_path": "last"}, "expected a checkpoint .*last.ckpt"),
    ],
)
def test_bad_input(
    encoder: Path, tree: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    arguments = {**SMALL, "data_dir": tree, "output": tmp_path, "trainer": CPU} | change
    with pytest.raises(ValueError, match=message):
        detection.main(str(encoder), **arguments)


def test_another_encoder_than_a_resnet_is_refused() -> None:
    opened = Encoder(create_backbone("test_vit"), 160, IMAGENET_NORMALIZE)
    with pytest.raises(ValueError, match="encoder: expected a ResNet, .* got a VisionTransformer"):
        build_detector(opened, 21)


@pytest.mark.parametrize(("name", "c4", "res5"), [("resnet18", 256, 512), ("resnet50", 1024, 2048)])
def test_backbone_and_box_head_are_the_encoders_layers(name: str, c4: int, res5: int) -> None:
    normalize = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    resnet = create_backbone(name).eval()
    detector = build_detector(Encoder(resnet, 224, normalize), 21).eval()
    images = torch.randn(1, 3, 64, 96)
    layer3, layer4 = resnet.forward_intermediates(images, indices=(3, 4), intermediates_only=True)
    assert layer3.shape == (1, c4, 4, 6)  # stride 16
    torch.testing.assert_close(detector.backbone(images), layer3)
    head = detector.roi_heads.box_head
    torch.nn.init.uniform_(head.norm.running_mean)
    torch.nn.init.uniform_(head.norm.running_var, 0.5, 1.5)
    features = head(layer3)
    assert features.shape == (1, res5)
    mean, std = head.norm.running_mean, (head.norm.running_var + 1e-5).sqrt()
    torch.testing.assert_close(features, (layer4.mean(dim=(2, 3)) - mean) / std)
    transform = detector.transform
    # MoCo's: 480 to 800 in steps of 32, and 800 at test, which is the last.
    assert transform.min_size == tuple(range(480, 801, 32))
    assert transform.max_size == 1333
    assert (transform.image_mean, transform.image_std) == (normalize["mean"], normalize["std"])
    assert detector.rpn.anchor_generator.num_anchors_per_location() == [15]


@pytest.mark.slow
def test_boxes_keep_their_digits_under_autocast(encoder: Path, tree: Path) -> None:
    torch.manual_seed(0)
    detector = build_detector(detection.open_encoder(str(encoder)), 21, 800).eval()
    # So that an untrained one finds something.
    detector.roi_heads.score_thresh = 0.0
    images = [VOCBoxes(tree, TRAIN)[0][0]]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        boxes = detector(images)[0]["boxes"]
    assert len(boxes) == 100
    assert boxes.dtype == torch.float32
    assert not torch.equal(boxes.bfloat16().float(), boxes)


def test_the_papers_schedule() -> None:
    rates = [_rate(step, 24000) for step in range(24000)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[49] == pytest.approx(0.5)
    assert rates[99:18000] == [1.0] * 17901
    assert rates[18000:22000] == pytest.approx([0.1] * 4000)
    assert rates[22000:] == pytest.approx([0.01] * 2000)


def test_an_epoch_divides_the_iterations() -> None:
    assert detection.steps_per_epoch(24000, 16551 // 16) == 1000
    assert detection.steps_per_epoch(24000, 999) == 960
    assert detection.steps_per_epoch(200, 30) == 25
    assert detection.steps_per_epoch(7, 30) == 7
    assert detection.steps_per_epoch(7, 6) == 1
    with pytest.raises(ValueError, match="iterations: .* such as 10000, got 10007"):
        detection.steps_per_epoch(10007, 5000)


def random_scene(generator: np.random.Generator) -> tuple[dict, dict]:
    """Boxes of two classes, and detections that are some of them, moved, and others."""
    corners = torch.from_numpy(generator.uniform(0, 60, (4, 2)))
    sides = torch.from_numpy(generator.uniform(15, 40, (4, 2)))
    boxes = torch.cat([corners, corners + sides], dim=1).float()
    labels = torch.from_numpy(generator.integers(1, 3, 4))
    moved = boxes + torch.from_numpy(generator.normal(0, 2, (4, 4))).float()
    other = boxes.roll(1, dims=0) + 7
    found = {
        "boxes": torch.cat([moved, other]),
        "labels": torch.cat([labels, labels]),
        "scores": torch.from_numpy(generator.uniform(size=8)).float(),
    }
    return found, {"boxes": boxes, "labels": labels}


def slow_average_precision(
    scenes: list[tuple[dict, dict]], label: int, threshold: float, recalls: np.ndarray
) -> float:
    """The mean over recalls of the best precision at that recall or a higher one."""
    total, ranked = 0, []
    for found, true in scenes:
        boxes = true["boxes"][true["labels"] == label]
        total += len(boxes)
        taken: set[int] = set()
        mine = found["labels"] == label
        order = found["scores"][mine].argsort(descending=True)
        for i in order:
            overlaps = box_iou(found["boxes"][mine][i][None], boxes)[0].tolist()
            free = [(o, j) for j, o in enumerate(overlaps) if j not in taken and o >= threshold]
            if free:
                taken.add(max(free)[1])
            ranked.append((found["scores"][mine][i].item(), bool(free)))
    right = np.cumsum([hit for _, hit in sorted(ranked, reverse=True)])
    recall, precision = right / total, right / np.arange(1, len(right) + 1)
    return float(np.mean([max(precision[recall >= r - 1e-9], default=0.0) for r in recalls]))


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_is_vocs_and_cocos(seed: int) -> None:
    generator = np.random.default_rng(seed)
    scenes = [random_scene(generator) for _ in range(9)]
    metric = MeanAveragePrecision(extended_summary=True)
    metric.update([found for found, _ in scenes], [true for _, true in scenes])
    summary = metric.compute()
    found = average_precision(summary)
    for name, key in (("AP", "map"), ("AP50", "map_50"), ("AP75", "map_75")):
        assert found[name] == pytest.approx(100 * summary[key].item(), abs=1e-3)
    thresholds = {"AP": np.arange(50, 100, 5) / 100, "AP50": [0.5], "AP75": [0.75]}
    for prefix, count in (("", 101), ("VOC07 ", 11)):
        for name, values in thresholds.items():
            expected = np.mean(
                [
                    slow_average_precision(scenes, label, value, np.linspace(0, 1, count))
                    for label in (1, 2)
                    for value in values
                ]
            )
            assert found[prefix + name] == pytest.approx(100 * expected, abs=1e-3)
    assert found["VOC07 AP"] != pytest.approx(found["AP"], abs=1e-3)


def test_difficult_objects_and_repeated_images_do_not_count() -> None:
    torch.manual_seed(0)
    detector = build_detector(Encoder(create_backbone("test_resnet"), 160, IMAGENET_NORMALIZE), 21)
    module = DetectionModule(detector, batch_size=1, iterations=1)
    easy, difficult = [10.0, 10, 30, 30], [50.0, 50, 90, 90]
    target = {
        "boxes": torch.tensor([easy, difficult]),
        "labels": torch.tensor([3, 3]),
        "iscrowd": torch.tensor([0, 1]),
    }
    wrong = {"boxes": torch.tensor([[0.0, 60, 30, 90]]), "labels": torch.tensor([3])}

    def precision(found: list[list[float]], *more: tuple[dict, dict, bool]) -> float:
        answer = {
            "boxes": torch.tensor(found),
            "labels": torch.full((len(found),), 3),
            "scores": torch.linspace(0.9, 0.5, len(found)).flip(0),  # the last is the surest
        }
        cases = [(answer, target, True), *more]
        module.metric.reset()
        module.detector = lambda _: [case[0] for case in cases]
        module.test_step(([], [case[1] for case in cases], [case[2] for case in cases]), 0)
        return average_precision(module.metric.compute())["AP"]

    del module.detector
    assert precision([easy]) == pytest.approx(100)  # missed, and forgiven
    assert precision([easy, difficult]) == pytest.approx(100)  # found, and forgiven
    assert precision([easy, [0.0, 60, 30, 90]]) == pytest.approx(50)
    repeated = (wrong | {"scores": torch.ones(1)}, target, False)
    assert precision([easy], repeated) == pytest.approx(100)
    assert precision([easy], (*repeated[:2], True)) < 60
