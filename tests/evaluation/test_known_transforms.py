"""Transforms are made again from settings, of known classes only, and nothing else is imported."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from lightly.transforms import BYOLTransform, BYOLView1Transform, BYOLView2Transform
from PIL import Image
from saved_runs import last, save_run
from torchvision import transforms as first
from torchvision.transforms import v2

from star_head import estimate_statistics
from star_head._seeds import all_seeded
from star_head.adapters._recorded import own
from star_head.adapters._recorded import v1 as known_v1
from star_head.adapters._recorded import v2 as known_v2
from star_head.adapters.torchvision import RecordedTransform
from star_head.evaluation import known_transforms, open_trained
from star_head.evaluation.known_transforms import build_transform, why_not_rebuilt

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
VIEW = {"input_size": 16, "rr_prob": 0.5, "rr_degrees": 30.0}
BYOL = f"""
class_path: lightly.transforms.BYOLTransform
init_args:
  view_1_transform:
    class_path: lightly.transforms.byol_transform.BYOLView1Transform
    init_args: &view {VIEW}
  view_2_transform:
    class_path: lightly.transforms.BYOLView2Transform
    init_args: *view
"""
V2 = """
class_path: star_head.adapters.torchvision.RecordedTransform
init_args:
  copies: 3
  unrecorded: [torchvision.transforms.v2.ElasticTransform]
  transform:
  - class_path: torchvision.transforms.v2.Compose
    init_args:
      transforms:
      - {class_path: torchvision.transforms.v2.RandomResizedCrop, init_args: {size: 16}}
      - class_path: torchvision.transforms.v2.RandomApply
        init_args:
          p: 0.5
          transforms:
          - class_path: torchvision.transforms.v2.ColorJitter
            init_args: {brightness: [0.5, 1.2], hue: 0.1}
  - {class_path: torchvision.transforms.v2.RandomRotation, init_args: {degrees: 30}}
  - {class_path: torchvision.transforms.v2.ElasticTransform, init_args: {sigma: 1.0}}
  - class_path: torchvision.transforms.v2.ToImage
  - class_path: torchvision.transforms.v2.ToDtype
    init_args: {dtype: torch.float32, scale: true}
"""
V1 = """
class_path: torchvision.transforms.Compose
init_args:
  transforms:
  - class_path: torchvision.transforms.transforms.RandomResizedCrop
    init_args: {size: 16, interpolation: BICUBIC}
  - class_path: torchvision.transforms.RandomAffine
    init_args: {degrees: [-20, 20], translate: [0.1, 0.2]}
  - class_path: torchvision.transforms.ToTensor
