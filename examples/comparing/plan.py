"""What a comparison is of: the data, the settings, and where its parts are kept."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args

import numpy as np
import yaml

from star_head._whole_files import replacing, write_json
from star_head.adapters._images import Color
from star_head.adapters._pixel_range import PixelRange
from star_head.adapters._settings import differing_settings
from star_head.examples.comparing.measures import SHOTS, WAYS, Data
from star_head.examples.comparing.methods import UNTRAINED, find_method
from star_head.examples.configs import find_config
from star_head.examples.data.image_data import DatasetName, load_images
from star_head.examples.data.splits import Folders
from star_head.examples.data.transfer_data import TransferData, TransferName, load_transfer
from star_head.examples.training.monitors import MONITORS

_SETTINGS, _CONFIG = "settings.json", "config.yaml"

# Options of both commands: what is measured must be what is trained on.
_OF_DATA = ("dataset", "data_dir", "pixel_range", "background", "folders")
# What a comparison decides for all runs, and what is given to it instead.
_INSTEAD = {
    **{f"data.{name}": f"--{name}" for name in _OF_DATA},
    "data.class_names": "a folder of links to these classes, since all in data_dir are measured",
    "model.routing": "--methods",
    "model.task": "--methods",
    "monitors": "no monitors, since all is measured when a run is over",
    "trainer.default_root_dir": "--output",
}


class Plan(NamedTuple):
    """What all runs of a comparison have in common.

    Attributes:
        dataset: What is trained on.
        data_dir: Where it is.
        transfer: Further data sets to measure on: names, or folders of class folders.
        transfer_dir: Where those with names are.
        pixel_range: Of ``"folder"``, as `star-head pretrain` takes it.
        background: Likewise.
        folders: Likewise.
        config: What the YAML file of `star-head pretrain` says, if there is one.
        arguments: Further arguments of `star-head pretrain`.
    """

    dataset: DatasetName
    data_dir: Path | None = None
    transfer: tuple[str, ...] = ()
    transfer_dir: Path | None = None
    pixel_range: PixelRange | None = None
    background: Color | None = None
    folders: Folders | None = None
    config: dict[str, Any] | None = None
    arguments: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The data set's name in tables."""
        if self.dataset == "folder" and self.data_dir is not None:
            return self.data_dir.resolve().name
        return self.dataset

    def load(self) -> Data:
        """Open all images.

        Raises:
            ValueError: If a data set is not there, or has no labels to measure transfer by.
        """
        options: Any = {
            "pixel_range": self.pixel_range,
            "background": self.background,
            "folders": self.folders,
        }
        images = load_images(self.dataset, self.data_dir, **options)
        own = None
        if images.train is not None and images.test is not None:
            # ImageNet100's folder, not the one around it, is what is trained on.
            name: TransferName = "folder" if self.dataset == "imagenet100" else self.dataset
            own = load_transfer(name, self.data_dir, **options)
        others: dict[str, TransferData] = {}
        for source in self.transfer:
            by_name = source in get_args(TransferName)
            place = self.transfer_dir if by_name else Path(source).expanduser()
            title = source if place is None or by_name else place.resolve().name
            if title in others:
                raise ValueError(f"transfer: expected names that differ, got {title!r} twice")
            try:
                kind = cast(TransferName, source) if by_name else "folder"
                others[title] = load_transfer(kind, place)
            except ValueError as error:
                raise ValueError(f"transfer: {source}: {error}") from error
        named = {} if own is None else {"": own}
        enough = {
            name: data
            for name, data in {**named, **others}.items()
            if int((np.bincount(data.test.labels) > SHOTS).sum()) >= WAYS
        }
        return Data(images, own, others, tuple(enough))

    def describe(self) -> list[str]:
        """What is measured on, and what is left out for want of labels or images.

        Raises:
            ValueError: As of :meth:`load`.
        """
        data = self.load()
        lines = [f"{self.title}: {len(data.images.pretrain):,} images to train on"]
        if data.own is None:
            lines.append(f"left out: accuracies on {self.title}, whose images have no classes")
        named = {} if data.own is None else {"": data.own}
        for name, part in {**named, **data.others}.items():
            lines.append(
                f"{name or self.title}: {len(part.train):,} labelled images, {len(part.test):,} "
                f"held out, {part.num_classes} classes"
            )
            if name not in data.few_shot:
                lines.append(
                    f"left out: {WAYS}-way {SHOTS}-shot on {name or self.title}: expected at least "
                    f"{WAYS} classes of more than {SHOTS} held-out images"
                )
        return lines

    def shown(self) -> dict[str, str]:
        """What a reader is told of the settings."""
        config = "" if self.config is None else yaml.safe_dump(self.config, default_flow_style=True)
        return {
            "data set": self.dataset,
            "its folder": str(self.data_dir or ""),
            "measured on, too": ", ".join(self.transfer),
            "configuration": config,
            "settings of star-head pretrain": " ".join(self.arguments),
        }

    def keep(self, output: Path) -> None:
        """Write down what the runs in a folder are of.

        Raises:
            ValueError: If the folder holds runs of something else, which it names.
        """
        path = output / _SETTINGS
        own = json.loads(json.dumps(self._asdict(), default=str))
        saved = json.loads(path.read_text()) if path.exists() else own
        if differing := differing_settings(saved, own):
            raise ValueError(
                f"output: {output} holds a comparison that had {differing}; name another folder"
            )
        write_json(path, own)
        if self.config is not None:
            with replacing(output / _CONFIG) as scratch:
                scratch.write_text(yaml.safe_dump(self.config))

    @classmethod
    def read(cls, output: Path) -> "Plan":
        """The plan of the runs in a folder."""
        found = json.loads((output / _SETTINGS).read_text())
        for name in ("data_dir", "transfer_dir"):
            found[name] = None if found[name] is None else Path(found[name])
        for name in ("transfer", "pixel_range", "background", "arguments"):
            found[name] = None if found[name] is None else tuple(found[name])
        return cls(**found)

    def pretrain_arguments(self, run: "Run", output: Path, threads: int) -> list[str]:
        """Arguments of `star-head pretrain` for one run.

        Args:
            run: Which; an untrained backbone is of any method, and SimCLR's takes any settings.
            output: Folder of the comparison.
            threads: How many it has.
        """
        routing = find_method("simclr" if run.method == UNTRAINED else run.method).flags()
        given = self._asdict()
        data = [
            f"--data.{name}={_as_yaml(given[name])}" for name in _OF_DATA if given[name] is not None
        ]
        return [
            *([] if self.config is None else [f"--config={output / _CONFIG}"]),
            "--trainer.devices=1",
            f"--data.num_workers={threads}",
            *self.arguments,
            *data,
            *routing,
            f"--seed_everything={run.seed}",
            f"--trainer.default_root_dir={run.folder(output)}",
            "--trainer.enable_progress_bar=false",
            # All is measured when the run is over.
            *(f"--monitors.{name}=false" for name in MONITORS),
            "--trainer.limit_val_batches=0",
            "--trainer.num_sanity_val_steps=0",
            "--trainer.callbacks+=star_head.examples.comparing.step_cost.StepCost",
            f"--keep_every_n_epochs={10**9}",
            "--ckpt_path=last",
        ]


