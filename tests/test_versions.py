"""Which Pythons and which PyTorch: what the files say of them, and what the Makefile takes."""

import os
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HERE = "{}.{}".format(*sys.version_info[:2])

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")

# Stands in for Python, so that nothing is installed: its pip shows one release of torch.
PYTHON = """\
#!/bin/sh
case "$*" in
    "-m pip show torch") {shown} ;;
    "-m pip "*) echo "$@" >> {log} ;;
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    *) exec {python} "$@" ;;
esac
"""


def make(*arguments: object, folder: Path = ROOT) -> str:
    command = ["make", "-C", folder, *arguments]
    # Not with the variables of a make that runs these tests, PYTHON among them.
    own = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    own.pop("PYTHON", None)
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=own)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_file_names_the_same_pythons() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    prefix = "Programming Language :: Python :: 3."
    named = [
        int(c.removeprefix(prefix))
        for c in setup["metadata"]["classifiers"].splitlines()
        if c.startswith(prefix)
    ]
    assert len(named) > 1
    assert named == list(range(named[0], named[-1] + 1))
    oldest, newest = f"3.{named[0]}", f"3.{named[-1]}"
    assert setup["options"]["python_requires"] == f">={oldest}"
    readme, testing = (
        " ".join((ROOT / name).read_text().split()) for name in ("README.md", "docs/testing.md")
    )
    assert f"Python {oldest} to {newest}" in readme
    for file, text in {"README.md": readme, "docs/testing.md": testing}.items():
        for first, last in re.findall(r"(3\.\d+) (?:to|and|or) (3\.\d+)", text):
            assert first in (oldest, "3.11"), file
            assert last == newest, file
    pinned = (ROOT / "constraints.txt").read_text()
    assert pinned.startswith(f"# What CI installs, for Python 3.11 to {newest}.")


@needs_make
def test_each_python_has_its_own_folder() -> None:
    assert ".venv/bin/python -m pytest" in make("-n", "test")
    # As if setup.cfg had just changed, since these tests may run in that very folder.
    printed = make("-n", "-W", "setup.cfg", "test", f"PYTHON={sys.executable}")
    assert f"{sys.executable} -m venv .venv-{HERE}\n" in printed
    assert f" .venv-{HERE}/bin/python -m pytest" in printed
    assert f".venv-{HERE}/bin/python " in make("-n", "demo", f"PYTHON={sys.executable}")


@needs_make
def test_a_python_that_does_not_start_is_named() -> None:
    done = subprocess.run(
        ["make", "-C", ROOT, "-n", "test", "PYTHON=python3.x"], capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "PYTHON: python3.x does not start" in done.stderr


@needs_make
@pytest.mark.skipif(sys.version_info < (3, 11), reason="constraints.txt needs Python 3.11")
@pytest.mark.parametrize(
    ("release", "stays"),
    [("2.13.0+cpu", True), ("2.15.0+rocm7", True), ("2.13.0", False), (None, False)],
)
def test_a_build_of_pytorch_that_is_there_stays(
    release: str | None, stays: bool, tmp_path: Path
) -> None:
    for name in ("Makefile", "setup.cfg", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    shown = "exit 1" if release is None else f"printf 'Name: torch\\nVersion: {release}\\n'"
    stub = tmp_path / "stub"
    stub.write_text(PYTHON.format(shown=shown, log=tmp_path / "log", python=sys.executable))
    stub.chmod(0o755)
    venv = f".venv-{HERE}"
    make(f"{venv}/ready", f"PYTHON={stub}", folder=tmp_path)
    assert f"--constraint {venv}/constraints.txt" in (tmp_path / "log").read_text()
    taken = (tmp_path / venv / "constraints.txt").read_text().splitlines()
    pinned = (tmp_path / "constraints.txt").read_text().splitlines()
    left_out = [line for line in pinned if line not in taken]
    assert [line.partition("=")[0] for line in left_out] == ["torch", "torchvision"] * stays
    assert [line for line in pinned if line not in left_out] == taken
