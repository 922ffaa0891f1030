"""Draw how a training went, and print its first and last values: losses, monitors, probes.

    star-head plot-run runs/fashion_mnist curves.png
    star-head plot-run runs/star runs/simclr both.png

Runs that were resumed are drawn as one. Any run will do that logs by CSVLogger(FOLDER, "csv").
"""

from pathlib import Path

from star_head.examples.command_line import print_next, run
from star_head.examples.training.plots import draw_training
from star_head.examples.training.run_logs import read_logs as read_logs
from star_head.examples.training.run_logs import table_of


def main(folders: list[str], picture: Path) -> None:
    """Read the CSV logs of one run or several and draw them.

    Args:
        folders: Folders of the runs, their --trainer.default_root_dir.
        picture: The PNG file to write.

    Raises:
        FileNotFoundError: If a folder holds no logs, or that of the picture is not there.
        ValueError: If the picture's name has no ending, as a further run's folder has none.
    """
    if not picture.suffix:
        raise ValueError(f"picture: expected a PNG file behind the runs, got {picture}")
    if not picture.expanduser().parent.is_dir():
        raise FileNotFoundError(f"picture: expected a folder that is there, got {picture.parent}")
    runs = {folder.rstrip("/"): read_logs(Path(folder)) for folder in folders}
    draw_training(runs, picture)
    for folder, logs in runs.items():
        print(table_of(logs, folder))
    print(f"The curves are in {picture}")
    checkpoints = " ".join(f"{folder}/checkpoints/last.ckpt" for folder in runs)
    print_next(what_the_head_learned=f"star-head analyze {checkpoints}")


if __name__ == "__main__":
    run(main, several="folders", positional=True)
