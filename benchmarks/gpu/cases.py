"""What is measured, one by one: a case that fails leaves a row, and the next begins."""

import gc
import json
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path

import torch

Figures = Mapping[str, float | None]
"""Numbers by what they are; None where it could not be measured, and no promise is judged."""


@dataclass(frozen=True)
class Case:
    """Something to measure.

    Attributes:
        name: Tells it from the part's others.
        run: Gives its figures.
        needs: Packages without which it is left out.
    """

    name: str
    run: Callable[[], Figures]
    needs: Sequence[str] = ()


@dataclass(frozen=True)
class Row:
    """What came of a case.

    Attributes:
        part: Its part.
        case: Its name.
        figures: What it gave.
        left_out: Why it was not run, if it was not.
        failed: The error that ended it, if one did.
    """

    part: str
    case: str
    figures: dict[str, float | None] = field(default_factory=dict)
    left_out: str | None = None
    failed: str | None = None


def run_cases(part: str, cases: Iterable[Case], path: Path) -> None:
    """Run cases and add a line for each to a file, which holds what was done if this is killed.

    Args:
        part: Their part.
        cases: What to measure.
        path: JSON lines, one row each.
    """
    for case in cases:
        row = run_case(part, case)
        with open(path, "a") as file:
            file.write(json.dumps(asdict(row)) + "\n")
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def run_case(part: str, case: Case) -> Row:
    """Run one; its error becomes part of the row, and is printed with where it came from."""
    missing = [name for name in case.needs if find_spec(name) is None]
    if missing:
        return Row(part, case.name, left_out=f"{' and '.join(missing)} not installed")
    try:
        return Row(part, case.name, dict(case.run()))
    except Exception as error:  # whatever it is, the others are still worth measuring
        traceback.print_exc()
        first_line = str(error).strip().partition("\n")[0]
        return Row(part, case.name, failed=f"{type(error).__name__}: {first_line}")


def read_rows(path: Path) -> list[Row]:
    """Rows of a file of :func:`run_cases`; what a killed process left half-written is dropped."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [Row(**json.loads(line)) for line in lines if line.endswith("\n")]
