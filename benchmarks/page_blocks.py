"""Tables in pages of docs/ that are a program's, not a hand's.

What stands in a page between the markers "<!-- NAME -->" and "<!-- end -->" is replaced; all else
stays.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from star_head._whole_files import replacing


def fill_page(page: Path, blocks: Mapping[str, Iterable[str]]) -> None:
    """Replace blocks of a page by lines of Markdown, and print them.

    Args:
        page: The Markdown file.
        blocks: Lines by the names in the markers.

    Raises:
        ValueError: If a block is not there once.
    """
    text = page.read_text()
    for name, lines in blocks.items():
        block = "\n".join(lines)
        print(f"{block}\n")
        text = fill(text, name, block)
    with replacing(page) as scratch:
        scratch.write_text(text)


def fill(text: str, name: str, block: str) -> str:
    """Replace what stands between a name's markers.

    Raises:
        ValueError: If they are not there once.
    """
    marker = f"<!-- {name} -->"
    pattern = re.compile(rf"{re.escape(marker)}\n.*?<!-- end -->", re.DOTALL)
    filled, count = pattern.subn(lambda _: f"{marker}\n{block}\n<!-- end -->", text)
    if count != 1:
        raise ValueError(f"page: expected one block from {marker} to <!-- end -->, got {count}")
    return filled


def table(header: Iterable[object], rows: Iterable[Iterable[object]]) -> list[str]:
    """Lines of a Markdown table, and an empty one."""
    names = list(header)
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (names, *rows)]
    return [lines[0], "|" + "---|" * len(names), *lines[1:], ""]
