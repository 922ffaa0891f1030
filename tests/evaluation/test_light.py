"""What classifies features needs torch and NumPy; what else needs more says which extra has it."""

import ast
import subprocess
import sys
from configparser import ConfigParser
from importlib.metadata import packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]

SCRIPT = """
import sys
for name in ("tqdm", "PIL", "sklearn", "scipy", "timm", "lightly", "torchvision", "lightning",
             "matplotlib", "yaml"):
    sys.modules[name] = None  # importing it is an error
import torch
from star_head.evaluation import few_shot, linear_probe, nearest_neighbours
x, y = torch.randn(90, 5), torch.arange(90) % 6
linear_probe((x[:40], y[:40]), (x[40:60], y[40:60]), (x[60:], y[60:]))
nearest_neighbours((x, y), (x, y))
few_shot((x, y), episodes=3)
"""

# What is missing, and what of the package can then not be had.
MISSING = """
import importlib, sys
import star_head.evaluation

OPENS = {"open_encoder", "open_trained", "Trained", "measure_head", "HeadMeasures", "write_report"}
NEEDS = {
    "matplotlib": {"write_report"},
    "tqdm": set(),
    "yaml": OPENS - {"open_encoder"},
    "lightly": OPENS,
    "huggingface_hub": OPENS,
    "timm": OPENS,
    "PIL": OPENS
    | {"extract_features", "Encoder"}
    | {"Corrupted", "corrupt", "SegmentationProbe", "segmentation_probe"},
}

def forget(top):
    for name in list(sys.modules):
        if name.partition(".")[0] == top:
            del sys.modules[name]

for missing, expected in NEEDS.items():
    forget("star_head")
    forget(missing)
    sys.modules[missing] = None  # importing it is an error
    evaluation = importlib.import_module("star_head.evaluation")
    refused = set()
    for name in evaluation.__all__:
        try:
            getattr(evaluation, name)
        except ImportError as error:
            assert 'pip install "star-head[evaluation]"' in str(error), (missing, name, error)
            refused.add(name)
    assert refused == expected, (missing, refused ^ expected)
    del sys.modules[missing]
"""


def test_solvers_need_torch_and_numpy_alone() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_is_missing_is_said_with_its_extra() -> None:
    done = subprocess.run([sys.executable, "-c", MISSING], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_extra_brings_all_that_is_imported() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = setup["options.extras_require"]
    lines = [*setup["options"]["install_requires"].split(), *extras["evaluation"].split()]
    brought = {canonicalize_name(Requirement(line).name) for line in lines}
    # What timm and lightly always bring is theirs to name.
    brought |= {
        canonicalize_name(requirement.name)
        for name in ("timm", "lightly")
        for requirement in map(Requirement, requires(name) or ())
        if requirement.marker is None
    }
    distributions = packages_distributions()
    for file in sorted((ROOT / "evaluation").rglob("*.py")):
        for top in _imported(ast.parse(file.read_text(encoding="utf-8"))):
            if top not in sys.stdlib_module_names and top != "star_head":
                names = {canonicalize_name(name) for name in distributions[top]}
                assert names & brought, f"{file.name} imports {top}"


def _imported(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.add(node.module.partition(".")[0])
    return names