def check_settings(settings: Sequence[str]) -> None:
    """Raise a ValueError where a setting of `star-head pretrain` is one that compare decides."""
    for setting in settings:
        name = setting.removeprefix("--").partition("=")[0]
        instead = _INSTEAD.get(name) or _INSTEAD.get(name.partition(".")[0])
        if instead is not None:
            raise ValueError(f"settings: expected {instead}, got {setting}")


def read_config(name: str) -> dict[str, Any]:
    """The settings in a YAML file of `star-head pretrain`.

    Args:
        name: A file, or the name of a shipped one.

    Raises:
        FileNotFoundError: If there is neither.
        ValueError: If it is not of settings by name, or has some that a comparison cannot keep.
    """
    path = find_config(name)
    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeError) as error:
        raise ValueError(f"config: expected a YAML file, got {path}: {error}") from error
    data = found.get("data", {}) if isinstance(found, dict) else None
    if not isinstance(data, dict):
        raise ValueError(
            f"config: expected settings of star-head pretrain by name in {path}, got {found!r:.80}"
        )
    if data.get("class_names") is not None:
        check_settings([f"--data.class_names={data['class_names']}"])
    return cast(dict[str, Any], found)


def _as_yaml(value: Any) -> str:
    return json.dumps(value) if isinstance(value, tuple | list) else str(value)


class Run(NamedTuple):
    """One run of a comparison.

    Attributes:
        method: Of ``METHODS``, or ``"untrained"``.
        seed: Seed of weights, views and order.
    """

    method: str
    seed: int

    @property
    def name(self) -> str:
        """Of its folder and files."""
        return f"{self.method}_{self.seed}"

    def result(self, output: Path) -> Path:
        """Where its numbers go."""
        return output / "results" / f"{self.name}.json"

    def folder(self, output: Path) -> Path:
        """Where it is trained."""
        return output / "runs" / self.name

    def log(self, output: Path) -> Path:
        """Where it writes what it says."""
        return output / "runs" / f"{self.name}.log"
