"""The quickstart as a user runs it, small."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from running import run_here

from star_head.examples import quickstart


def results(folder: Path, **arguments: object) -> dict:
    quickstart.main(**arguments, output=folder / "out")
    return json.loads((folder / "out/metrics.json").read_text())


@pytest.mark.slow
def test_digits_learn(tmp_path: Path) -> None:
    arguments = ["--output", "out", "--epochs", "8"]
    done = run_here("examples/quickstart.py", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "out/metrics.json").read_text())
    # Measured in errors: training takes away at least a third of the untrained network's.
    assert 1 - found["1-NN accuracy after"] < 0.67 * (1 - found["1-NN accuracy before"])
    assert found["1-NN accuracy after"] > 0.9
    assert 0 < found["mean canonical correlation"] < 1
    assert np.sum(found["expert usage"], axis=1) == pytest.approx([1, 1], abs=1e-3)
    for name in ("views.png", "routing.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert min(picture.size) > 300
    encoder = timm.create_model(f"local-dir:{tmp_path}/out/encoder", pretrained=True).eval()
    images = encoder.pretrained_cfg
    assert images["input_size"] == (3, 32, 32)
    assert (images["mean"][0], images["interpolation"], images["crop_pct"]) == (0.43, "bilinear", 1)
    assert "| method | STAR, routing" in (tmp_path / "out/encoder/README.md").read_text()
    assert encoder(torch.zeros(2, 3, 32, 32)).shape == (2, encoder.num_features)
    for words in (
        "1-NN accuracy before",
        "expert usage, equivariant",
        "mean canonical correlation",
    ):
        assert words in done.stdout
    assert "loss" in done.stderr
    assert "img/s" in done.stderr


def test_invariant_routing_is_simclr(tmp_path: Path) -> None:
    found = results(tmp_path, routing="invariant", epochs=1, max_images=64, batch_size=32)
    assert found["expert usage"] == [[1.0]]
    assert "mean canonical correlation" not in found
    assert not (tmp_path / "out/routing.png").exists()
    assert (tmp_path / "out/views.png").exists()


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


@pytest.mark.slow
def test_fashion_mnist_reads_the_original_files(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    generator = np.random.default_rng(0)
    for part, n in (("train", 200), ("t10k", 40)):
        images = generator.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        write_idx(data / f"{part}-images-idx3-ubyte.gz", images)
        write_idx(data / f"{part}-labels-idx1-ubyte.gz", np.arange(n, dtype=np.uint8) % 10)
    settings = {"dataset": "fashion-mnist", "data_dir": data, "routing": "shared"}
    found = results(tmp_path, **settings, epochs=1, batch_size=100)
    assert found["images"] == 200
    assert found["expert usage"] == [[0.5, 0, 0.5], [0, 0.5, 0.5]]


def make_folder(root: Path, suffix: str = ".png") -> Path:
    generator = np.random.default_rng(0)
    for label in ("cats", "dogs"):
        (root / label).mkdir(parents=True)
        for i in range(90):
            pixels = generator.integers(0, 256, (40 + i % 7, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / label / f"{i}{suffix}")
    return root


def test_folder_of_class_folders(tmp_path: Path) -> None:
    data = make_folder(tmp_path / "photos")
    settings = {"dataset": "folder", "data_dir": data, "backbone": "mobilenetv3_small_050"}
    found = results(tmp_path, **settings, epochs=1, max_images=140, batch_size=70)
    assert found["images"] == 140


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset": "folder", "data_dir": Path("nowhere")}, "data_dir: expected .* got nowhere"),
        ({"dataset": "folder", "data_dir": Path("flat")}, "expected class folders in flat"),
        ({"backbone": "resnet19"}, "name: timm .* has no model 'resnet19'"),
        ({"batch_size": 5000}, "batch_size: expected at most the 1437 images, got 5000"),
    ],
)
def test_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, object], message: str
) -> None:
    (tmp_path / "flat").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "flat/only.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        quickstart.main(**arguments, output=Path("out"))
