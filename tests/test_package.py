"""The built package, in an environment of its own and away from the repository."""

import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from test_checkpoint import Authors

import star_head

ROOT = Path(__file__).parent.parent

# Core and adapters as a user imports them, and what the core must not drag in.
SCRIPT = """
import sys
import star_head, torch
from star_head import metrics
assert {root!r} not in star_head.__file__, star_head.__file__
foreign = {{"lightly", "timm", "torchvision", "lightning", "pytorch_lightning", "PIL", "sklearn"}}
foreign |= {{"kornia", "stable_pretraining"}}
assert not foreign & sys.modules.keys(), foreign & sys.modules.keys()
head = star_head.STARProjectionHead(8, 8, 4, num_experts=2, statistics="stl10")
z = head(torch.randn(6, 8))
loss = star_head.STARLoss()(z, z, z.equivariant, z.equivariant).total
loss.backward()
metrics.canonical_correlations(z.invariant, z.equivariant)
import star_head.adapters.timm, star_head.adapters.lightly
print(star_head.__version__)
"""

# What a user of the core does, where nothing is installed but what setup.cfg says it needs.
CORE_SCRIPT = """
import importlib.util, sys
import torch
from star_head import STAR, STARViews, __file__, __version__, equivariance_metrics, metrics
from star_head.checkpoint import load_official_checkpoint

assert sys.prefix in __file__, __file__
others = ["lightly", "timm", "torchvision", "lightning", "pytorch_lightning", "PIL", "scipy"]
others += ["kornia", "stable_pretraining"]
for name in others:
    assert importlib.util.find_spec(name) is None, name
adapters = ["lightly", "device", "timm", "torchvision", "lightning", "kornia"]
for name in [*adapters, "stable_pretraining"]:
    try:
        importlib.import_module(f"star_head.adapters.{name}")
    except ImportError as error:
        assert 'pip install "star-head[' in str(error), error
    else:
        raise AssertionError(name)

head = load_official_checkpoint(sys.argv[1]).head.float()
images, params = torch.randn(40, 512), torch.rand(40, 11)
model = STAR(torch.nn.Linear(512, 512), head)
model(STARViews(images, (images + 1, images - 1), (params, params + 1))).total.backward()
assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())

model.eval()
z, weights = head(images), head.routing_weights(images)
assert 0 < metrics.mean_canonical_correlation(z.invariant, z.equivariant) < 1
assert metrics.expert_usage(weights).sum(dim=1).allclose(torch.ones(2))
assert 0 < metrics.routing_divergence(weights) < 1
equivariance_metrics.parameter_r2(images, images + 1, params)
views = head.predict(z.equivariant, params).view(8, 5, -1)
scores = equivariance_metrics.retrieval(views, views, params.view(8, 5, -1), torch.ones(11))
assert scores.mean_reciprocal_rank == 1
print(__version__)
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
    for name in (
        "py.typed",
        "head.py",
        "adapters/__init__.py",
        "adapters/lightly.py",
        "adapters/_recorded/tree.py",
    ):
        assert f"star_head/{name}" in names


def test_sdist_builds_what_the_wheel_holds(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"setup.cfg", "LICENSE", "star_head/py.typed", "adapters/timm.py"} <= names


def install_wheel(dist: Path, folder: Path) -> tuple[Path, Path]:
    """An environment with nothing but the wheel in it: its Python and its site-packages."""
    venv.create(folder / "venv", with_pip=False)
    (site,) = (folder / "venv/lib").glob("python*/site-packages")
    (wheel,) = dist.glob("*.whl")
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--target", site, wheel, cwd=folder)
    return folder / "venv/bin/python", site


@pytest.mark.slow
def test_wheel_installs_and_imports_outside_the_repository(dist: Path, tmp_path: Path) -> None:
    # Dependencies come from this environment; star_head only from the wheel.
    python, site = install_wheel(dist, tmp_path)
    here = next(p for p in sys.path if p.endswith("site-packages"))
    # A path line alone: the editable install's import hook lies in a .pth file, which is not read.
    (site / "dependencies.pth").write_text(here + "\n")
    printed = run(python, "-c", SCRIPT.format(root=str(ROOT)), cwd=tmp_path)
    assert printed.strip() == star_head.__version__


def needed(*names: str) -> set[str]:
    """Names of distributions and of all that they need here, extras left out."""
    found: set[str] = set()
    queue = list(names)
    while queue:
        name = queue.pop()
        if name not in found:
            found.add(name)
            requirements = map(Requirement, distribution(name).requires or ())
            queue += [r.name for r in requirements if not r.marker or r.marker.evaluate()]
    return found


@pytest.mark.slow
def test_core_works_beside_torch_einops_and_numpy_alone(dist: Path, tmp_path: Path) -> None:
    python, site = install_wheel(dist, tmp_path)
    # Linked to what lies here, since torch takes minutes and gigabytes to install again.
    for name in needed("torch", "einops", "numpy"):
        for file in distribution(name).files or ():
            link = site / file.parts[0]
            if file.parts[0] not in ("..", "__pycache__") and not link.exists():
                link.symlink_to(distribution(name).locate_file(file.parts[0]))
    checkpoint = Authors().save(tmp_path / "star.pth")
    printed = run(python, "-c", CORE_SCRIPT, checkpoint, cwd=tmp_path)
    assert printed.strip() == star_head.__version__


def test_editable_install_maps_both_packages() -> None:
    import star_head.adapters

    assert Path(star_head.__file__).parent == ROOT / "star_head"
    assert Path(star_head.adapters.__file__).parent == ROOT / "adapters"
