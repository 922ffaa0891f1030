"""The evidence's data, runs and tables, small."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.claims import ELSEWHERE
from benchmarks.evidence import data_sets, evidence_report
from benchmarks.evidence.budgets import EXPERTS, METHODS, read_budgets
from star_head import Parameter
from star_head.examples.comparing.results import LINEAR, RANK
from star_head.examples.data.image_data import ImageSplits, load_images
from star_head.examples.data.mask_data import load_masks

PAGE = Path(__file__).parents[2] / "docs/evidence_runs.md"


def test_a_drawing_stands_on_white_in_a_square(tmp_path: Path) -> None:
    pixels = np.zeros((40, 20, 4), np.uint8)
    pixels[..., 0] = 255  # red everywhere, of which only the middle can be seen
    pixels[10:30, 5:15, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "drawing.png")
    found = np.asarray(data_sets.on_white(tmp_path / "drawing.png", 40))
    assert found.shape == (40, 40, 3)
    assert (found[20, 20] == (255, 0, 0)).all()
    for row, column in ((0, 0), (39, 39), (20, 2), (2, 20), (20, 12)):
        assert (found[row, column] == 255).all()
    assert (found[..., 0] == 255).all()


def test_a_drawing_has_a_mask_of_what_is_drawn(tmp_path: Path) -> None:
    pixels = np.zeros((40, 20, 4), np.uint8)
    pixels[10:30, 5:15, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "drawing.png")
    image, mask = data_sets.with_mask(tmp_path / "drawing.png", 40)
    assert (np.asarray(mask) == (np.asarray(image)[..., 0] < 128)).all()
    assert np.asarray(mask).sum() == 200


def draw_packages(folder: Path) -> dict[str, Path]:
    """Folders as Debian's packages have them, with few images."""
    rng = np.random.default_rng(0)
    fashion, drawings = folder / "fashion", folder / "drawings"
    fashion.mkdir()
    for part, count in (("train", 60), ("t10k", 40)):
        labels = np.arange(count, dtype=np.uint8) % 3
        images = rng.integers(0, 80, (count, 28, 28), dtype=np.uint8) + 60 * labels[:, None, None]
        for kind, content in (("images-idx3", images), ("labels-idx1", labels)):
            magic = bytes([0, 0, 8, content.ndim])
            sizes = np.array(content.shape, dtype=">u4").tobytes()
            data = magic + sizes + content.astype(np.uint8).tobytes()
            (fashion / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(data))
    for number, (name, count) in enumerate({"animals": 50, "food": 70, "logos": 5}.items()):
        (drawings / name / "deeper").mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(0, 255, (20 + index % 7, 24, 3), dtype=np.uint8)
            pixels[..., number] //= 4
            place = drawings / name / ("deeper" if index % 2 else "")
            Image.fromarray(pixels).save(place / f"{index:03}.png")
    Image.new("L", (1001, 1000)).save(drawings / "animals" / "large.png")
    return {"fashion-mnist": fashion, "openclipart": drawings, "openclipart-masks": drawings}


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_sets, "_SOURCES", draw_packages(tmp_path))
    monkeypatch.setattr(data_sets, "_FIRST_IMAGES", {"train": 60, "val": 30})
    monkeypatch.setattr(data_sets, "_LEAST_DRAWINGS", 50)
    monkeypatch.setattr(data_sets, "_MOST_DRAWINGS", 60)


def counts(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): len(list(path.iterdir())) for path in folder.glob("*/*")}


@pytest.mark.usefixtures("packages")
def test_data_sets_become_folders_of_classes(tmp_path: Path) -> None:
    fashion = data_sets.prepare("fashion-mnist", tmp_path / "data")
    assert counts(fashion) == {f"train/{c}": 20 for c in "012"} | {f"val/{c}": 10 for c in "012"}
    pixels = {c: np.asarray(Image.open(fashion / f"val/{c}/0000{c}.png")).mean() for c in "012"}
    assert pixels["0"] < pixels["1"] < pixels["2"]
    drawings = data_sets.prepare("openclipart", tmp_path / "data")
    assert counts(drawings) == {
        "train/animals": 40,
        "val/animals": 10,
        "train/food": 48,
        "val/food": 12,
    }
    assert {Image.open(p).size for p in drawings.glob("*/*/*.png")} == {(48, 48)}
    masks = load_masks("folder", data_sets.prepare("openclipart-masks", tmp_path / "data"))
    assert (len(masks.train), len(masks.test), masks.num_classes) == (88, 22, 2)
    (drawings / "val/food/00000.png").unlink()
    assert data_sets.prepare("openclipart", tmp_path / "data") == drawings
    assert counts(drawings)["val/food"] == 11  # what is there is not made anew
    with pytest.raises(ValueError, match=r"^source: expected a folder with openclipart, got .*apt"):
        data_sets.prepare("openclipart", tmp_path / "elsewhere", tmp_path / "nothing")


