"""Where a name lives that somebody looks for at the top of the package."""

import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

# The package's own modules come first, then the floors above, which are read and not imported.
_PACKAGES = ("star_head", "star_head.adapters", "star_head.evaluation")


@cache
def where_to_find(name: str) -> str | None:
    """Say how to import a public name of another module of the package, or None if none has it."""
    name = re.escape(name)
    defined = re.compile(rf"^(?:class|def) {name}\b", re.MULTILINE)
    # Defined at the top of a module, or on the list of what it offers.
    there = re.compile(
        rf"^(?:class|def) {name}\b|^{name}(?:: [^=]+)? = "
        rf'|^    "{name}",?$|^__all__ = .*"{name}"',
        re.MULTILINE,
    )
    places: list[str] = []
    for module, path in _modules():
        text = path.read_text(encoding="utf-8")
        if defined.search(text) or (not places and there.search(text)):
            places.append(f"in {module}: from {module} import {name}{_extra(text)}")
            if not defined.search(text):
                break  # a list, of what a module below defines
        elif not places and module.endswith(f".{name}") and module.count(".") > 1:
            return f"{name} is {module}: import {module}{_extra(text)}"
    return f"{name} is {', and another '.join(places)}" if places else None


def _modules() -> Iterator[tuple[str, Path]]:
    """Public modules and their files; a package comes before its modules."""
    for package in _PACKAGES:
        spec = find_spec(package)
        for folder in map(Path, (spec and spec.submodule_search_locations) or ()):
            if package != "star_head":
                yield package, folder / "__init__.py"
            for path in sorted(folder.glob("[a-z]*.py")):
                yield f"{package}.{path.stem}", path


def _extra(text: str) -> str:
    """How to install what a module needs, which it says itself."""
    found = re.search(r"star-head\[[\w-]+\]", text)
    return f'; it needs pip install "{found.group()}"' if found else ""
