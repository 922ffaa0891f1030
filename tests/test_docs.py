"""What the documentation shows is what the code does."""

import difflib
import doctest
import importlib
import pkgutil
import re
from importlib.metadata import metadata
from pathlib import Path

import pytest
import torch

import star_head
import star_head.adapters
import star_head.adapters.callbacks
import star_head.evaluation
from benchmarks.page_blocks import fill
from docs import known_operations
from star_head import metrics

ROOT = Path(__file__).parent.parent
MODULES = [
    "star_head",
    *(
        module.name
        for package in (
            star_head,
            star_head.adapters,
            star_head.adapters.callbacks,
            star_head.evaluation,
        )
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
    ),
]


def test_every_module_is_among_those_whose_doctests_run() -> None:
    files = [
        file
        for folder in ("star_head", "adapters", "adapters/callbacks", "evaluation")
        for file in (ROOT / folder).glob("*.py")
    ]
    names = {file.stem for file in files} - {"__init__"}
    assert names <= {name.rpartition(".")[2] for name in MODULES}


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name: str) -> None:
    torch.manual_seed(0)
    if name == "star_head.adapters.kornia":
        pytest.importorskip("kornia")  # which Python 3.10 lacks
    if name == "star_head.adapters.stable_pretraining":
        pytest.importorskip("stable_pretraining")  # `make test-frameworks` has it
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def test_readme_shows_how_lightlys_own_example_changes() -> None:
    readme = (ROOT / "README.md").read_text()
    (shown,) = re.findall(r"```diff\n(.*?)```", readme, re.DOTALL)
    description = metadata("lightly")["Description"] or metadata("lightly").get_payload()
    original = re.findall(r"```python\n(.*?)```", description, re.DOTALL)[0].splitlines()
    ours = (ROOT / "examples/lightly_simclr.py").read_text().splitlines()[1:]  # less its title
    diff = list(difflib.unified_diff(original, ours, lineterm="", n=1))[2:]
    assert shown.splitlines() == diff
    assert sum(line.startswith("+") for line in diff) <= 9
    assert sum(line.startswith("-") for line in diff) <= 7
    assert any(line.startswith(" from lightly import transforms") for line in diff)  # it stays


def test_reference_names_all_that_is_public() -> None:
    pages = "\n".join(page.read_text() for page in (ROOT / "docs/api").glob("*.rst"))
    documented = re.findall(r"auto(?:class|function):: (\S+)", pages)
    assert sorted(star_head.__all__ + metrics.__all__) == sorted(
        name for name in documented if name in star_head.__all__ or name in metrics.__all__
    )
    page = (ROOT / "docs/api/evaluation.rst").read_text()
    documented = re.findall(r"auto(?:class|function):: (\w+)$", page, re.MULTILINE)
    assert sorted(documented) == sorted(star_head.evaluation.__all__)
    public = (*ROOT.glob("adapters/[a-z]*.py"), ROOT / "adapters/callbacks")
    adapters = {f"star_head.adapters.{path.stem}" for path in public}
    assert adapters == set(re.findall(r"automodule:: (star_head\.adapters\.\S+)", pages))


def test_reference_names_all_callbacks() -> None:
    page = (ROOT / "docs/api/adapters.rst").read_text()
    documented = re.findall(r"auto(?:class|function):: (\w+)$", page, re.MULTILINE)
    assert sorted(documented) == sorted(star_head.adapters.callbacks.__all__)


def test_the_table_of_known_operations_is_the_codes() -> None:
    page = known_operations.PAGE.read_text()
    filled = page
    for name, lines in known_operations.blocks().items():
        filled = fill(filled, name, "\n".join(lines))
    assert filled == page
    rows = [line for line in page.splitlines() if line.startswith("| `Random")]
    assert len(rows) == 21 + 28  # torchvision's and lightly's, and kornia's
