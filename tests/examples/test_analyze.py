"""The report's numbers against loops, and the page as a browser has it."""

import base64
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from running import run_here
from saved_runs import last, save_run
from test_checkpoint import Authors
from torch import Tensor

from star_head import Parameter
from star_head.augmentation import STATISTICS
from star_head.evaluation.embeddings import embed, embed_views
from star_head.evaluation.measures import role_name
from star_head.evaluation.report.html import number
from star_head.evaluation.trained import Trained, open_trained
from star_head.examples import analyze
from star_head.examples.command_line import run
from star_head.examples.data.class_names import class_names
from star_head.examples.data.image_data import Images, load_images
from star_head.metrics import parameter_r2

IMAGES, VIEWED, VIEWS = 40, 8, 6
EXTERNAL = re.compile(r"url\(|@import|https?:", re.IGNORECASE)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A report on three checkpoints, made as a user makes it."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("analyze")
    save_run(folder / "mmoe", routing="mmoe", num_experts=4)
    save_run(folder / "simclr", routing="invariant")
    Authors().save(folder / "authors.pth")
    done = run_here(
        "examples/analyze.py",
        *("mmoe/checkpoints/last.ckpt", "simclr/checkpoints/last.ckpt", "authors.pth"),
        *("--dataset=digits", f"--max-images={IMAGES}", f"--view_images={VIEWED}"),
        *(f"--views={VIEWS}", "--num_workers=1", "--output=report"),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return SimpleNamespace(
        folder=folder,
        output=done.stdout,
        results=json.loads((folder / "report/report.json").read_text()),
        page=(folder / "report/report.html").read_text(),
    )


def sample() -> tuple[Images, list[int]]:
    """The images measured, and which of them have views."""
    images = load_images("digits").test
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images = images.part(np.sort(order[:IMAGES].numpy()))
    order = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(0))
    return images, sorted(order[:VIEWED].tolist())


