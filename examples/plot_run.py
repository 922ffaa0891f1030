"""Draw how a training went: losses, and what monitors and probes logged beside them.

    star-head plot-run runs/fashion_mnist curves.png
    star-head plot-run runs/stl10_resnet18 runs/stl10_resnet18/curves.png

Runs that were resumed are drawn as one. Any run will do that logs by CSVLogger(FOLDER, "csv").
"""

import csv
from collections.abc import Mapping
from pathlib import Path

from star_head.examples.command_line import print_next, run
from star_head.examples.training.plots import draw_training


def main(folder: Path, picture: Path) -> None:
    """Read a run's CSV logs and draw them.

    Args:
        folder: Folder of the run, its --trainer.default_root_dir.
        picture: The PNG file to write.
    """
    draw_training(read_logs(folder), picture)
    print(f"The curves are in {picture}")
    print_next(what_the_head_learned=f"star-head analyze {folder}/checkpoints/last.ckpt")


def read_logs(folder: Path) -> dict[str, dict[int, float]]:
    """Each logged quantity's values by step; of a step that was repeated, the last.

    Raises:
        FileNotFoundError: If the folder holds no logs.
    """
    folder = folder.expanduser()
    paths = list(folder.glob("csv/version_*/metrics.csv"))
    if not paths:
        raise FileNotFoundError(f"folder: expected logs of examples/pretrain.py in {folder}/csv")
    logs: dict[str, dict[int, float]] = {}
    for path in sorted(paths, key=lambda path: int(path.parent.name.removeprefix("version_"))):
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                _add(logs, int(row.pop("step")), row)
    return logs


def _add(logs: dict[str, dict[int, float]], step: int, row: Mapping[str, str]) -> None:
    for name, value in row.items():
        if value:
            logs.setdefault(name, {})[step] = float(value)


if __name__ == "__main__":
    run(main)
