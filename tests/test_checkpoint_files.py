"""Files that are no checkpoints: what is said of them, and what never is."""

import datetime
import io
import pickle
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn

from star_head.checkpoint import load_official_checkpoint
from star_head.evaluation.networks import open_encoder
from star_head.evaluation.trained import open_trained
from star_head.examples.training.checkpoints import SafeCheckpointIO

Write = Callable[[Path], Any]


def saved(value: Any) -> Write:
    return lambda path: torch.save(value, path)


def pickled(value: Any) -> Write:
    return lambda path: path.write_bytes(pickle.dumps(value))


def raw(content: bytes) -> Write:
    return lambda path: path.write_bytes(content)


def half_of_a_checkpoint() -> bytes:
    file = io.BytesIO()
    torch.save({"state_dict": {"weight": torch.zeros(300)}}, file)
    return file.getvalue()[: file.tell() // 2]


def archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("notes.txt", "no weights")


FILES: dict[str, tuple[Write, str]] = {
    "jpeg": (lambda path: Image.new("RGB", (9, 9)).save(path, "JPEG"), "no file that torch.save"),
    "png": (lambda path: Image.new("RGB", (9, 9)).save(path, "PNG"), "no file that torch.save"),
    "text": (raw(b"hello world\n" * 4), "no file that torch.save"),
    "yaml": (raw(b"trainer:\n  max_epochs: 3\n"), "no file that torch.save"),
    "json": (raw(b'{"architecture": "resnet18"}'), "no file that torch.save"),
    "page": (raw(b"<!doctype html><html>Not found</html>"), "no file that torch.save"),
    "safetensors": (raw(safetensors.torch.save({"a": torch.ones(3)})), "no file that torch.save"),
    "empty": (raw(b""), "it is empty"),
    "half": (raw(half_of_a_checkpoint()), "truncated or damaged"),
    "zip": (archive, "truncated or damaged"),
    "torn pickle": (raw(pickle.dumps([1.5] * 50)[:40]), "a pickle of .*, or a damaged one"),
    "module": (saved(nn.Linear(2, 2)), r"more than tensors .*\(torch.nn.modules.linear.Linear\)"),
    "object": (saved({"a": datetime.timedelta(1)}), r"more than tensors .*\(datetime.timedelta\)"),
    "numpy": (saved({"a": np.float64(3)}), r"more than tensors and plain values \(numpy"),
    "pickle": (pickled({"a": datetime.timedelta(1)}), "a pickle of more than tensors"),
}
DOORS: dict[str, Callable[[Path], Any]] = {
    "load_official_checkpoint": load_official_checkpoint,
    "open_encoder": lambda path: open_encoder(str(path)),
    "open_trained": lambda path: open_trained(str(path)),
    "resuming": SafeCheckpointIO().load_checkpoint,
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("door", DOORS)
def test_what_is_no_checkpoint(
    kind: str, door: str, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    write, reason = FILES[kind]
    path = tmp_path / "star.pth"
    write(path)
    with pytest.raises(ValueError, match=f"star.pth is no readable checkpoint: .*{reason}") as info:
        DOORS[door](path)
    shown = "".join(traceback.format_exception(info.value))
    assert not any(word in shown for word in ("weights_only", "trust", "PyTorch 2.6"))
    assert "weights_only" not in "".join(str(warning.message) for warning in recwarn)


@pytest.mark.parametrize("door", ["load_official_checkpoint", "resuming"])
def test_a_folder_and_nothing_at_all(door: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no readable checkpoint: it is a folder"):
        DOORS[door](tmp_path)
    for wrong in (None, io.BytesIO(b"PK"), 3):
        with pytest.raises(TypeError, match="expected the path of a file, got"):
            DOORS[door](wrong)
    with pytest.raises(FileNotFoundError):
        DOORS[door](tmp_path / "absent.pth")