@torch.no_grad()
def embed_one(trained: Trained, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Features (D,), routing (2, E) and embeddings (2, d) of one image."""
    features = trained.backbone(pixels[None])
    z = trained.head(features)
    weights = trained.head.experts.router(features)[0]
    return features[0], weights, torch.stack([z.invariant[0], z.equivariant[0]])


def cosine(a: Tensor, b: Tensor) -> float:
    return (a @ b / (a.norm() * b.norm())).item()


def correlations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Canonical correlations from covariances."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    product = np.linalg.solve(x.T @ x, x.T @ y) @ np.linalg.solve(y.T @ y, y.T @ x)
    return np.sqrt(np.sort(np.linalg.eigvals(product).real)[::-1].clip(0))


def test_numbers_equal_loops(made: SimpleNamespace) -> None:
    found = made.results["checkpoints"]["mmoe"]
    trained = open_trained(last(made.folder / "mmoe"))
    images, with_views = sample()
    one = [embed_one(trained, trained.transform.original(images[i][0])) for i in range(IMAGES)]
    features, weights, z = (torch.stack(parts) for parts in zip(*one, strict=True))

    spectrum = found["redundancy"]["canonical correlations"]
    expected = correlations(*(z[:, t].double().numpy() for t in (0, 1)))
    np.testing.assert_allclose(spectrum, expected, atol=1e-4)
    assert found["redundancy"]["mean"] == pytest.approx(expected.mean(), abs=1e-5)
    assert found["redundancy"]["mean by chance"] < found["redundancy"]["mean"]

    routing = found["routing weights"]
    for t, task in enumerate(("invariant", "equivariant")):
        for expert in range(4):
            shares = [weights[i, t, expert].item() for i in range(IMAGES)]
            assert routing["usage"][task][expert] == pytest.approx(np.mean(shares), rel=1e-4)
            for digit in range(10):
                of_class = [s for i, s in enumerate(shares) if images[i][1] == digit]
                if of_class:
                    share = routing["usage by class"][str(digit)][task][expert]
                    assert share == pytest.approx(np.mean(of_class), rel=1e-4)
    for role, a, b in zip(routing["roles"], *routing["usage"].values(), strict=True):
        assert role == pytest.approx((b - a) / (b + a))

    std = torch.tensor(STATISTICS["stl10"].std)
    ranks, errors = [], []
    rows: dict[str, list[Tensor]] = {name: [] for name in ("x0", "x", "a", "w", "z0", "z")}
    for place, i in enumerate(with_views):
        seed = np.random.SeedSequence((0, place)).generate_state(1, np.uint64)[0] >> 1
        torch.manual_seed(int(seed))
        image = images[i][0]
        records = [trained.transform.sample(image) for _ in range(VIEWS)]
        params = [record.vector() for record in records]
        made_of = [embed_one(trained, trained.transform.apply(image, r)) for r in records]
        for j in range(VIEWS):
            with torch.no_grad():
                predicted = trained.head.predict(z[i, 1][None], params[j][None])[0]
            similarity = [cosine(predicted, made_of[k][2][1]) for k in range(VIEWS)]
            ranking = sorted(range(VIEWS), key=lambda k: -similarity[k])
            ranks.append(1 + ranking.index(j))
            errors.append(((params[ranking[0]] - params[j]) / std).norm().item())
            parts = (features[i], made_of[j][0], params[j], made_of[j][1], z[i], made_of[j][2])
            for name, part in zip(rows, parts, strict=True):
                rows[name].append(part)
    measured = found["equivariance"]["measured"]
    assert measured["mean_reciprocal_rank"] == pytest.approx(np.mean([1 / r for r in ranks]))
    assert measured["hit_at_1"] == pytest.approx(np.mean([r == 1 for r in ranks]))
    assert measured["hit_at_5"] == pytest.approx(np.mean([r <= 5 for r in ranks]))
    assert measured["prediction_retrieval_error"] == pytest.approx(np.mean(errors), rel=1e-5)
    assert found["equivariance"]["by chance"]["hit_at_1"] == pytest.approx(1 / VIEWS)

    columns = {name: torch.stack(parts) for name, parts in rows.items()}
    for parameter in Parameter:
        a = columns["a"][:, parameter].double().numpy()
        for t, task in enumerate(("invariant", "equivariant")):
            got = routing["correlation with parameters"][parameter.label][task]
            for expert in range(4):
                w = columns["w"][:, t, expert].double().numpy()
                assert got[expert] == pytest.approx(np.corrcoef(w, a)[0, 1], abs=1e-4)

    order = torch.randperm(VIEWED, generator=torch.Generator().manual_seed(0)).tolist()
    held_out = torch.tensor([place in order[:1] for place in range(VIEWED) for _ in range(VIEWS)])
    assert found["parameters"]["images held out"] == 1
    pairs = {
        "features": (columns["x0"], columns["x"]),
        "invariant embedding": (columns["z0"][:, 0], columns["z"][:, 0]),
        "equivariant embedding": (columns["z0"][:, 1], columns["z"][:, 1]),
    }
    for source, (of_original, of_view) in pairs.items():
        r2 = parameter_r2(of_original, of_view, columns["a"], held_out)
        got = [found["parameters"]["R^2"][source][parameter.label] for parameter in Parameter]
        np.testing.assert_allclose(np.array(got, float), r2, rtol=0.02, atol=0.02)

    near = found["neighbours"]
    assert set(near["nearest"]) == {*pairs, *(f"expert {e}" for e in range(4))}
    for t, name in enumerate(("invariant embedding", "equivariant embedding")):
        same = 0
        for i in range(IMAGES):
            others = sorted(set(range(IMAGES)) - {i}, key=lambda k: -cosine(z[i, t], z[k, t]))
            same += sum(images[k][1] == images[i][1] for k in others[:5])
            if i in near["queries"]:
                assert near["nearest"][name][near["queries"].index(i)] == others[:5]
        assert near["share of the same class"][name] == pytest.approx(same / (5 * IMAGES))


def test_what_a_head_lacks_is_none_and_the_rest_is_there(made: SimpleNamespace) -> None:
    assert list(made.results["checkpoints"]) == ["mmoe", "simclr", "authors"]
    assert (made.results["images"], made.results["images with views"]) == (IMAGES, VIEWED)
    assert made.results["held out"] is True
    simclr = made.results["checkpoints"]["simclr"]
    for name in ("redundancy", "routing weights", "equivariance"):
        assert simclr[name] is None
    assert set(simclr["parameters"]["R^2"]) == {"features", "invariant embedding"}
    assert set(simclr["neighbours"]["nearest"]) == {"features", "invariant embedding"}
    authors = made.results["checkpoints"]["authors"]
    assert len(authors["redundancy"]["canonical correlations"]) == 6
    assert len(authors["routing weights"]["roles"]) == 5
    for name in ("mmoe", "simclr", "authors"):
        assert re.search(rf"^{name}$", made.output, re.MULTILINE)


class Page(HTMLParser):
    """What a page loads, shows and says."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.style = ""
        self._in_style = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        self._in_style = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.style += data
        else:
            self.text += f" {data}"


def test_page_holds_all_that_it_shows(made: SimpleNamespace) -> None:
    page = Page(made.page)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "base"}
    assert page.style
    assert not EXTERNAL.search(page.style)
    pictures = 0
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") or name == "style" for name in attributes), tag
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            if (target := attributes.get(name)) is None:
                continue
            if tag == "img" and name == "src":
                kind, _, content = target.partition(",")
                assert kind == "data:image/svg+xml;base64"
                assert attributes["alt"]
                drawing = ElementTree.fromstring(base64.b64decode(content))
                for element in drawing.iter():
                    assert not element.tag.endswith("script")
                    for key, value in element.attrib.items():
                        if key.endswith(("href", "src")):
                            assert value.startswith(("#", "data:")), value
                        assert "url(" not in value or "url(#" in value
                pictures += 1
            else:
                assert (tag, name, target[0]) == ("a", "href", "#")
                assert any(a.get("id") == target[1:] for _, a in page.tags)
    # A spectrum and R^2; three of two routings; a grid of each.
    assert pictures == 2 + 2 * 3 + 3