"""


def in_python() -> dict[str, RecordedTransform]:
    """The same as the texts, by hand."""
    jitter = v2.RandomApply([v2.ColorJitter(brightness=(0.5, 1.2), hue=0.1)], p=0.5)
    steps = [
        v2.Compose([v2.RandomResizedCrop(16), jitter]),
        v2.RandomRotation(30),
        v2.ElasticTransform(sigma=1.0),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
    ]
    crop = first.RandomResizedCrop(16, interpolation=first.InterpolationMode.BICUBIC)
    affine = first.RandomAffine((-20, 20), translate=(0.1, 0.2))
    byol = BYOLTransform(BYOLView1Transform(**VIEW), BYOLView2Transform(**VIEW))
    return {
        BYOL: RecordedTransform(byol),
        V2: RecordedTransform(steps, 3, unrecorded=[v2.ElasticTransform]),
        V1: RecordedTransform(first.Compose([crop, affine, first.ToTensor()])),
    }


@pytest.mark.parametrize("text", [BYOL, V2, V1], ids=["BYOL", "v2", "v1"])
def test_settings_give_the_transform(text: str) -> None:
    expected = in_python()[text]
    settings = yaml.safe_load(text)
    found = build_transform(settings)
    assert found.parameters == expected.parameters
    image = Image.fromarray(np.random.default_rng(0).integers(256, size=(20, 24, 3), dtype="uint8"))
    for seed in range(5):
        with all_seeded(seed):
            theirs = expected(image)
        with all_seeded(seed):
            ours = found(image)
        assert all(map(torch.equal, ours.views, theirs.views))
        assert torch.equal(ours.original, theirs.original)
    assert why_not_rebuilt(expected, settings) is None


def test_every_operation_that_is_known_by_its_numbers_is_known_by_its_name() -> None:
    names = known_transforms.known_transforms()
    for package, module, known in (
        ("torchvision.transforms", first, known_v1.KNOWN),
        ("torchvision.transforms.v2", v2, known_v2.KNOWN),
    ):
        for name in known:
            if hasattr(module, name):  # not all are in every version
                assert names[f"{package}.{name}"] is getattr(module, name)
    own_names = {name.rpartition(".")[2] for name in names if name.startswith("lightly.")}
    assert set(own.KNOWN) <= own_names
    assert all("Lambda" not in name and isinstance(cls, type) for name, cls in names.items())


CROP = {"class_path": "torchvision.transforms.v2.RandomResizedCrop", "init_args": {"size": 16}}


def among_others(part: object) -> dict:
    """Deep within what is known."""
    compose = "torchvision.transforms.v2.Compose"
    inner = {"class_path": compose, "init_args": {"transforms": [CROP, part]}}
    return {"class_path": compose, "init_args": {"transforms": [inner]}}


HOSTILE = {
    "a function of the system": {"class_path": "os.system", "init_args": {"command": "true"}},
    "its name alone": "os.system",
    "a class of a module that is not there yet": {"class_path": "this.Zen"},
    "of builtins": {"class_path": "builtins.eval", "init_args": {"source": "1"}},
    "a lambda": "lambda image: image",
    "a lambda as a class": {"class_path": "lambda image: image"},
    "a function of torchvision": {"class_path": "torchvision.transforms.v2.functional.rotate"},
    "a data set of torchvision": {"class_path": "torchvision.datasets.ImageFolder"},
    "a network of torchvision": {"class_path": "torchvision.models.ResNet"},
    "an enumeration": {"class_path": "torchvision.transforms.InterpolationMode"},
    "a private class": {"class_path": "torchvision.transforms.v2._utils._FillType"},
    "what takes a function": {
        "class_path": "torchvision.transforms.v2.Lambda",
        "init_args": {"lambd": "os.system"},
    },
    "through a module": {"class_path": "lightly.transforms.torchvision_v2_compatibility.os.system"},
    "a module": {"class_path": "torchvision.transforms.v2"},
    "no name": {"class_path": ["os", "system"]},
    "a number": 3,
    "nothing": {"class_path": None},
}


@pytest.mark.parametrize("what", HOSTILE)
def test_no_other_class_is_made_or_imported(what: str) -> None:
    before = set(sys.modules)
    given = HOSTILE[what]
    recorded = "star_head.adapters.torchvision.RecordedTransform"
    for settings in (
        given,
        among_others(given),
        {"class_path": recorded, "init_args": {"transform": given}},
        {"class_path": recorded, "init_args": {"transform": CROP, "original": given}},
        {"class_path": recorded, "init_args": {"transform": CROP, "unrecorded": [given]}},
    ):
        if settings is not given and isinstance(given, str | int) and "original" in str(settings):
            continue  # a plain value that nothing calls before an image comes
        with pytest.raises((ValueError, TypeError)) as refused:
            build_transform(settings)
        assert "transform" in str(refused.value)
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{class_path: torchvision.transforms.v2.ToImage, dict_kwargs: {a: 1}}", "dict_kwargs"),
        ("{class_path: torchvision.transforms.v2.Resize, init_args: {sise: 3}}", "argument sise"),
        ("{class_path: torchvision.transforms.v2.Resize, init_args: [3]}", "init_args"),
        ("{class_path: torchvision.transforms.v2.CenterCrop, init_args: {size: 8}}", "random"),
        ("&a [*a]", "recursion"),
    ],
)
def test_what_is_wrong_with_settings_is_named(text: str, message: str) -> None:
    with pytest.raises((ValueError, TypeError, RecursionError), match=message):
        build_transform(yaml.safe_load(text))


def test_lists_of_lists_of_lists_end() -> None:
    levels = ["&a [0, 0, 0, 0, 0, 0, 0, 0]"]
    for old, new in itertools.pairwise("abcdefghi"):
        levels.append(f"&{new} [{', '.join(['*' + old] * 8)}]")
    settings = yaml.safe_load("\n".join(f"- {level}" for level in levels))
    with pytest.raises(ValueError, match="at most 10,000 values"):
        build_transform(settings)


def test_a_run_is_opened_with_its_own_transform(tmp_path: Path) -> None:
    expected = in_python()[BYOL]
    statistics = estimate_statistics(expected, (8, 8), num_samples=50)
    star = save_run(
        tmp_path,
        settings=yaml.safe_load(BYOL),
        normalize=IMAGENET,
        num_experts=2,
        statistics=statistics,
    )
    trained = open_trained(last(tmp_path))
    assert [p.label for p in trained.transform.parameters][5] == "rotation"
    assert trained.settings["views"] == "16 pixels, BYOLTransform, 13 parameters recorded"
    image = Image.new("L", (9, 8), 77)
    with all_seeded(0):
        ours = trained.transform(image)
    with all_seeded(0):
        theirs = expected(image.convert("RGB"))
    assert all(map(torch.equal, ours.views, theirs.views))
    z = torch.randn(3, 8)
    found = trained.head.predict(z, torch.stack([ours.params[0]] * 3))
    torch.testing.assert_close(found, star.head.predict(z, torch.stack([ours.params[0]] * 3)))

    # The transform may be given, as it must be where the file names a class of the user's own.
    config = tmp_path / "config.yaml"
    config.write_text(config.read_text().replace("BYOLTransform", "MyTransform"))
    with pytest.raises(ValueError, match=r"MyTransform is none of .* pass open_trained\(check"):
        open_trained(last(tmp_path))
    assert open_trained(last(tmp_path), transform=expected).transform is expected
    with pytest.raises(ValueError, match="whose head takes 13 parameters, got one that records 7"):
        open_trained(last(tmp_path), transform=in_python()[V1])
    with pytest.raises(TypeError, match="transform: expected a STARTransform or a Recorded"):
        open_trained(last(tmp_path), transform=BYOLTransform())
    config.unlink()
    with pytest.raises(ValueError, match="whose head takes 13 parameters, got one that records 11"):
        open_trained(last(tmp_path))


def test_views_that_are_not_the_encoders_are_refused(tmp_path: Path) -> None:
    save_run(tmp_path, settings=yaml.safe_load(BYOL), routing="invariant")
    with pytest.raises(ValueError, match=r"trained on views of 16 pixels, normalised by .*0\.5"):
        open_trained(last(tmp_path))