@pytest.mark.usefixtures("packages")
def test_fetched_data_sets_become_folders_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fetch(name: str, source: Path) -> ImageSplits:
        asked.append((name, source))
        return load_images("digits")

    monkeypatch.setattr(data_sets, "load_images", fetch)
    found = data_sets.prepare("cifar10", tmp_path)
    assert asked == [("cifar10", tmp_path / "downloads")]
    images = load_images("folder", found)
    assert len(images.train) == 60
    assert len(images.test) == 30


def made_up_run(method: str, seed: int, level: float) -> dict:
    both = method != "simclr"
    scores = {"mean_reciprocal_rank": level, "prediction_retrieval_error": 4 - level}
    chance = {"mean_reciprocal_rank": 0.18, "prediction_retrieval_error": 4.3}
    experts = EXPERTS.get(method, 1)
    usage = [[1 / experts] * experts] * 2
    return {
        "dataset": "openclipart",
        "method": method,
        "seed": seed,
        "epochs": 6,
        "1-NN untrained": 0.4,
        "1-NN": level,
        "linear": level,
        "linear elsewhere": {"fashion-mnist": level / 2},
        "processor seconds an epoch": 10.0,
        "canonical correlation": {"measured": 1 - level, "by chance": 0.2} if both else None,
        "equivariance": {"measured": scores, "by chance": chance} if both else None,
        "R^2": {p.label: 0.1 * p for p in Parameter} | {"hue": None},
        "routing": {"usage": usage, "spread": usage, "divergence": 0.3},
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for place, method in enumerate(METHODS):
        for seed in (0, 1, 2):
            run = made_up_run(method, seed, 0.5 + 0.02 * place + 0.015 * seed * (-1) ** place)
            path = tmp_path / "results" / "openclipart" / f"{method}_{seed}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(run))
    return tmp_path / "results"


def test_measures_over_seeds(folder: Path) -> None:
    (budget,) = read_budgets(folder)
    assert list(budget.runs) == list(METHODS)
    assert budget.values("simclr", LINEAR) == pytest.approx([50.0, 51.5, 53.0])
    assert budget.values("equimod", ELSEWHERE) == pytest.approx([26.0, 25.25, 24.5])
    assert budget.differences("equimod", "simclr", LINEAR) == pytest.approx([2.0, -1.0, -4.0])
    assert budget.differences("equimod", "simclr", RANK) == []


def test_the_page_is_filled_from_the_runs(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "page" / PAGE.name
    page.parent.mkdir()
    page.write_text(PAGE.read_text())
    evidence_report.main(folder, page)
    once = page.read_text()
    assert "**Trained on openclipart, 6 epochs**, seeds 0, 1, 2:" in once
    assert "| SimCLR | 51.5\u00a0±\u00a01.5 |" in once
    assert "| EquiMod (separate heads) above SimCLR | linear, % | 1 of 3 (-1.0) |" in once
    assert "experts below EquiMod (separate heads) | canonical correlation | 3 of 3 (" in once
    assert "Chance level: canonical correlation 0.200" in once
    for name in ("redundancy", "experts", "usage"):
        with Image.open(page.with_name(f"evidence_{name}.png")) as picture:
            assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 20
    evidence_report.main(folder, page)
    assert page.read_text() == once


def test_reports_want_all_methods(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^folder: expected folders of runs"):
        evidence_report.main(tmp_path / "nothing")
    for path in folder.glob("*/star-mmoe-16_*.json"):
        path.unlink()
    with pytest.raises(ValueError, match=r"^folder: expected a run of each of .*'star-mmoe-16'"):
        evidence_report.main(folder)


def test_the_page_tells_what_its_results_say(tmp_path: Path) -> None:
    """Those in the repository: nobody has written into its tables, or forgotten to."""
    page = tmp_path / PAGE.name
    page.write_text(PAGE.read_text())
    evidence_report.main(page=page)
    assert page.read_text() == PAGE.read_text()
