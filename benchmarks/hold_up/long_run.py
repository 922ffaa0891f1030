"""Pretrain for an hour and watch memory, open files and speed: do they stay as they are?

    python -m benchmarks.hold_up.long_run
    python -m benchmarks.hold_up.long_run --minutes=3
    python -m benchmarks.hold_up.long_run --arguments='--config=examples/configs/folder.yaml ...'

Runs examples/pretrain.py by its command line, on scikit-learn's digits unless told otherwise, with
two loader workers, and ends it by SIGTERM when the time is over. Memory is read from Linux's /proc,
speed from the run's own TensorBoard log: images a second while training, validation left out. A
leak shows as a slope whose interval lies above zero. The paper has no figure to compare this with.
"""

import shlex
import signal
import time
from pathlib import Path
from typing import Any

import matplotlib
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from tqdm import tqdm

from benchmarks.hold_up.process_memory import children, usage
from benchmarks.hold_up.trend import Trend, fit_trend
from benchmarks.hold_up.watched_run import WatchedRun, new_folder, versions, watched_run
from star_head._whole_files import replacing, write_json
from star_head.examples.command_line import run

DIGITS = (
    "--trainer.accelerator=cpu --trainer.log_every_n_steps=10 --model.backbone=resnet10t "
    "--model.num_experts=4 --model.hidden_dim=64 --model.output_dim=32 --data.batch_size=64 "
    "--data.transform=STARTransform --data.transform.input_size=32"
)


def sample(watched: WatchedRun, minutes: float, interval: float) -> list[dict[str, Any]]:
    """Look at a run and its workers again and again, from its first step on.

    Workers are those that stay from one epoch to the next: validation has others of its own.

    Raises:
        RuntimeError: If the run ends before the time is over.
    """
    watched.wait_for(lambda moment: moment.phase == "training")
    start = time.time()
    samples = []
    with tqdm(total=round(minutes * 60), desc="Watching", unit="s") as progress:
        while (now := time.time() - start) < minutes * 60:
            own = usage(watched.process.pid)
            if own is None or watched.process.poll() is not None:
                raise RuntimeError(f"the run ended after {now:.0f} s:\n{watched.last_lines()}")
            held = {pid: usage(pid) for pid in children(watched.process.pid)}
            workers = {pid: held_by for pid, held_by in held.items() if held_by is not None}
            samples.append({"seconds": now, "main": own, "workers": workers})
            progress.update(round(now) - progress.n)
            time.sleep(interval)
    return samples


def read_speed(folder: Path, start: float) -> tuple[list[float], list[float]]:
    """Seconds since the start, and images a second, from a run's TensorBoard log."""
    log = next(folder.glob("tensorboard/version_*"))
    events = EventAccumulator(str(log), size_guidance={"scalars": 0}).Reload()
    logged = events.Scalars("images_per_second")
    return [event.wall_time - start for event in logged], [event.value for event in logged]


def curves(samples: list[dict[str, Any]]) -> dict[str, list[float]]:
    """What the samples say of the run's process and of the workers that were there most often."""
    seen: dict[int, int] = {}
    for taken in samples:
        for pid in taken["workers"]:
            seen[pid] = seen.get(pid, 0) + 1
    lasting = [pid for pid in sorted(seen) if seen[pid] > len(samples) / 2]
    found: dict[str, list[float]] = {"seconds": [taken["seconds"] for taken in samples]}
    found["RSS of the run, MB"] = [taken["main"].rss for taken in samples]
    # What a process holds alone changes whenever others that share it come or go; the sum does not.
    found["PSS of all processes, MB"] = [
        taken["main"].pss + sum(held.pss for held in taken["workers"].values()) for taken in samples
    ]
    for number, pid in enumerate(lasting):
        held = [taken["workers"].get(pid) for taken in samples]
        found[f"PSS of worker {number}, MB"] = [h.pss if h else float("nan") for h in held]
    found["open files of the run"] = [float(taken["main"].files) for taken in samples]
    return found