def test_page_says_the_numbers_and_what_they_are(made: SimpleNamespace) -> None:
    text = " ".join(Page(made.page).text.split())
    for checkpoint in made.results["checkpoints"].values():
        values = [checkpoint["neighbours"]["share of the same class"]["features"]]
        if checkpoint["redundancy"]:
            values.append(checkpoint["redundancy"]["mean"])
            values += checkpoint["equivariance"]["measured"].values()
        for value in values:
            assert f"{value:.3f}" in text
    assert "40 held-out images of digits" in text
    assert "6 recorded views of each of 8 of them: 48 views" in text
    assert "simclr is left out: it has no equivariant embedding" in text
    assert "SimCLR, 1 expert: there are no routers" in text
    assert "arXiv 2510.27222" in text
    assert "0.55 0.42 0.35 0.30" in text
    assert "nan" not in text
    assert "None" not in text


def test_the_same_again(made: SimpleNamespace) -> None:
    again = made.folder / "again"
    arguments = {"max_images": IMAGES, "view_images": VIEWED, "views": VIEWS, "num_workers": 0}
    analyze.main([last(made.folder / "simclr")], **arguments, output=again)
    found = json.loads((again / "report.json").read_text())["checkpoints"]["simclr"]
    expected = made.results["checkpoints"]["simclr"]
    assert found["neighbours"] == expected["neighbours"]
    assert found["parameters"] == expected["parameters"]
    first = (again / "report.html").read_bytes()
    analyze.main([last(made.folder / "simclr")], **arguments, output=again)
    assert (again / "report.html").read_bytes() == first
    assert {path.name for path in again.iterdir()} == {"report.html", "report.json"}


BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.mark.skipif(BROWSER is None, reason="neither chromium nor google-chrome is on the PATH")
def test_a_browser_shows_it(made: SimpleNamespace, tmp_path: Path) -> None:
    shot = tmp_path / "shot.png"
    subprocess.run(
        [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1000,9000"),
            f"--screenshot={shot}",
            (made.folder / "report/report.html").as_uri(),
        ],
        check=True,
        capture_output=True,
    )
    with Image.open(shot) as picture:
        pixels = np.array(picture.convert("RGB")).reshape(-1, 3)
    seen = {tuple(color) for color in np.unique(pixels[::7], axis=0).tolist()}
    assert (0xF6, 0xF6, 0xF3) in seen  # beside the page: its style is applied
    assert (0xD9, 0x82, 0x2B) in seen  # only in the figures
    assert (0x0A, 0x8F, 0x78) in seen  # the second spectrum's


def test_other_heads_and_images_without_classes(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for i in range(12):
        pixels = generator.integers(256, size=(20, 24, 3), dtype=np.uint8)
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f"photos/{i}.png")
    save_run(tmp_path / "separate", routing="separate", output_dim=16)
    save_run(tmp_path / "shared", routing="shared")
    settings = {"class_path": "STARTransform", "init_args": {"gaussian_blur": 0.0}}
    save_run(tmp_path / "sharp", settings=settings, num_experts=2)
    analyze.main(
        [last(tmp_path / "separate"), last(tmp_path / "shared"), last(tmp_path / "sharp")],
        dataset="folder",
        data_dir=tmp_path / "photos",
        views=4,
        num_workers=0,
        output=tmp_path / "report",
    )
    results = json.loads((tmp_path / "report/report.json").read_text())
    separate, shared, sharp = results["checkpoints"].values()
    assert results["held out"] is False
    assert separate["redundancy"] is None  # of 12 images in 16 dimensions
    assert shared["redundancy"]["images"] == 12
    assert separate["routing weights"] is None
    assert separate["equivariance"]["by chance"]["hit_at_1"] == 0.25
    assert separate["neighbours"]["share of the same class"] is None
    assert "expert 2" in shared["neighbours"]["nearest"]
    assert "expert 0" not in separate["neighbours"]["nearest"]
    assert sharp["routing weights"]["usage by class"] is None
    blur = sharp["routing weights"]["correlation with parameters"]["blur sigma"]
    assert blur == {"invariant": [None, None], "equivariant": [None, None]}
    assert {r2["blur sigma"] for r2 in sharp["parameters"]["R^2"].values()} == {None}
    text = Page((tmp_path / "report/report.html").read_text()).text
    assert "the paper's settings, gaussian_blur 0.0" in text
    assert "The images have no classes" in text
    assert re.search(r"blur sigma\s+\N{EN DASH}\s+\N{EN DASH}\s", text)
    assert "separate is left out: 12 images are not more than its embeddings" in text
    assert "A network pretrained on this data set has seen them" in text


