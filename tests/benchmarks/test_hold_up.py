"""The hold-up commands, small, and what they measure with."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from benchmarks.hold_up import interruptions
from benchmarks.hold_up.full_disk import contents, filled, limited, write_without_room, writers
from benchmarks.hold_up.interruptions import PHASES, SIGNALS, Strike, draw_strikes
from benchmarks.hold_up.long_run import DIGITS, fit
from benchmarks.hold_up.lost_files import BATCH, DAMAGES, LOST, lose, write_digits
from benchmarks.hold_up.process_memory import children, usage
from benchmarks.hold_up.run_files import (
    checkpoint_differences,
    count_tensors,
    files_that_do_not_open,
    left_behind,
)
from benchmarks.hold_up.trend import fit_trend
from benchmarks.hold_up.watched_run import SMALL, new_folder, run_through
from star_head._whole_files import replacing
from star_head.examples.data.image_data import load_images

ROOT = Path(__file__).parents[2]


def command(name: str, *arguments: object) -> dict:
    """Run a command as a user does; what it wrote."""
    output = next(str(a) for a in arguments if str(a).startswith("--output=")).partition("=")[2]
    with subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.hold_up.{name}", *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            printed, error = process.communicate()
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)  # on which it ends what it has started
    assert process.returncode == 0, printed + error[-3000:]
    return json.loads(Path(output, f"{name}.json").read_text())


def checkpoint(**changes: object) -> dict:
    generator = torch.Generator().manual_seed(0)
    return {
        "state_dict": {"weight": torch.randn(4, 3, generator=generator), "steps": torch.tensor(3)},
        "optimizer_states": [{"state": {0: {"momentum": torch.ones(4, 3)}}}],
        "random_states": [{"cpu": torch.arange(9, dtype=torch.uint8)}],
        "callbacks": {"folder": "here"},
        "epoch": 1,
        "global_step": 3,
    } | changes


@pytest.mark.parametrize("count", [1, 2, 7, 8, 20])
def test_strikes_take_turns_and_come_in_order(count: int) -> None:
    strikes = draw_strikes(count, 400, random.Random(count))
    assert [s.signal for s in strikes] == [SIGNALS[i % 2] for i in range(count)]
    assert all(strikes[i].phase == strikes[i + 1].phase for i in range(0, count - 1, 2))
    assert {s.phase for s in strikes} <= set(PHASES)
    if count >= 8:
        assert {s.phase for s in strikes} == set(PHASES)
    steps = [s.step for s in strikes]
    assert steps == sorted(steps)
    assert all(i * 400 // count <= step < (i + 1) * 400 / count for i, step in enumerate(steps))
    assert draw_strikes(count, 400, random.Random(count)) == strikes
    assert draw_strikes(count, 400, random.Random(count + 1)) != strikes


def test_checkpoints_are_compared_bit_for_bit(tmp_path: Path) -> None:
    one, two = tmp_path / "one.ckpt", tmp_path / "two.ckpt"
    torch.save(checkpoint(), one)

    def differences(**changes: object) -> list[str]:
        torch.save(checkpoint(**changes), two)
        return checkpoint_differences(one, two)

    assert differences(callbacks={"folder": "elsewhere"}) == []
    assert count_tensors(checkpoint()) == 4
    weight = checkpoint()["state_dict"]["weight"]
    nudged = weight.clone()
    nudged[1, 2] = torch.nextafter(nudged[1, 2], torch.tensor(9.0))
    for changes, place in (
        ({"state_dict": {"weight": nudged, "steps": torch.tensor(3)}}, "state_dict.weight"),
        ({"state_dict": {"weight": weight, "steps": torch.tensor(3.0)}}, "state_dict.steps"),
        ({"state_dict": {"weight": weight}}, "state_dict"),
        ({"random_states": []}, "random_states"),
        ({"optimizer_states": [{"state": {0: {}}}]}, "optimizer_states.0.state.0"),
        ({"global_step": 4}, "global_step"),
        ({"epoch": 1.0}, "epoch"),
    ):
        (found,) = differences(**changes)
        assert found.startswith(f"checkpoint.{place}: ")


def test_files_that_are_not_whole_are_found(tmp_path: Path) -> None:
    (tmp_path / "csv").mkdir()
    torch.save(checkpoint(), tmp_path / "last.ckpt")
    (tmp_path / "csv/metrics.csv").write_text("step,loss\n1,0.5\n2,\n")
    (tmp_path / "config.yaml").write_text("model:\n  width: 3\n")
    (tmp_path / "config.json").write_text('{"a": 1}\n')
    (tmp_path / "README.md").write_text("# Model\n\n```python\nimport timm\n```\n")
    (tmp_path / ".last.ckpt.partial").write_bytes(b"half")
    assert files_that_do_not_open(tmp_path) == []
    assert left_behind(tmp_path) == [".last.ckpt.partial"]
    for name, broken in {
        "last.ckpt": (tmp_path / "last.ckpt").read_bytes()[:-4],
        "csv/metrics.csv": b"step,loss\n1,0.5\n2",
        "config.yaml": b"model: [",
        "config.json": b'{"a": ',
        "README.md": b"# Model\n\n```python\nimport",
        "model.safetensors": b"",
        "last.ckpt.tmp": b"",
    }.items():
        whole = (tmp_path / name).read_bytes() if (tmp_path / name).exists() else None
        (tmp_path / name).write_bytes(broken)
        (found,) = files_that_do_not_open(tmp_path)
        assert found.startswith(f"{name}: "), found
        if whole is None:
            (tmp_path / name).unlink()
        else:
            (tmp_path / name).write_bytes(whole)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    for i, pixels in enumerate(np.random.default_rng(0).integers(256, size=(20, 120, 120, 3))):
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return folder


def test_writers_without_room_name_the_file_and_leave_no_half(
    photographs: Path, tmp_path: Path
) -> None:
    for name, (place, write) in writers(tmp_path, photographs).items():
        with limited(size=100_000):
            found = write_without_room(tmp_path, place, write)
        assert found["names_the_file"], (name, found)
        assert found["leaves_all_as_it_was"], name
        assert "File too large" in found["error"], name
        write()  # there is room again
        whole = contents(place) if place.is_dir() else {place: place.read_bytes()}
        assert sum(map(len, whole.values())) > 100_000
        if name in ("checkpoint", "JSON", "exported encoder"):  # which are replaced
            with limited(size=100_000):
                found = write_without_room(tmp_path, place, write)
            assert found["names_the_file"], name
            assert found["leaves_all_as_it_was"], name


def test_no_folder_is_written_over(tmp_path: Path) -> None:
    assert new_folder(tmp_path / "a" / "b").is_dir()
    new_folder(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    for taken in (tmp_path / "a", tmp_path / "file"):
        with pytest.raises(ValueError, match="output: expected a new or an empty folder"):
            new_folder(taken)


def test_what_fails_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="absent"), replacing(tmp_path / "file"):
        raise KeyError("absent")
    with (
        pytest.raises(OSError, match="/file could not be written: No such file"),
        replacing(tmp_path / "file"),
    ):
        pass  # nothing is written
    assert list(tmp_path.iterdir()) == []


def test_a_disk_is_filled_but_for_some_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 3_000_000

    def usage_of(folder: Path) -> object:
        taken = sum(path.stat().st_size for path in folder.iterdir())
        return type("Usage", (), {"free": size - taken})

    monkeypatch.setattr("benchmarks.hold_up.full_disk.shutil.disk_usage", usage_of)
    with filled(tmp_path, room=70_000):
        assert (tmp_path / ".ballast").stat().st_size == size - 70_000
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if number else name
        for number, name in enumerate(DAMAGES)
    ],
)
def test_a_lost_image_is_named(name: str, workers: int, tmp_path: Path) -> None:
    write_digits(tmp_path / "images")
    images = load_images("folder", tmp_path / "images").pretrain.with_transform(np.array)
    loader = DataLoader(images, BATCH, num_workers=workers)
    assert sum(len(labels) for _, labels in loader) == 360
    DAMAGES[name](tmp_path / "images" / LOST)
    with pytest.raises(ValueError, match="cannot be read: .+; restore the file") as caught:
        list(loader)
    folder = "class3" if name == "folder moved away" else LOST
    last_line = str(caught.value).splitlines()[-1]
    assert f"data_dir: {tmp_path / 'images' / folder}" in last_line


@pytest.mark.slow
def test_a_trend_is_found_with_its_interval() -> None:
    generator = np.random.default_rng(0)
    seconds = np.sort(generator.uniform(0, 3600, 700))
    held = 0
    for _ in range(200):
        noise = generator.normal(scale=2, size=700)
        trend = fit_trend(seconds, 100 + 5 * seconds / 3600 + noise)
        held += trend.low <= 5 <= trend.high
        assert trend.low < trend.per_hour < trend.high
    assert 180 <= held <= 198  # 95%
    line = fit_trend([0, 1800, 3600], [10.0, 15.0, 20.0], blocks=3)
    assert line.per_hour == pytest.approx(10)
    assert line.in_percent().per_hour == pytest.approx(100 * 10 / 15)
    with pytest.raises(ValueError, match="values: expected some in three blocks"):
        fit_trend([0, 1], [2, 3])
    with pytest.raises(ValueError, match="got 0"):
        fit_trend([], [])
    assert fit([0, 1, 1800, 3600], [9.0, np.nan, 15, 20], warm_up=1) is None
    assert fit([0, 1, 1800, 3600], [9.0, 10, 15, 20], warm_up=1).mean == 15


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux tells it")
def test_memory_and_children_of_a_process(tmp_path: Path) -> None:
    code = """if True:
        import mmap, sys
        print("ready", flush=True)  # a process is smaller before Python runs
        input()
        ballast = mmap.mmap(-1, 50_000_000)
        ballast.write(bytes(50_000_000))
        files = [open(f"{sys.argv[1]}/{i}", "w") for i in range(20)]
        print("ready", flush=True)
        input()
    """
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        assert child.pid in children(os.getpid())
        before = usage(child.pid)
        child.stdin.write(b"\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"ready\n"
        after = usage(child.pid)
        child.communicate(b"\n")
    assert after.rss - before.rss == pytest.approx(50, abs=5)
    assert after.pss - before.pss == pytest.approx(50, abs=5)
    assert after.files - before.files == 20
    assert child.pid not in children(os.getpid())
    assert usage(child.pid) is None
    assert children(child.pid) == []


@pytest.mark.slow
def test_two_interruptions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strikes = [
        Strike(signal.SIGKILL, "saving", 11, 0.5),
        Strike(signal.SIGTERM, "training", 25, 0.5),
    ]
    monkeypatch.setattr(interruptions, "draw_strikes", lambda *_: strikes)
    interruptions.main(tmp_path / "out", count=2, epochs=5)  # it would exit with 1
    found = json.loads((tmp_path / "out/interruptions.json").read_text())
    killed, ended = found["interruptions"]
    assert (killed["signal"], killed["exit_status"]) == ("SIGKILL", -9)
    assert (ended["signal"], ended["exit_status"]) == ("SIGTERM", 143)
    assert killed["phase"] in ("saving", "validation", "training")
    assert ended["said_how_to_go_on"]
    for row, strike in zip((killed, ended), strikes, strict=True):
        assert strike.step <= row["step"] < 55
        assert row["files_that_do_not_open"] == []
    assert found["end"]["differences"] == []
    assert found["end"]["losses"] == 55
    assert found["end"]["tensors"] > 100


@pytest.mark.slow
def test_a_run_without_room_stops_and_goes_on(tmp_path: Path) -> None:
    found = command("full_disk", f"--output={tmp_path / 'out'}")
    assert found["run"]["exit_status"] == 1
    last = tmp_path / "out/disk/checkpoints/last.ckpt"
    assert f"OSError: {last} could not be written: File too large" in found["run"]["error"]
    assert found["run"]["goes_on_from_step"] in (11, 22, 33, 44)
    assert found["run"]["files_that_do_not_open"] == []
    assert found["run"]["left_behind"] == []
    assert found["differences_at_the_end"] == []


@pytest.mark.slow
def test_a_run_that_loses_an_image_stops_and_goes_on(tmp_path: Path) -> None:
    images, spare = tmp_path / "images", tmp_path / "spare"
    for folder in (images, spare):
        write_digits(folder)
    arguments = (
        *SMALL,
        *("--data.dataset=folder", f"--data.data_dir={images}", f"--data.batch_size={BATCH}"),
        *("--data.num_workers=2", "--trainer.max_epochs=5"),
    )
    found = lose(DAMAGES["deleted"], images, spare, tmp_path / "run", *arguments)
    assert found["exit_status"] == 1
    assert f"{images / LOST} cannot be read: No such file or directory" in found["error"]
    assert found["exit_status_without"] == 1
    assert "its run had images 360, and this has 359" in found["error_without"]
    run_through(tmp_path / "peaceful", *arguments)
    last = Path("checkpoints", "last.ckpt")
    assert checkpoint_differences(tmp_path / "run" / last, tmp_path / "peaceful" / last) == []


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux tells it")
def test_a_run_is_watched(tmp_path: Path) -> None:
    begun = time.time()
    settings = (f"--output={tmp_path / 'out'}", "--minutes=0.25", "--interval=0.5")
    # Every step is logged: beside other work, these seconds may hold few of them.
    found = command("long_run", *settings, f"--arguments={DIGITS} --trainer.log_every_n_steps=1")
    assert time.time() - begun > 15
    assert found["exit_status"] == 143
    samples = found["samples"]
    assert 3 < len(samples["seconds"]) <= 30
    assert found["trends"]["RSS of the run, MB"]["mean"] > 100
    assert 100 < min(samples["RSS of the run, MB"]) <= max(samples["RSS of the run, MB"]) < 3000
    assert {"PSS of worker 0, MB", "PSS of worker 1, MB"} <= samples.keys()
    with open(tmp_path / "out/run/csv/version_0/metrics.csv") as file:
        logged = [row["images_per_second"] for row in csv.DictReader(file)]
    assert len(found["speed"]["seconds"]) >= len(list(filter(None, logged))) > 1
    assert Image.open(tmp_path / "out/long_run.png").width > 500
