"""Where a name lives that somebody looks for at the top of the package."""

import ast
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

# The package's own modules come first, then the floors above, which are read and not imported.
_PACKAGES = ("star_head", "star_head.adapters", "star_head.evaluation")


def where_to_find(name: str) -> str | None:
    """Say how to import a public name of another module of the package, or None if none has it."""
    for module, path in _modules():
        text = path.read_text(encoding="utf-8")
        is_module = module.rpartition(".")[2] == name and module.count(".") > 1
        if not is_module and name not in text:
            continue
        tree = ast.parse(text)
        if name in _public_names(tree, path):
            return f"{name} is in {module}: from {module} import {name}{_extra(module, tree)}"
        if is_module:
            return f"{name} is {module}: import {module}{_extra(module, tree)}"
    return None


def _modules() -> Iterator[tuple[str, Path]]:
    for package in _PACKAGES:
        spec = find_spec(package)
        folders = (spec and spec.submodule_search_locations) or ()
        for folder in map(Path, folders):
            if package != "star_head":
                yield package, folder / "__init__.py"
            for path in sorted(folder.glob("[a-z]*.py")):
                yield f"{package}.{path.stem}", path


def _public_names(tree: ast.Module, path: Path) -> set[str]:
    """What a module defines at its top, and what a package imports to offer it."""
    names = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    if path.name == "__init__.py":
        imports = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
        names |= {alias.asname or alias.name for node in imports for alias in node.names}
    return names


def _extra(module: str, tree: ast.Module) -> str:
    """How to install what a module needs, as its docstring or its package's says."""
    texts = [ast.get_docstring(tree) or ""]
    package = find_spec(module.rpartition(".")[0])
    if package is not None and package.origin is not None:
        above = ast.parse(Path(package.origin).read_text(encoding="utf-8"))
        texts.append(ast.get_docstring(above) or "")
    found = [match for text in texts if (match := re.search(r"star-head\[\w+\]", text))]
    return f'; it needs pip install "{found[0].group()}"' if found else ""
