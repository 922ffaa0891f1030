"""The tutorial as a notebook: `python -m docs.tutorial_notebook` makes it from docs/tutorial.md.

Code blocks become code cells, what stands below them as text becomes their output, and all else
becomes Markdown.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "tutorial.md"
NOTEBOOK = PAGE.with_suffix(".ipynb")

BLOCK = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", re.DOTALL)


def cells(text: str) -> Iterator[dict[str, Any]]:
    """Cells of the notebook's format 4.5, without their ids."""
    end = 0
    for block in BLOCK.finditer(text):
        yield from _prose(text[end : block.start()])
        code, printed = block.groups()
        outputs = [] if printed is None else [_stream(printed)]
        yield {
            "cell_type": "code",
            "execution_count": None,
            "metadata": {},
            "outputs": outputs,
            "source": _lines(code.rstrip("\n")),
        }
        end = block.end()
    yield from _prose(text[end:])


def _prose(text: str) -> Iterator[dict[str, Any]]:
    if text.strip():
        yield {"cell_type": "markdown", "metadata": {}, "source": _lines(text.strip("\n"))}


def _stream(printed: str) -> dict[str, Any]:
    return {"name": "stdout", "output_type": "stream", "text": _lines(printed)}


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def notebook(text: str) -> str:
    """The file's text: the same for the same page, with ids by the order of cells."""
    found = {
        "cells": [{"id": f"cell-{i}", **cell} for i, cell in enumerate(cells(text), 1)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    NOTEBOOK.write_text(notebook(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
