"""Draw how a training went, and print its first and last values: losses, monitors, probes.

    star-head plot-run runs/fashion_mnist curves.png
    star-head plot-run runs/stl10_resnet18 runs/stl10_resnet18/curves.png

Runs that were resumed are drawn as one. Any run will do that logs by CSVLogger(FOLDER, "csv").
"""

from pathlib import Path

from star_head.examples.command_line import print_next, run
from star_head.examples.training.plots import draw_training
from star_head.examples.training.run_logs import read_logs as read_logs
from star_head.examples.training.run_logs import table_of


def main(folder: Path, picture: Path) -> None:
    """Read a run's CSV logs and draw them.

    Args:
        folder: Folder of the run, its --trainer.default_root_dir.
        picture: The PNG file to write.
    """
    logs = read_logs(folder)
    draw_training(logs, picture)
    print(table_of(logs))
    print(f"The curves are in {picture}")
    print_next(what_the_head_learned=f"star-head analyze {folder}/checkpoints/last.ckpt")


if __name__ == "__main__":
    run(main)
