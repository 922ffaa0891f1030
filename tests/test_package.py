"""The built package, in an environment of its own and away from the repository."""

import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import star_head

ROOT = Path(__file__).parent.parent

# Core and adapters as a user imports them, and what the core must not drag in.
SCRIPT = """
import sys
import star_head, torch
from star_head import metrics
assert {root!r} not in star_head.__file__, star_head.__file__
foreign = {{"lightly", "timm", "torchvision", "lightning", "pytorch_lightning", "PIL", "sklearn"}}
assert not foreign & sys.modules.keys(), foreign & sys.modules.keys()
head = star_head.STARProjectionHead(8, 8, 4, 2, statistics="stl10")
z = head(torch.randn(6, 8))
loss = star_head.STARLoss()(z, z, z.equivariant, z.equivariant).total
loss.backward()
metrics.canonical_correlations(z.invariant, z.equivariant)
import star_head.adapters.timm, star_head.adapters.lightly
print(star_head.__version__)
"""


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel and an sdist, built without a network by the setuptools at hand."""
    out = tmp_path_factory.mktemp("dist")
    files = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    source = tmp_path_factory.mktemp("source")
    for name in files.splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, cwd=source)
    return out


def test_wheel_holds_the_package_and_nothing_else(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {Path(name).parts[0].split("-")[0] for name in names} == {"star_head"}
    for name in ("py.typed", "head.py", "adapters/__init__.py", "adapters/lightly.py"):
        assert f"star_head/{name}" in names


def test_sdist_builds_what_the_wheel_holds(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"setup.cfg", "LICENSE", "star_head/py.typed", "adapters/timm.py"} <= names


@pytest.mark.slow
def test_wheel_installs_and_imports_outside_the_repository(dist: Path, tmp_path: Path) -> None:
    # Dependencies come from this environment; star_head only from the wheel.
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv/bin/python"
    (site,) = (tmp_path / "venv/lib").glob("python*/site-packages")
    (wheel,) = dist.glob("*.whl")
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--target", site, wheel, cwd=tmp_path)
    here = next(p for p in sys.path if p.endswith("site-packages"))
    # A path line alone: the editable install's import hook lies in a .pth file, which is not read.
    (site / "dependencies.pth").write_text(here + "\n")
    printed = run(python, "-c", SCRIPT.format(root=str(ROOT)), cwd=tmp_path)
    assert printed.strip() == star_head.__version__


def test_editable_install_maps_both_packages() -> None:
    import star_head.adapters

    assert Path(star_head.__file__).parent == ROOT / "star_head"
    assert Path(star_head.adapters.__file__).parent == ROOT / "adapters"
