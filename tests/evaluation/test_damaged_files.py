"""Whatever is cut from a file of weights or changed in it, the error is the documented one."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from saved_runs import last, save_run
from test_checkpoint import Authors

from star_head.adapters.lightly import STARTransform
from star_head.adapters.timm import create_backbone, export_encoder, load_encoder
from star_head.checkpoint import load_official_checkpoint
from star_head.evaluation.networks import open_encoder
from star_head.evaluation.trained import open_trained


def variations(data: bytes, count: int) -> Iterator[bytes]:
    """Cut, flipped, overwritten and lengthened, near both ends above all, where structure is."""
    draw = random.Random(0)
    for index in range(count):
        ends = draw.choice([min(len(data), 3000), len(data)])
        place = draw.randrange(ends)
        place = place if index % 2 else len(data) - 1 - place
        changed = bytearray(data)
        kind = index % 5
        if kind == 0:
            changed = changed[:place]
        elif kind == 1:
            changed[place] ^= 1 << draw.randrange(8)
        elif kind == 2:
            changed[place : place + 8] = bytes(draw.randrange(256) for _ in range(8))
        elif kind == 3:
            del changed[place : place + draw.randrange(1, 64)]
        else:
            changed[place:place] = bytes(draw.randrange(1, 64))
        yield bytes(changed)


def check(path: Path, doors: dict[str, Callable[[], Any]], count: int) -> int:
    """Try each variation at each door; how many of them are refused."""
    data, said = path.read_bytes(), []
    for number, changed in enumerate(variations(data, count)):
        path.write_bytes(changed)
        for name, door in doors.items():
            try:
                door()
            except ValueError as error:
                said.append(str(error))
            except Exception as error:
                raise AssertionError(f"variation {number} of {path.name} at {name}") from error
    path.write_bytes(data)
    for door in doors.values():
        door()
    for message in said:
        assert str(path) in message or str(path.parent) in message
        assert "weights_only" not in message
    return len(said)


def test_training_checkpoints(tmp_path: Path) -> None:
    save_run(tmp_path, num_experts=2)
    path = last(tmp_path)
    doors = {"open_encoder": lambda: open_encoder(path), "open_trained": lambda: open_trained(path)}
    assert check(Path(path), doors, 50) > 50


def test_authors_files(tmp_path: Path) -> None:
    path = Authors("resnet18").save(tmp_path / "checkpoint.pth", 1)
    doors = {"load_official_checkpoint": lambda: load_official_checkpoint(path)}
    assert check(path, doors, 25) > 10


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    return export_encoder(create_backbone("test_resnet"), tmp_path, transform=STARTransform(32))


@pytest.mark.parametrize(("name", "count"), [("model.safetensors", 60), ("config.json", 80)])
def test_exports(name: str, count: int, exported: Path) -> None:
    doors = {"load_encoder": lambda: load_encoder(exported)}
    assert check(exported / name, doors, count) > count / 4


WRONG: list[Any] = [None, [], {}, 7, "x", [{}], {"x": None}, True, -1, 1e400]


def test_configurations_of_other_types(exported: Path) -> None:
    """Every value in a configuration replaced by one of another kind, with or without the error."""
    path = exported / "config.json"
    config = json.loads(path.read_text())
    places = [(key,) for key in config] + [
        (key, inside) for key in ("pretrained_cfg", "model_args") for inside in config[key]
    ]
    said = []
    values: tuple[Any, ...] = (None, {}, "x")
    for place in places:
        for value in values:
            changed = json.loads(json.dumps(config))
            inside = changed
            for key in place[:-1]:
                inside = inside[key]
            inside[place[-1]] = value
            path.write_text(json.dumps(changed))
            try:
                open_encoder(exported)
            except ValueError as error:
                said.append(str(error))
    assert len(said) > 20
    for message in said:
        assert str(exported) in message
    for value in WRONG:
        path.write_text(json.dumps(value))
        with pytest.raises(ValueError, match=f"expected {exported} to hold"):
            load_encoder(exported)
