"""The cache of features: what it knows, what it writes, what it says when that fails."""

import errno
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from star_head._whole_files import write_json
from star_head.evaluation.features import EvaluationTransform, extract_features
from star_head.evaluation.networks import Encoder
from star_head.examples.data import image_files
from star_head.examples.data.image_data import Images, load_images

NORMALIZE = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}


def make_encoder() -> Encoder:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(1))
    return Encoder(backbone, 16, NORMALIZE)


@pytest.fixture(scope="module")
def images() -> Images:
    test = load_images("digits").test
    assert test is not None
    return test


class Pooled(nn.Module):
    """Its pooling is in no weight and in no layer's name."""

    def __init__(self, largest: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 6, 3)
        self.largest = largest

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.conv(x).flatten(2)
        return maps.amax(dim=2) if self.largest else maps.mean(dim=2)


def hooked() -> nn.Module:
    backbone = Pooled(largest=False)
    backbone.register_forward_hook(lambda module, inputs, output: 2 * output)
    return backbone


def changed() -> nn.Module:
    backbone = Pooled(largest=False)
    backbone.conv.forward = lambda x: -nn.Conv2d.forward(backbone.conv, x)
    return backbone


@pytest.mark.parametrize("alone", [False, True])
def test_the_cache_knows_what_weights_and_layers_do_not_say(
    alone: bool, tmp_path: Path, images: Images
) -> None:
    data_set = images.with_transform(EvaluationTransform(16, NORMALIZE)) if alone else images
    backbones = (Pooled(False), Pooled(True), hooked(), changed(), Pooled(False))
    found = [
        extract_features(
            backbone if alone else Encoder(backbone, 16, NORMALIZE),
            data_set,
            cache=tmp_path,
            batch_size=100,
        ).features
        for backbone in backbones
    ]
    assert len(list(tmp_path.iterdir())) == 4
    np.testing.assert_array_equal(found[0], found[4])
    np.testing.assert_allclose(found[2], 2 * found[0], rtol=1e-6)
    np.testing.assert_allclose(found[3], -found[0], rtol=1e-6)
    assert not np.allclose(found[1], found[0])


@pytest.mark.parametrize("half", [False, True])
def test_transposed_features_are_written_as_they_are(
    half: bool, tmp_path: Path, images: Images
) -> None:
    class Transposed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.weight = nn.Parameter(torch.randn(6, 3 * 16 * 16))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (self.weight @ x.flatten(1).T).T  # (B, 6), stored column after column

    encoder = Encoder(Transposed(), 16, NORMALIZE)
    for batch_size in (100, len(images)):
        found = extract_features(
            encoder, images, cache=tmp_path / str(batch_size), batch_size=batch_size, half=half
        ).features
        transform = EvaluationTransform(16, NORMALIZE)
        with torch.no_grad():
            batch = torch.stack([transform(images[i][0]) for i in range(len(images))])
            expected = encoder.backbone(batch).numpy()
        np.testing.assert_allclose(found, expected, rtol=2e-3 if half else 1e-4, atol=0.1)


def test_an_error_while_reading_is_not_said_to_be_one_while_writing(
    tmp_path: Path, images: Images
) -> None:
    class Unreadable(Images):
        def with_transform(self, transform: object) -> Images:
            return self

        def __getitem__(self, index: int) -> tuple[object, int]:
            raise OSError(errno.EMFILE, "Too many open files", "images/7.png")

    broken = Unreadable(images.source, images.indices, images.labels)
    with pytest.raises(OSError, match="images/7.png") as caught:
        extract_features(make_encoder(), broken, cache=tmp_path, num_workers=0)
    assert "could not be written" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_results_are_json_that_any_reader_takes(tmp_path: Path) -> None:
    results = {"a": float("nan"), "b": [1.5, float("inf")], "c": {"d": (-float("inf"), 2)}}
    write_json(tmp_path / "results.json", results)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    text = (tmp_path / "results.json").read_text()
    read = json.loads(text, parse_constant=refuse)
    assert read == {"a": None, "b": [1.5, None], "c": {"d": [None, 2]}}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "results.json", results, allow_nan=False)
    assert (tmp_path / "results.json").read_text() == text


def test_the_state_of_files_is_looked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(8):
        Image.new("RGB", (20, 20), (i, 0, 0)).save(tmp_path / f"{i}.png")
    asked: list[int] = []
    plain = image_files.fingerprint

    def counted(paths: list[Path]) -> str:
        asked.append(len(paths))
        return plain(paths)

    monkeypatch.setattr(image_files, "fingerprint", counted)
    source = image_files.ImageFiles(sorted(tmp_path.glob("*.png")))
    whole = Images(source, np.arange(8), np.zeros(8, np.int64))
    for part in (np.arange(4), np.arange(4, 8)):
        extract_features(make_encoder(), whole.part(part), cache=tmp_path / "cache", num_workers=0)
    assert asked == [8]
