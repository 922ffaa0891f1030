"""Every block of the tutorial, run in order, prints what stands below it."""

import contextlib
import io
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image

from star_head import Parameter

pytestmark = pytest.mark.slow  # trains two encoders

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


class Run(NamedTuple):
    shown: list[str]
    printed: list[str]
    names: dict[str, Any]
    folder: Path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All blocks in one namespace, as a reader pastes them."""
    text = (DOCS / "tutorial.md").read_text()
    blocks = BLOCK.findall(text)
    assert len(blocks) == text.count("```python") > 0
    names: dict[str, Any] = {}
    printed = []
    folder = tmp_path_factory.mktemp("tutorial")
    before = Path.cwd()
    os.chdir(folder)
    try:
        for number, (code, _) in enumerate(blocks, 1):
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                exec(compile(code, f"block {number} of tutorial.md", "exec"), names)
            printed.append(output.getvalue())
    finally:
        os.chdir(before)
    return Run([shown for _, shown in blocks], printed, names, folder)


def test_blocks_print_what_stands_below_them(run: Run) -> None:
    for shown, printed in zip(run.shown, run.printed, strict=True):
        # Numbers to the second digit, everything else to the letter.
        assert NUMBER.sub("#", printed).split() == NUMBER.sub("#", shown).split()
        for found, expected in zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=True):
            tolerance = 0.12 if "." in expected else 0
            assert float(found) == pytest.approx(float(expected), rel=tolerance, abs=tolerance)


def test_what_the_text_says_of_training_holds(run: Run) -> None:
    assert run.names["trained"] > run.names["untrained"] + 0.03
    assert run.names["redundancy"] > run.names["chance"] + 0.1
    scores, by_chance = run.names["scores"], run.names["by_chance"]
    assert scores.mean_reciprocal_rank > 2 * by_chance.mean_reciprocal_rank
    assert scores.prediction_retrieval_error < by_chance.prediction_retrieval_error
    for parameter in (Parameter.CROP_TOP, Parameter.CROP_HEIGHT, Parameter.BRIGHTNESS):
        assert run.names["r2"]["STAR"][parameter] > run.names["r2"]["SimCLR"][parameter]


def test_pictures_are_those_that_the_code_draws(run: Run) -> None:
    for name in ("tutorial_views.png", "tutorial_routing.png"):
        with Image.open(run.folder / name) as drawn, Image.open(DOCS / name) as shown:
            assert drawn.size == shown.size
