"""What `star-head compare` makes of runs, and what it refuses; test_compare_runs.py trains."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pytest
from PIL import Image
from running import run_here
from scipy import stats

from star_head import Parameter
from star_head.examples.comparing.methods import METHODS, check_methods, find_method, title_of
from star_head.examples.comparing.page import markdown, render
from star_head.examples.comparing.plan import Plan, Run
from star_head.examples.comparing.results import (
    COLOUR,
    CORRELATION,
    GEOMETRY,
    LINEAR,
    PROCESSOR,
    R2_COLOUR,
    R2_GEOMETRY,
    R2_OTHERS,
    RANK,
    Comparison,
    read_comparison,
    spread,
)

COMPARE = "examples/compare.py"


def test_each_method_is_settings_of_pretrain() -> None:
    assert find_method("simclr").flags() == [
        "--model.routing=invariant",
        "--model.task=null",
        "--model.num_experts=null",
    ]
    assert find_method("equimod").flags()[0] == "--model.routing=separate"
    assert find_method("star-ss").flags()[0] == "--model.routing=shared"
    for name in ("augself", "essl"):
        flags = find_method(name).flags()
        assert flags[:2] == ["--model.routing=invariant", f"--model.task={name}"]
    # Without a number, the settings decide.
    assert find_method("star-mmoe").flags() == ["--model.routing=mmoe", "--model.task=null"]
    assert find_method("star-mmoe-4").flags()[-1] == "--model.num_experts=4"
    assert title_of("star-mmoe-1") == "STAR-MMoE, 1 expert"


def test_an_untrained_backbone_is_built_with_any_settings() -> None:
    """Such as --model.num_experts=8 for STAR-MMoE, which other routings contradict."""
    plan = Plan("digits", arguments=("--model.num_experts=8",))
    arguments = plan.pretrain_arguments(Run("untrained", 0), Path("out"), threads=1)
    assert arguments.index("--model.num_experts=8") < arguments.index("--model.num_experts=null")
    assert "--model.routing=invariant" in arguments


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (["simclr", "byol"], r"^methods: expected some of simclr, .*star-mmoe-N.*got 'byol'"),
        (["star-mmoe-0"], r"got 'star-mmoe-0'"),
        (["simclr", "simclr"], r"^methods: expected each once, got simclr, simclr"),
        ([], r"^methods: expected one or more, got none"),
    ],
)
def test_other_methods_are_refused(methods: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_methods(methods)


def write_folder(folder: Path, classes: int, images: int, labelled: bool = True) -> Path:
    """A folder of small images, with held-out ones where they have classes."""
    rng = np.random.default_rng(0)
    for c in range(classes):
        for index in range(images):
            part = f"{'val' if index % 2 else 'train'}/{c}" if labelled else "."
            path = folder / part / f"{c}_{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 100, (12, 12, 3), dtype=np.uint8) + 10 * c
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    return folder


def test_what_cannot_be_measured_is_left_out_by_name(tmp_path: Path) -> None:
    few = write_folder(tmp_path / "few", 3, 14)
    many = write_folder(tmp_path / "many", 6, 14)
    bare = write_folder(tmp_path / "bare", 2, 10, labelled=False)
    said = "\n".join(Plan("folder", few, (str(many),)).describe())
    assert "few: 21 labelled images, 21 held out, 3 classes" in said
    assert "left out: 5-way 5-shot on few: expected at least 5 classes of more than 5" in said
    assert "on many" not in said
    assert Plan("folder", few, (str(many),)).load().few_shot == ("many",)
    said = "\n".join(Plan("folder", bare, folders="unlabelled").describe())
    assert "left out: accuracies on bare, whose images have no classes" in said
    with pytest.raises(ValueError, match=r"^transfer: expected names that differ"):
        Plan("folder", few, (str(many), str(many))).load()
    with pytest.raises(ValueError, match=r"^transfer: .*bare: data_dir: expected class"):
        Plan("folder", few, (str(bare),)).load()


def test_a_folder_holds_one_comparison(tmp_path: Path) -> None:
    plan = Plan(
        "folder", Path("photos"), ("cifar10",), background=(1, 2, 3), arguments=("--model.x=1",)
    )
    plan.keep(tmp_path)
    plan.keep(tmp_path)
    assert Plan.read(tmp_path) == plan
    with pytest.raises(ValueError, match=r"^output: .* that had transfer \['cifar10'\], and this"):
        plan._replace(transfer=()).keep(tmp_path)
    assert Plan.read(tmp_path) == plan
    config = {"model": {"backbone": "resnet10t"}, "data": {"batch_size": 8}}
    plan._replace(config=config).keep(tmp_path / "other")
    arguments = plan._replace(config=config).pretrain_arguments(
        Run("essl", 3), tmp_path / "other", threads=2
    )
    assert arguments[0] == f"--config={tmp_path / 'other' / 'config.yaml'}"
    assert "--data.background=[1, 2, 3]" in arguments
    assert arguments.index("--data.num_workers=2") < arguments.index("--model.x=1")
    assert arguments.index("--model.x=1") < arguments.index("--model.task=essl")
    assert {"--seed_everything=3", "--ckpt_path=last"} < set(arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data-dir", "photos", "--methods", "simclr,byol"], "methods: expected some of"),
        (["--seeds=0"], "seeds: expected at least 1, got 0"),
        (["--jobs=0"], "jobs: expected at least 1, got 0"),
        (["--dataset=folder", "--data_dir=nowhere"], "data_dir: expected"),
        (["--dataset=digits", "--transfer=nowhere"], "transfer: nowhere: data_dir: expected"),
        (["--config=nothing"], "config: expected a file, or one of"),
        # What compare decides, which would be overruled, or measured otherwise than trained.
        (["--data.dataset=folder"], "settings: expected --dataset, got --data.dataset=folder"),
        (["--data.background", "[0, 0, 0]"], "settings: expected --background, got --data.back"),
        (["--data.class_names=hundred.txt"], "settings: expected a folder of links to these"),
        (["--model.task=essl"], "settings: expected --methods, got --model.task=essl"),
        (["--monitors.rank=true"], "settings: expected no monitors, since all is measured"),
        (["--trainer.default_root_dir=here"], "settings: expected --output, got --trainer.def"),
    ],
)
def test_bad_input_is_refused_before_anything_is_trained(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = run_here(COMPARE, *arguments, f"--output={tmp_path / 'out'}", cwd=tmp_path)
    assert done.returncode
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "config: expected settings of star-head pretrain by name in own.yaml, got ['a']"),
        ("data:\n", "config: expected settings of star-head pretrain by name in own.yaml"),
        ("data: {", "config: expected a YAML file, got own.yaml"),
        ("data: {class_names: some.txt}", "settings: expected a folder of links to these classes"),
    ],
)
def test_a_config_that_is_none_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(text)
    done = run_here(COMPARE, "--config=own.yaml", f"--output={tmp_path / 'out'}", cwd=tmp_path)
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_config_may_say_which_images(tmp_path: Path) -> None:
    write_folder(tmp_path / "few", 2, 6)
    (tmp_path / "own.yaml").write_text("data: {dataset: folder, data_dir: few}")
    (tmp_path / "out").write_text("")  # where nothing can be written, and so nothing trained
    done = run_here(COMPARE, "--config=own.yaml", f"--output={tmp_path / 'out'}", cwd=tmp_path)
    assert "few: 6 labelled images, 6 held out, 2 classes" in done.stdout
    assert "out could not be written" in done.stderr


def made_up_run(method: str, seed: int, level: float) -> dict:
    own = {"dataset": "photos", "method": method, "seed": seed, "epochs": 4}
    accuracy = {
        "1-NN": level,
        "linear": level + 0.1,
        "5-shot": level - 0.1,
        "linear elsewhere": {"drawings": level / 2},
        "5-shot elsewhere": {"drawings": None},
    }
    if method == "untrained":
        return own | accuracy
    star = method.startswith("star")
    scores = {"mean_reciprocal_rank": level}
    return {
        **own,
        **accuracy,
        "canonical correlation": {"measured": 1 - level, "by chance": 0.2} if star else None,
        "equivariance": (
            {"measured": scores, "by chance": {"mean_reciprocal_rank": 0.18}} if star else None
        ),
        "R^2": {p.label: 0.1 * p + level for p in Parameter} | {"hue": None},
        "step": {"processor seconds": 0.1 + seed / 100, "wall seconds": 0.2, "memory": 5e8},
    }


def write_runs(folder: Path, seeds: Sequence[int]) -> Path:
    levels = {"untrained": 0.3, "simclr": 0.5, "augself": 0.55, "star-mmoe-4": 0.6}
    for name, level in levels.items():
        for seed in seeds:
            extra = 0.02 * seed + 0.01 * (seed % 2) * (name == "augself")
            path = folder / f"{name}_{seed}.json"
            path.write_text(json.dumps(made_up_run(name, seed, level + extra)))
    return folder


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    methods = ["simclr", "augself", "star-mmoe-4"]
    return read_comparison(write_runs(tmp_path, range(3)), methods, range(3))


def test_measures_over_seeds(comparison: Comparison) -> None:
    assert list(comparison.runs) == ["untrained", "simclr", "augself", "star-mmoe-4"]
    assert comparison.seeds == [0, 1, 2]
    assert comparison.transfer == ["drawings"]
    assert comparison.values("simclr", LINEAR) == pytest.approx([60, 62, 64])
    assert comparison.values("simclr", CORRELATION) == []
    assert comparison.values("star-mmoe-4", PROCESSOR) == pytest.approx([100, 110, 120])
    assert comparison.chance(RANK) == pytest.approx(0.18)
    found = comparison.difference("augself", LINEAR)
    assert found is not None
    differences = [5.0, 6.0, 5.0]
    assert found.mean == pytest.approx(mean(differences))
    low, high = stats.t.interval(0.95, 2, mean(differences), stats.sem(differences))
    assert found.interval == pytest.approx((high - low) / 2)
    assert comparison.difference("simclr", LINEAR) is None
    assert comparison.difference("untrained", LINEAR) is None
    assert comparison.difference("star-mmoe-4", RANK) is None  # the first has none


def test_groups_of_parameters(comparison: Comparison) -> None:
    (run, *_) = comparison.runs["simclr"].values()
    of_paper = [p.label for p in Parameter]
    assert R2_GEOMETRY.of(run) == pytest.approx(
        mean(run["R^2"][name] for name in of_paper if name in GEOMETRY)
    )
    left = [run["R^2"][name] for name in COLOUR if name != "hue"]
    assert R2_COLOUR.of(run) == pytest.approx(mean(left))
    assert R2_OTHERS.of(run) == pytest.approx(run["R^2"]["blur sigma"])
    assert R2_OTHERS.of({"R^2": {"flip": 0.3, "hue": 0.1}}) is None
    assert {*of_paper} - {*GEOMETRY, *COLOUR} == {"blur sigma"}


def test_summary_has_what_the_table_says(comparison: Comparison) -> None:
    found = json.loads(json.dumps(comparison.summary()))
    assert found["reference"] == "simclr"
    cell = found["methods"]["augself"]["linear, %"]
    assert cell["values"] == pytest.approx([65, 68, 69])
    assert cell["mean"] == pytest.approx(mean([65, 68, 69]))
    assert cell["standard deviation"] == pytest.approx(stdev([65, 68, 69]))
    assert cell["difference"]["mean"] == pytest.approx(16 / 3)
    assert found["methods"]["untrained"].keys() == {
        "1-NN, %",
        "linear, %",
        "linear on drawings, %",
        "5-way 5-shot, %",
    }
    assert found["by chance"] == pytest.approx({"canonical correlation": 0.2, "MRR": 0.18})


def test_the_page_can_be_read_alone(comparison: Comparison) -> None:
    page = render(comparison, {"data set": "folder", "its folder": "<photos>"})
    assert "3 methods trained on photos, 4 epochs, 3 seeds each" in page
    for title in ("untrained", "SimCLR", "AugSelf", "STAR-MMoE, 4 experts"):
        assert f'<th scope="row">{title}</th>' in page
    found = comparison.difference("star-mmoe-4", LINEAR)
    assert found is not None
    assert found.is_clear
    assert "<small><b>+10.0\u00a0±\u00a00.0</b></small>" in page
    assert "+5.3\u00a0±\u00a01.4</b>" in page
    assert page.count('<img src="data:image/svg+xml;base64,') == 2
    assert "&lt;photos&gt;" in page
    assert "5-shot on drawings" not in page  # nobody has it
    for outside in ("http://", "https://", "<script", "<link"):
        assert outside not in page.replace("http://www.w3.org", "")


def test_one_seed_claims_no_interval(tmp_path: Path) -> None:
    found = read_comparison(write_runs(tmp_path, [0]), ["simclr", "augself"], [0])
    page = render(found, {})
    assert "Of one seed no interval can be given." in page
    assert "standard deviation" not in page
    assert "<small>+5.0</small>" in page
    assert "±" not in page
    assert "±" not in "\n".join(markdown(found))


def test_the_table_in_markdown(comparison: Comparison) -> None:
    lines = markdown(comparison)
    assert lines[0] == "|  | 1-NN, % | linear, % | 5-way 5-shot, % |"
    assert lines[3].startswith("| SimCLR | 52.0\u00a0±\u00a02.0 | 62.0\u00a0±\u00a02.0 |")
    assert "| 67.3\u00a0±\u00a02.1 (+5.3\u00a0±\u00a01.4) |" in lines[4]
    assert "|  | linear on drawings, % |" in lines
    assert not any("5-shot on drawings" in line for line in lines)  # nobody has it
    (row,) = (line for line in lines if line.startswith("| SimCLR | -"))
    assert row.startswith("| SimCLR | - | - | 0.")
    assert lines[-2] == "Chance level: canonical correlation 0.200; MRR 0.180."


def test_runs_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^folder: expected a run of SimCLR in "):
        read_comparison(tmp_path, ["simclr"], [0])
    write_runs(tmp_path, [0, 1])
    (tmp_path / "augself_1.json").unlink()
    found = read_comparison(tmp_path, ["simclr", "augself", "essl"], range(3))
    assert list(found.runs) == ["untrained", "simclr", "augself"]
    difference = found.difference("augself", LINEAR)
    assert difference is not None
    assert difference.pairs == 1
    run = json.loads((tmp_path / "augself_0.json").read_text())
    (tmp_path / "augself_0.json").write_text(json.dumps(run | {"epochs": 7}))
    with pytest.raises(ValueError, match=r"^folder: expected as many epochs .* \[4, 7\]"):
        read_comparison(tmp_path, list(METHODS), range(3))


def test_runs_that_may_not_be_compared(tmp_path: Path) -> None:
    """A folder of images has grown. Of the untrained network, epochs were only asked for."""
    write_runs(tmp_path, [0])
    untrained, augself = (tmp_path / f"{name}_0.json" for name in ("untrained", "augself"))
    untrained.write_text(json.dumps(json.loads(untrained.read_text()) | {"epochs": 200}))
    assert read_comparison(tmp_path, ["simclr", "augself"], [0]).epochs == 4
    augself.write_text(json.dumps(json.loads(augself.read_text()) | {"images": 11}))
    assert read_comparison(tmp_path, ["simclr", "augself"], [0]).epochs == 4
    first = tmp_path / "simclr_0.json"
    first.write_text(json.dumps(json.loads(first.read_text()) | {"images": 10}))
    with pytest.raises(ValueError, match=r"^folder: expected as many images .* \[10, 11\]"):
        read_comparison(tmp_path, ["simclr", "augself"], [0])


def test_spread() -> None:
    assert spread([1.0, 2.0, 4.0], 2) == f"{7 / 3:.2f}\u00a0±\u00a0{stdev([1, 2, 4]):.2f}"
    assert (spread([1.0], 1), spread([], 1)) == ("1.0", "-")
