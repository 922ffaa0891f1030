"""A run's logs as a picture."""

from pathlib import Path

from PIL import Image
from running import Done, run_here


def plot(folder: Path, picture: Path) -> Done:
    return run_here("examples/plot_run.py", folder, picture)


def write_log(folder: Path, version: int, rows: str) -> None:
    path = folder / f"csv/version_{version}/metrics.csv"
    path.parent.mkdir(parents=True)
    path.write_text(rows)


def test_resumed_runs_are_one(tmp_path: Path) -> None:
    write_log(tmp_path, 2, "step,train_loss_invariant,knn_accuracy\n0,3.5,\n9,2.5,0.4\n")
    write_log(tmp_path, 10, "knn_accuracy,step,train_loss_invariant\n,9,2.25\n0.5,19,\n")
    from star_head.examples.plot_run import read_logs

    assert read_logs(tmp_path) == {
        "train_loss_invariant": {0: 3.5, 9: 2.25},
        "knn_accuracy": {9: 0.4, 19: 0.5},
    }
    done = plot(tmp_path, tmp_path / "curves.png")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "curves.png") as picture:
        colours = picture.convert("RGB").getcolors(maxcolors=100_000)
    drawn = {colour for _, colour in colours}
    assert (0x3B, 0x6F, 0xB6) in drawn  # the invariant part
    assert (0x3A, 0x7D, 0x44) in drawn  # the monitor


def test_a_folder_without_logs_is_refused(tmp_path: Path) -> None:
    done = plot(tmp_path, tmp_path / "curves.png")
    assert done.returncode == 1
    assert "expected logs of examples/pretrain.py in" in done.stderr
