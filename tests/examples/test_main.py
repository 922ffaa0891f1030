"""The command ``star-head``, as the wheel installs it."""

import ast
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import torch

import star_head
from star_head.examples import main as command
from star_head.examples.command_line import parser_help
from star_head.examples.configs import config_names, find_config

EXAMPLES = Path(command.__file__).parent
SCRIPTS = [name for name in command.COMMANDS if name != "configs"]


def star_head_command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["star-head", *arguments])
    command.main()


def test_is_installed() -> None:
    (found,) = entry_points(group="console_scripts", name="star-head")
    assert found.load() is command.main


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_help_names_each_command_and_its_purpose(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    star_head_command(monkeypatch, *arguments)
    printed = capsys.readouterr().out
    for name, purpose in command.COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(purpose)}$", printed, re.MULTILINE)
    assert "Not installed" not in printed
    star_head_command(monkeypatch, "--version")
    assert capsys.readouterr().out == f"star-head {star_head.__version__}\n"


def test_help_waits_for_no_import() -> None:
    """Of the interpreter, star_head and its folders of scripts and configurations only."""
    code = "import sys; from star_head.examples.main import main; main(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not loaded & {"torch", "numpy", "einops", *command._NEEDED}


def test_a_missing_package_is_named_with_the_extra_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "_NEEDED", ("torch", "no_such_package", "nor_this"))
    star_head_command(monkeypatch, "--help")
    assert "Not installed: no_such_package, nor_this" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r'knn-eval needs no_such.*"star-head\[examples\]"'):
        star_head_command(monkeypatch, "knn-eval", "encoder")
    star_head_command(monkeypatch, "configs")  # which needs none


def test_all_that_the_scripts_import_is_looked_for() -> None:
    """Third-party packages that any module of the examples' floor, or below it, imports."""
    root = EXAMPLES.parent
    floors = ("adapters", "evaluation", "examples")
    files = [file for floor in floors for file in root.glob(f"{floor}/**/*.py")]
    imported = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(str(node.module).partition(".")[0])
    core = {"star_head", "torch", "numpy", "einops"}
    # They come with torchvision, jsonargparse, timm and Lightning; kornia and stable_pretraining
    # have extras of their own, and pytorch_lightning is Lightning's other name, tried where that
    # is missing.
    beside = {"PIL", "yaml", "safetensors", "huggingface_hub", "lightning_utilities", "kornia"}
    beside |= {"pytorch_lightning", "stable_pretraining"}
    assert imported - set(sys.stdlib_module_names) - core - beside <= set(command._NEEDED)


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_command_says_what_comes_next(name: str) -> None:
    tree = ast.parse((EXAMPLES / f"{name.replace('-', '_')}.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    (said,) = [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print_next"]
    # What depends on the run is passed as a dictionary.
    steps = [step for step in said.keywords if step.arg is not None]
    assert steps
    for step in steps:
        assert isinstance(step.value, ast.JoinedStr | ast.Constant)
        words = ast.unparse(step.value).split()
        assert words[0].endswith("star-head")
        assert words[1] in command.COMMANDS


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_commands_help_shows_two_examples(name: str) -> None:
    script = EXAMPLES / f"{name.replace('-', '_')}.py"
    told = parser_help(ast.get_docstring(ast.parse(script.read_text()), clean=False))
    examples = told["epilog"].splitlines()
    assert examples[0] == "examples:"
    assert (
        sum(
            line.startswith(f"  star-head {name} ") or line == f"  star-head {name}"
            for line in examples
        )
        >= 2
    )


def test_a_script_runs_as_from_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "csv/version_0/metrics.csv"
    log.parent.mkdir(parents=True)
    log.write_text("step,train_loss_invariant,knn_accuracy\n0,3.5,\n9,2.5,0.4\n")
    for name, picture in (("plot-run", "a.png"), ("plot_run", "b.png")):
        star_head_command(monkeypatch, name, str(tmp_path), str(tmp_path / picture))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    printed = capsys.readouterr().out
    assert f"star-head analyze {tmp_path}/checkpoints/last.ckpt" in printed  # what to do next

    monkeypatch.setattr(sys, "argv", ["star-head", "plot-run", "--help"])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: star-head plot-run ")


@pytest.mark.parametrize("name", ["analyse", "examples", "command_line", "--verbose"])
def test_unknown_commands(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=rf"no command '{name}'; expected one of quickstart, "):
        star_head_command(monkeypatch, name)


def test_configs_are_listed_and_found_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    star_head_command(monkeypatch, "configs")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == config_names()
    assert all(len(line) <= 100 for line in lines)
    with pytest.raises(SystemExit, match="expected no arguments, got stl10_resnet18"):
        star_head_command(monkeypatch, "configs", "stl10_resnet18")
    assert find_config("stl10_resnet18") == str(EXAMPLES / "configs/stl10_resnet18.yaml")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").touch()
    (tmp_path / "folder").mkdir()  # a folder of images, say
    assert find_config("own.yaml") == "own.yaml"
    assert find_config("folder") == str(EXAMPLES / "configs/folder.yaml")
    with pytest.raises(FileNotFoundError, match="a file, or one of byol_fashion_mnist, .*'stl11'"):
        find_config("stl11")


@pytest.mark.parametrize("option", [["--config", "folder"], ["--config=folder"], ["-c", "folder"]])
def test_pretrain_finds_a_config_by_its_name(option: list[str]) -> None:
    from star_head.examples.pretrain import named_configs

    path = str(EXAMPLES / "configs/folder.yaml")
    expected = [f"--config={path}"] if len(option) == 1 else [option[0], path]
    assert named_configs(["--trainer.devices=1", *option]) == ["--trainer.devices=1", *expected]


def test_names_are_imported_when_they_are_asked_for() -> None:
    code = """
import sys, star_head
assert "torch" not in sys.modules
for name in star_head.__all__:
    assert getattr(star_head, name).__module__.startswith("star_head."), name
    assert name in dir(star_head), name
assert star_head.metrics.expert_usage and star_head.checkpoint.load_official_checkpoint
try:
    star_head.NoSuchName
except AttributeError as error:
    assert "NoSuchName" in str(error)
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert star_head.STAR is star_head.model.STAR
    assert issubclass(star_head.STARLoss, torch.nn.Module)