def fit(seconds: list[float], values: list[float], warm_up: float) -> Trend | None:
    """The trend after the warm-up, of the moments at which something was measured.

    ``None`` where they are too few: an hour's other curves are not lost for one.
    """
    kept = [(s, v) for s, v in zip(seconds, values, strict=True) if s >= warm_up and v == v]
    try:
        return fit_trend([s for s, _ in kept], [v for _, v in kept])
    except ValueError:
        return None


def draw(found: dict[str, list[float]], speed: tuple[list[float], list[float]], path: Path) -> None:
    """Draw memory, open files and speed over time."""
    figure, axes = plt.subplots(3, 1, figsize=(8, 8), sharex=True, layout="constrained")
    minutes = [second / 60 for second in found["seconds"]]
    for name, values in found.items():
        if name.endswith("MB"):
            axes[0].plot(minutes, values, label=name.removesuffix(", MB"), linewidth=1)
    axes[0].set_ylabel("memory, MB")
    axes[1].plot(minutes, found["open files of the run"], linewidth=1)
    axes[1].set_ylabel("open files of the run")
    axes[2].plot([second / 60 for second in speed[0]], speed[1], ".", markersize=2)
    axes[2].set_ylabel("images a second, training")
    axes[2].set_xlabel("minutes since the first step")
    axes[0].legend(fontsize=8)
    for axis in axes:
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    with replacing(path) as scratch:
        figure.savefig(scratch, dpi=110, format="png")
    plt.close(figure)


def main(
    output: Path = Path("runs/hold_up/long_run"),
    minutes: float = 60,
    interval: float = 5,
    warm_up: float = 0.1,
    workers: int = 2,
    arguments: str = DIGITS,
) -> None:
    """Print slopes with 95% intervals; write long_run.json and long_run.png.

    Args:
        output: Folder for the run and the results; new or empty.
        minutes: How long, from the first step on.
        interval: Seconds between two looks at the memory.
        warm_up: Share of the time that is drawn and does not count.
        workers: Of the loader.
        arguments: Arguments of examples/pretrain.py, but for the number of epochs.
    """
    new_folder(output)
    endless = ("--trainer.max_epochs=1000000", "--keep_every_n_epochs=1000000")
    with watched_run(
        output / "run",
        *shlex.split(arguments),
        *endless,
        f"--data.num_workers={workers}",
        "--trainer.enable_progress_bar=false",
    ) as watched:
        samples = sample(watched, minutes, interval)
        watched.process.send_signal(signal.SIGTERM)
        code = watched.finish()
    start = next(moment.time for moment in watched.moments() if moment.phase == "training")
    last = watched.moments()[-1]
    found = curves(samples)
    speed = read_speed(output / "run", start)
    skipped = warm_up * minutes * 60
    trends = {
        name: fit(found["seconds"], values, skipped)
        for name, values in found.items()
        if name != "seconds"
    }
    trends["images a second"] = fit(*speed, skipped)
    settings = {"minutes": minutes, "interval": interval, "warm_up": warm_up, "workers": workers}
    write_json(
        output / "long_run.json",
        {
            **settings,
            "arguments": arguments,
            **versions(),
            "steps": last.step,
            "epochs": last.epoch,
            "exit_status": code,
            "trends": {name: trend and trend.rounded() for name, trend in trends.items()},
            "samples": found,
            "speed": {"seconds": speed[0], "images a second": speed[1]},
        },
    )
    draw(found, speed, output / "long_run.png")
    print(f"{minutes:g} minutes, {last.step} steps, {last.epoch} epochs; ended with {code}")
    print(f"{'after the warm-up':25} {'mean':>9}  a hour  (95% interval)")
    for name, trend in trends.items():
        if trend is None:
            print(f"{name:25} too few to fit a line")
            continue
        unit = "%" if name == "images a second" else ""
        shown = trend.in_percent() if unit else trend
        print(
            f"{name:25} {shown.mean:9.1f}  {shown.per_hour:+.2f}{unit} "
            f"({shown.low:+.2f} to {shown.high:+.2f})"
        )


if __name__ == "__main__":
    run(main)
