"""A run's logs as a picture."""

import re
from pathlib import Path

from PIL import Image
from running import Done, run_here


def plot(*paths: Path) -> Done:
    return run_here("examples/plot_run.py", *paths)


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


MONITORS = {
    "knn_accuracy": 0.5,
    "weighted_knn_accuracy": 0.6,
    "probe_accuracy": 0.7,
    "probe_top5_accuracy": 0.9,
    "mean_canonical_correlation": 0.3,
    "mean_canonical_correlation_chance": 0.1,
    "effective_rank": 40,
    "embedding_spread": 0.8,
    "mean_reciprocal_rank": 0.5,
    "mean_reciprocal_rank_chance": 0.3,
    "hit_at_1": 0.4,
    "hit_at_1_chance": 0.1,
    "mean_r2": 0.5,
    "mean_r2_chance": 0.0,
    "r2/hue": 0.7,
    "r2/crop_top": 0.2,
}


def size_and_colours(picture: Path) -> tuple[tuple[int, int], set[tuple[int, ...]]]:
    with Image.open(picture) as image:
        colours = image.convert("RGB").getcolors(maxcolors=1_000_000)
        return image.size, {colour for _, colour in colours}


def test_all_that_monitors_log_is_drawn_and_nothing_else(tmp_path: Path) -> None:
    names = ",".join(MONITORS)
    rows = "\n".join(
        f"{step},{','.join(str(value + step / 100) for value in MONITORS.values())}"
        for step in (0, 9, 19)
    )
    write_log(tmp_path / "all", 0, f"step,{names}\n{rows}\n")
    write_log(tmp_path / "one", 0, "step,effective_rank\n0,3.5\n9,2.5\n")
    write_log(tmp_path / "none", 0, "step,train_loss\n0,3.5\n9,2.5\n")
    sizes = {}
    for name in ("all", "one", "none"):
        picture = tmp_path / f"{name}.png"
        done = plot(tmp_path / name, picture)
        assert done.returncode == 0, done.stderr
        sizes[name], drawn = size_and_colours(picture)
        if name == "all":
            assert "mean reciprocal rank             " in done.stdout
            assert "      0.5      0.69      0.49\n" in done.stdout  # first, last and chance
            assert "loss" not in done.stdout
            expected = {(0x3A, 0x7D, 0x44), (0x1F, 0x8A, 0x9E), (0x7B, 0x4E, 0xA3)}
            assert expected | {(0xD9, 0x82, 0x2B), (0xE8, 0xC9, 0xA5)} <= drawn
    assert sizes["one"] == sizes["none"]
    assert sizes["all"] == (4 * sizes["one"][0], 2 * sizes["one"][1])  # seven panels


def test_several_runs_are_drawn_together(tmp_path: Path) -> None:
    write_log(tmp_path / "star", 0, "step,mean_r2,hit_at_1\n0,0.1,0.2\n9,0.3,0.4\n")
    write_log(tmp_path / "simclr", 0, "step,mean_r2\n0,0.1\n9,0.125\n")
    picture = tmp_path / "both.png"
    done = plot(tmp_path / "star", tmp_path / "simclr", picture)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.split("simclr ", 1)
    assert re.search("mean R² of parameters +0.1 +0.3$", first, re.MULTILINE)
    assert re.search("mean R² of parameters +0.1 +0.125$", second, re.MULTILINE)
    size, drawn = size_and_colours(picture)
    assert {(0xD9, 0x82, 0x2B), (0x3B, 0x6F, 0xB6)} <= drawn  # one colour for each run
    assert plot(tmp_path / "star", tmp_path / "alone.png").returncode == 0
    assert size_and_colours(tmp_path / "alone.png")[0] == size  # the same two panels


def test_a_folder_without_logs_is_refused(tmp_path: Path) -> None:
    done = plot(tmp_path, tmp_path / "curves.png")
    assert done.returncode == 1
    assert "expected logs of examples/pretrain.py in" in done.stderr


def test_a_picture_that_cannot_be_written_is_refused_before_any_is_drawn(tmp_path: Path) -> None:
    for run in ("one", "other"):
        write_log(tmp_path / run, 0, "step,train_loss\n0,3.5\n")
    forgotten = plot(tmp_path / "one", tmp_path / "other")
    assert forgotten.returncode != 0
    assert "picture: expected a PNG file behind the runs" in forgotten.stderr
    nowhere = plot(tmp_path / "one", tmp_path / "none/curves.png")
    assert "picture: expected a folder that is there" in nowhere.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"one", "other"}
