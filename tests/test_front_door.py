"""What `import star_head` offers, and where it sends those who look for more."""

import importlib
import subprocess
import sys
from typing import get_args

import pytest

import star_head
from star_head.augmentation import STATISTICS
from star_head.equivariance import StatisticsLike

ELSEWHERE = [
    ("STARTransform", "star_head.adapters.lightly", "lightly"),
    ("STARViewTransform", "star_head.adapters.lightly", "lightly"),
    ("STARMultiViewTransform", "star_head.adapters.lightly", "lightly"),
    ("STL10_NORMALIZE", "star_head.adapters.lightly", "lightly"),
    ("equivariant_loss", "star_head.adapters.lightly", "lightly"),
    ("BatchTransform", "star_head.adapters.device", "lightly"),
    ("RecordingTransform", "star_head.adapters.device", "lightly"),
    ("collate", "star_head.adapters.device", "lightly"),
    ("STARModule", "star_head.adapters.lightning", "lightning"),
    ("create_backbone", "star_head.adapters.timm", "timm"),
    ("export_encoder", "star_head.adapters.timm", "timm"),
    ("load_encoder", "star_head.adapters.timm", "timm"),
    ("RecordedTransform", "star_head.adapters.torchvision", "torchvision"),
    ("RecordedTransform", "star_head.adapters.kornia", "kornia"),
    ("register", "star_head.adapters.torchvision", "torchvision"),
    ("register", "star_head.adapters.kornia", "kornia"),
    ("image_sizes", "star_head.adapters.image_sizes", "lightly"),
    ("expert_width", "star_head.adapters.lightly", "lightly"),
    ("load_official_checkpoint", "star_head.checkpoint", None),
    ("mean_canonical_correlation", "star_head.metrics", None),
    ("SoftRouter", "star_head.routing", None),
]


@pytest.mark.parametrize(("name", "module", "extra"), ELSEWHERE)
def test_a_name_of_another_module_says_where_it_lives(
    name: str, module: str, extra: str | None
) -> None:
    with pytest.raises(ImportError) as info:
        exec(f"from star_head import {name}", {})
    message = str(info.value)
    assert f"from {module} import {name}" in message
    assert (f'pip install "star-head[{extra}]"' in message) if extra else "pip" not in message
    with pytest.raises(AttributeError, match=module):
        getattr(star_head, name)
    # As tools that look for names expect it, the command line's parser among them.
    assert not hasattr(star_head, name)
    assert getattr(star_head, name, None) is None
    assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize("name", ["lightly", "timm", "lightning", "device"])
def test_an_adapters_name_says_so(name: str) -> None:
    with pytest.raises(ImportError, match=f"import star_head.adapters.{name}; it needs pip"):
        exec(f"from star_head import {name}", {})


def test_an_adapters_library_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stable_pretraining", None)
    monkeypatch.delitem(sys.modules, "star_head.adapters.stable_pretraining", raising=False)
    extra = r'pip install "star-head\[stable-pretraining\]"'
    with pytest.raises(ImportError, match=f"needs stable-pretraining: {extra}"):
        importlib.import_module("star_head.adapters.stable_pretraining")
    with pytest.raises(ImportError, match=extra):
        exec("from star_head import RecordedMultiViewTransform", {})


@pytest.mark.parametrize("name", ["NoSuchThing", "InfoNCE", "_Movable", "__wrapped__", "torch"])
def test_other_names_are_missing_as_of_any_module(name: str) -> None:
    assert not hasattr(star_head, name)
    with pytest.raises(ImportError, match="cannot import name"):
        exec(f"from star_head import {name}", {})


def test_core_modules_are_there_and_packages_can_be_imported() -> None:
    script = """
import star_head
assert star_head.metrics.canonical_correlations and star_head.checkpoint.load_official_checkpoint
from star_head import adapters, evaluation, metrics
assert set(star_head.__all__) <= set(dir(star_head)) and "metrics" in dir(star_head)
from star_head import *
assert STAR is star_head.STAR
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_names_of_statistics_are_known_to_an_editor() -> None:
    names, *_ = get_args(StatisticsLike)
    assert set(get_args(names)) == STATISTICS.keys()
