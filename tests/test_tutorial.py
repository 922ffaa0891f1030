"""Every cell of the tutorial, run in order, prints what stands below it, on the page too."""

import contextlib
import io
import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image

from docs import tutorial_notebook
from star_head import Parameter

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def code_cells() -> list[tuple[str, str]]:
    """Code and output of the notebook's cells."""
    cells = json.loads((DOCS / "tutorial.ipynb").read_text(encoding="utf-8"))["cells"]
    return [
        ("".join(cell["source"]), "".join(line for o in cell["outputs"] for line in o["text"]))
        for cell in cells
        if cell["cell_type"] == "code"
    ]


def test_page_and_notebook_agree() -> None:
    text = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    assert tutorial_notebook.NOTEBOOK.read_text(encoding="utf-8") == tutorial_notebook.notebook(
        text
    )
    blocks = BLOCK.findall(text)
    assert len(blocks) == text.count("```python") > 0
    assert [(code.rstrip("\n"), shown) for code, shown in blocks] == code_cells()
    # Nothing of the page is lost, and no fence is left in a cell of prose.
    cells = json.loads((DOCS / "tutorial.ipynb").read_text(encoding="utf-8"))["cells"]
    prose = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    assert "```" not in prose
    assert prose.split() == BLOCK.sub("", text).split()


def test_the_notebook_is_of_format_4_5() -> None:
    found = json.loads((DOCS / "tutorial.ipynb").read_text(encoding="utf-8"))
    assert (found["nbformat"], found["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in found["cells"]]
    assert len(set(ids)) == len(ids)
    keys = {"code": {"execution_count", "outputs"}, "markdown": set()}
    for cell in found["cells"]:
        assert cell.keys() == {"id", "cell_type", "metadata", "source", *keys[cell["cell_type"]]}


class Run(NamedTuple):
    shown: list[str]
    printed: list[str]
    names: dict[str, Any]
    folder: Path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All cells of the notebook in one namespace, as a reader runs them."""
    blocks = code_cells()
    names: dict[str, Any] = {}
    printed = []
    folder = tmp_path_factory.mktemp("tutorial")
    before = Path.cwd()
    os.chdir(folder)
    try:
        for number, (code, _) in enumerate(blocks, 1):
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                exec(compile(code, f"cell {number} of tutorial.ipynb", "exec"), names)
            printed.append(output.getvalue())
    finally:
        os.chdir(before)
    return Run([shown for _, shown in blocks], printed, names, folder)


@pytest.mark.slow  # trains two encoders
def test_blocks_print_what_stands_below_them(run: Run) -> None:
    for shown, printed in zip(run.shown, run.printed, strict=True):
        # Numbers to the second digit, everything else to the letter.
        assert NUMBER.sub("#", printed).split() == NUMBER.sub("#", shown).split()
        for found, expected in zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=True):
            tolerance = 0.12 if "." in expected else 0
            assert float(found) == pytest.approx(float(expected), rel=tolerance, abs=tolerance)


@pytest.mark.slow  # trains two encoders
def test_what_the_text_says_of_training_holds(run: Run) -> None:
    assert run.names["trained"] > run.names["untrained"] + 0.03
    assert run.names["redundancy"] > run.names["chance"] + 0.1
    scores, by_chance = run.names["scores"], run.names["by_chance"]
    assert scores.mean_reciprocal_rank > 2 * by_chance.mean_reciprocal_rank
    assert scores.prediction_retrieval_error < by_chance.prediction_retrieval_error
    for parameter in (Parameter.CROP_TOP, Parameter.CROP_HEIGHT, Parameter.BRIGHTNESS):
        assert run.names["r2"]["STAR"][parameter] > run.names["r2"]["SimCLR"][parameter]


@pytest.mark.slow  # trains two encoders
def test_pictures_are_those_that_the_code_draws(run: Run) -> None:
    for name in ("tutorial_views.png", "tutorial_routing.png"):
        with Image.open(run.folder / name) as drawn, Image.open(DOCS / name) as shown:
            assert drawn.size == shown.size
