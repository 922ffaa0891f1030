"""The four floors: each imports only from those below it, and the core from three packages."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
FLOORS = ("star_head", "adapters", "evaluation", "examples")
# Its libraries, and what type checkers and nobody else need.
CORE_NEEDS = {"torch", "einops", "numpy"}


class Graph(NamedTuple):
    """What imports what, by number."""

    modules: int
    floors: int
    upward: list[str]
    outside_core: list[str]
    sys_path: list[str]


def measure(root: Path = ROOT) -> Graph:
    """Walk all files of the floors, the tests and the benchmarks."""
    upward, outside = [], []
    files = [(floor, file) for floor in FLOORS for file in sorted((root / floor).rglob("*.py"))]
    for floor, file in files:
        for name in imported(file):
            place = f"{file.relative_to(root)}: {name}"
            if FLOORS.index(floor_of(name) or floor) > FLOORS.index(floor):
                upward.append(place)
            top = name.partition(".")[0]
            own = top == "star_head" or top in sys.stdlib_module_names or top == "__future__"
            if floor == "star_head" and not own and top not in CORE_NEEDS:
                outside.append(place)
    touched = [
        str(file.relative_to(root))
        for folder in (*FLOORS, "benchmarks", "tests")
        for file in sorted((root / folder).rglob("*.py"))
        if touches_sys_path(ast.parse(file.read_text(encoding="utf-8")))
    ]
    return Graph(len(files), len(FLOORS), upward, outside, touched)


def floor_of(name: str) -> str | None:
    """The floor of an imported module; ``None`` for another library's."""
    top, _, rest = name.partition(".")
    if top != "star_head":
        return None
    first = rest.partition(".")[0]
    return first if first in FLOORS[1:] else "star_head"


def imported(file: Path) -> Iterator[str]:
    """Full names of what a file imports anywhere in it."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    folder = file.parent.relative_to(ROOT) if file.is_relative_to(ROOT) else Path(file.parent.name)
    package = [*folder.parts] if folder.parts[0] == "star_head" else ["star_head", *folder.parts]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def touches_sys_path(tree: ast.AST) -> bool:
    """Whether ``sys.path`` is called upon or set."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "sys":
            taken = any(alias.name == "path" for alias in node.names)
            if taken:
                return True
        changed: ast.expr | None = None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            changed = node.func.value
            if node.func.attr == "syspath_prepend":
                return True
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AugAssign):
            targets = [node.target]
        candidates = [changed, *(t.value if isinstance(t, ast.Subscript) else t for t in targets)]
        if any(
            isinstance(c, ast.Attribute) and c.attr == "path" and ast.unparse(c.value) == "sys"
            for c in candidates
        ):
            return True
    return False


def test_no_floor_reaches_up() -> None:
    assert measure().upward == []


def test_core_imports_torch_einops_and_numpy_alone() -> None:
    assert measure().outside_core == []


def test_nobody_touches_the_path() -> None:
    assert measure().sys_path == []


def test_what_is_wrong_is_found(tmp_path: Path) -> None:
    for floor in (*FLOORS, "tests", "benchmarks"):
        (tmp_path / floor).mkdir()
    (tmp_path / "star_head/a.py").write_text("import scipy\nfrom star_head import adapters\n")
    (tmp_path / "adapters/b.py").write_text("def f():\n    import star_head.examples.data\n")
    (tmp_path / "examples/c.py").write_text("import sys\nfrom star_head import evaluation\n")
    for i, line in enumerate(
        ("sys.path.insert(0, '.')", "sys.path += ['.']", "sys.path[:0] = ['.']", "sys.path = []")
    ):
        (tmp_path / f"tests/t{i}.py").write_text(f"import sys\n{line}\n")
    found = measure(tmp_path)
    assert found.upward == [
        "star_head/a.py: star_head.adapters",
        "adapters/b.py: star_head.examples.data",
    ]
    assert found.outside_core == ["star_head/a.py: scipy"]
    assert found.sys_path == [f"tests/t{i}.py" for i in range(4)]
