"""What a run leaves on the disk: whether each file opens, and how two runs' checkpoints differ."""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from torch import Tensor

from star_head.examples.training.checkpoints import load_training_checkpoint


def files_that_do_not_open(folder: Path) -> list[str]:
    """Which of a run's files are not whole, and why; hidden ones are under no final name."""
    bad = []
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or _is_hidden(path, folder):
            continue
        try:
            _open(path)
        except Exception as error:  # whatever its reader raises, the file does not open
            bad.append(f"{path.relative_to(folder)}: {type(error).__name__}: {error}")
    return bad


def left_behind(folder: Path) -> list[str]:
    """Hidden files, which a killed process leaves where it was writing."""
    paths = sorted(folder.rglob("*"))
    return [str(p.relative_to(folder)) for p in paths if p.is_file() and _is_hidden(p, folder)]


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _open(path: Path) -> None:
    if path.suffix == ".ckpt":
        load_training_checkpoint(path)
    elif path.suffix == ".csv":
        _check_rows(path)
    elif path.suffix == ".yaml":
        yaml.safe_load(path.read_text())
    elif path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix == ".safetensors":
        load_file(path)
    elif path.suffix == ".md":
        if not path.read_text().endswith("```\n"):  # a model card ends with how to open it
            raise ValueError("the model card is cut off")
    elif "tfevents" in path.name:
        list(EventFileLoader(str(path)).Load())
    else:
        raise ValueError("not a file that a run writes")


def _check_rows(path: Path) -> None:
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            if None in row or None in row.values():
                raise ValueError(f"a row has not as many cells as the first: {row}")
            int(row["step"])


def checkpoint_differences(first: Path, second: Path) -> list[str]:
    """Where two checkpoints differ in a bit, but for the names of folders in them."""
    one, two = (load_training_checkpoint(path) for path in (first, second))
    for checkpoint in (one, two):
        del checkpoint["callbacks"]
    return list(_differences(one, two, "checkpoint"))


def count_tensors(value: Any) -> int:
    """Tensors in a checkpoint, or in a part of one."""
    if isinstance(value, Tensor):
        return 1
    if isinstance(value, Mapping):
        return sum(count_tensors(part) for part in value.values())
    return sum(count_tensors(part) for part in value) if isinstance(value, list | tuple) else 0


def _differences(one: Any, two: Any, name: str) -> Iterator[str]:
    if type(one) is not type(two):
        yield f"{name}: {type(one).__name__}, {type(two).__name__}"
    elif isinstance(one, Tensor):
        if one.dtype != two.dtype or not torch.equal(one, two):
            yield f"{name}: tensors differ"
    elif isinstance(one, Mapping):
        if one.keys() != two.keys():
            yield f"{name}: has {sorted(map(str, one))}, {sorted(map(str, two))}"
        for key in one.keys() & two.keys():
            yield from _differences(one[key], two[key], f"{name}.{key}")
    elif isinstance(one, list | tuple):
        if len(one) != len(two):
            yield f"{name}: {len(one)} items, {len(two)}"
        for index, parts in enumerate(zip(one, two, strict=False)):
            yield from _differences(*parts, f"{name}.{index}")
    elif one != two:
        yield f"{name}: {one!r}, {two!r}"