def test_views_do_not_depend_on_the_loader(tmp_path: Path) -> None:
    save_run(tmp_path, num_experts=2)
    trained = open_trained(last(tmp_path))
    images = load_images("digits").test.part(np.arange(3))
    embedded = embed(trained, images, 0)
    state = torch.get_rng_state()
    # Of 100 views each, two images make a batch.
    first, again = (embed_views(trained, images, embedded, 100, 7, workers) for workers in (0, 2))
    assert torch.equal(first.params, again.params)
    torch.testing.assert_close(first.predicted, again.predicted)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(first.params.flatten(0, 1).unique(dim=0)) > 280  # of 8 pixels, crops can coincide
    for i in range(3):
        original = embedded.tasks[i, 1].expand(100, -1)
        with torch.inference_mode():
            expected = trained.head.predict(original, first.params[i])
        torch.testing.assert_close(first.predicted[i], expected)
    other = embed_views(trained, images, embedded, 100, 8, 0)
    assert not torch.equal(first.params, other.params)


def test_roles_and_numbers() -> None:
    assert role_name(None) == "unused"
    assert [role_name(r) for r in (-1, -0.34, -0.33, 0, 0.33, 0.34, 1)] == [
        *("invariant", "invariant", "shared", "shared", "shared"),
        *("equivariant", "equivariant"),
    ]
    assert number(-0.004, 2) == "0.00"
    assert number(-0.006, 2) == "&minus;0.01"
    assert number(None) == "&ndash;"
    assert number(0.5, 2, 0.25) == "0.50<small>chance level 0.25</small>"


def test_names(tmp_path: Path) -> None:
    paths = ["runs/a/checkpoints/last.ckpt", "runs/a/checkpoints/epoch=9.ckpt", "star.pth"]
    assert analyze.name_checkpoints(paths) == ["a", "a, epoch=9", "star"]
    alike = ["x/a/checkpoints/last.ckpt", "y/a/checkpoints/last.ckpt"]
    assert analyze.name_checkpoints(alike) == alike

    for folder in ("b", "a", "empty"):
        (tmp_path / folder).mkdir()
    for i, folder in enumerate("aab"):
        Image.new("RGB", (4, 4)).save(tmp_path / folder / f"{i}.png")
    assert class_names("folder", tmp_path, 2) == ["a", "b"]
    assert class_names("fashion-mnist", None, 10)[9] == "Ankle boot"
    assert class_names("digits", None, 3) == ["0", "1", "2"]
    assert class_names("stl10", tmp_path, 2) == ["0", "1"]
    for part in ("train/one", "train/two", "val/one"):
        (tmp_path / "split" / part).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "split" / part / "0.png")
    assert class_names("folder", tmp_path / "split", 2) == ["one", "two"]
    (tmp_path / "train_alone/train/tabby").mkdir(parents=True)
    assert class_names("imagenet100", tmp_path / "train_alone", 1) == ["tabby"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": 1}, "expected at least 2, 5 and 6, got 1, 500 and 10000"),
        ({"view_images": 4}, "expected at least 2, 5 and 6"),
        ({"max_images": 5}, "expected at least 2, 5 and 6"),
        ({"dataset": "folder"}, "data_dir: expected a folder of images, got None"),
    ],
)
def test_bad_options(options: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        analyze.main(["last.ckpt"], **options, output=tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_bad_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for checkpoints, message in (
        (["absent.ckpt"], "checkpoints: expected files .* got 'absent.ckpt'"),
        (["a.ckpt", "a.ckpt"], "checkpoints: expected each once"),
    ):
        with pytest.raises(ValueError, match=message):
            analyze.main(checkpoints, output=tmp_path / "report")
    monkeypatch.setattr(sys, "argv", ["analyze.py", "--view-images=9"])
    with pytest.raises(SystemExit, match="2"):
        run(analyze.main, several="checkpoints")
    assert "required: checkpoints" in capsys.readouterr().err
