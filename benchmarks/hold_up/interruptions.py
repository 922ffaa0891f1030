"""Interrupt a pretraining at random moments, go on each time, and compare with an undisturbed one.

    python -m benchmarks.hold_up.interruptions
    python -m benchmarks.hold_up.interruptions --count=4 --epochs=10 --seed=1

Runs examples/pretrain.py on scikit-learn's digits, by its command line, and sends it SIGKILL and
SIGTERM by turns: while it starts, within an epoch's steps, while a checkpoint is being written and
during validation. After each it looks whether every file of the run opens. The run is then gone on
with by --ckpt_path=last, and at its end every weight, the optimiser's state, the schedule, the
random state and every logged loss are compared, bit for bit, with those of that run. The
paper has no figure to compare this with.
"""

import itertools
import random
import signal
import statistics
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from benchmarks.hold_up.run_files import (
    checkpoint_differences,
    count_tensors,
    files_that_do_not_open,
    left_behind,
)
from benchmarks.hold_up.watched_run import (
    SMALL,
    Moment,
    WatchedRun,
    new_folder,
    run_through,
    versions,
    watched_run,
)
from star_head._whole_files import write_json
from star_head.examples.command_line import run
from star_head.examples.plot_run import read_logs
from star_head.examples.training.checkpoints import load_training_checkpoint

PHASES = ("starting", "training", "saving", "validation")
SIGNALS = (signal.SIGKILL, signal.SIGTERM)


class Strike(NamedTuple):
    """A signal and when to send it.

    Attributes:
        signal: SIGKILL or SIGTERM.
        phase: Of PHASES.
        step: The first, over all epochs, at or after which it is sent, but while the run starts.
        share: Of the time that the phase takes, after which it is sent.
    """

    signal: signal.Signals
    phase: str
    step: int
    share: float


def draw_strikes(count: int, steps: int, generator: random.Random) -> list[Strike]:
    """Signals by turns, in every phase alike often, in order over the run's steps.

    Args:
        count: How many.
        steps: Of the run, less those in which it may end before it is struck.
        generator: Of random numbers.
    """
    phases = [PHASES[i % len(PHASES)] for i in range(-(-count // len(SIGNALS)))]
    generator.shuffle(phases)
    return [
        Strike(
            SIGNALS[turn % len(SIGNALS)],
            phases[turn // len(SIGNALS)],
            int((turn + generator.random()) * steps / count),
            generator.random(),
        )
        for turn in range(count)
    ]


def durations(moments: list[Moment]) -> dict[str, float]:
    """Median seconds of each phase; of training, of a step."""
    spans: dict[str, list[float]] = {phase: [] for phase in PHASES}
    for moment, following in itertools.pairwise(moments):
        spans[moment.phase].append(following.time - moment.time)
    return {phase: statistics.median(found) for phase, found in spans.items()}


def strike_at(watched: WatchedRun, strike: Strike, seconds: dict[str, float]) -> Moment | None:
    """Send the signal at its moment; that moment, or None if the run ended before."""
    if strike.phase != "starting":
        found = watched.wait_for(lambda m: m.phase == strike.phase and m.step >= strike.step)
        if found is None:
            return None
    time.sleep(strike.share * seconds[strike.phase])
    moment = watched.moments()[-1]
    if watched.process.poll() is not None:
        return None
    watched.process.send_signal(strike.signal)
    return moment._replace(time=time.time())


def interrupt(folder: Path, strike: Strike, seconds: dict[str, float], *arguments: str) -> Any:
    """Start a run or go on with it, strike, and look at what is left; None if it ended before."""
    with watched_run(folder, *arguments, "--ckpt_path=last") as watched:
        moment = strike_at(watched, strike, seconds)
        code = watched.finish()
    if moment is None:
        return None
    last = folder / "checkpoints" / "last.ckpt"
    return {
        "signal": strike.signal.name,
        "seconds": round(moment.time - watched.started, 2),
        "phase": moment.phase,
        "epoch": moment.epoch,
        "step": moment.step,
        "exit_status": code,
        "said_how_to_go_on": "--ckpt_path=last goes on" in watched.last_lines(),
        "goes_on_from_step": load_training_checkpoint(last)["global_step"] if last.exists() else 0,
        "files_that_do_not_open": files_that_do_not_open(folder),
        "left_behind": left_behind(folder),
    }


def compare(peaceful: Path, broken: Path) -> dict[str, Any]:
    """How two finished runs differ."""
    names = sorted(path.relative_to(peaceful) for path in peaceful.rglob("*.ckpt"))
    pairs = [(peaceful / name, broken / name) for name in names]
    differences = [f"{b.name}: {d}" for a, b in pairs for d in checkpoint_differences(a, b)]
    encoders = [(f / "encoder" / "model.safetensors").read_bytes() for f in (peaceful, broken)]
    if encoders[0] != encoders[1]:
        differences.append("encoder/model.safetensors")
    logs = [read_logs(folder)["train_loss"] for folder in (peaceful, broken)]
    # What a killed run had not yet flushed to its log is logged again by the next.
    differences += [f"train_loss of step {s}" for s in logs[0] if logs[0][s] != logs[1].get(s)]
    return {
        "checkpoints": [path.name for path, _ in pairs],
        "tensors": sum(count_tensors(load_training_checkpoint(path)) for path, _ in pairs),
        "losses": len(logs[0]),
        "differences": differences,
    }


def main(
    output: Path = Path("runs/hold_up/interruptions"),
    count: int = 20,
    epochs: int = 40,
    seed: int = 0,
) -> None:
    """Print a row for each interruption and what differs at the end; exit with 1 if anything does.

    Args:
        output: Folder for both runs and for interruptions.json; new or empty.
        count: Interruptions.
        epochs: Of the run; about a second each.
        seed: Seed of the moments; both runs have seed 0.
    """
    new_folder(output)
    arguments = (
        *SMALL,
        *(f"--trainer.max_epochs={epochs}", "--keep_every_n_epochs=10", "--data.num_workers=1"),
    )
    start = time.time()
    peaceful = run_through(output / "peaceful", *arguments).moments()
    seconds = durations(peaceful)
    print(f"uninterrupted: {time.time() - start:.0f} s; seconds of a phase:", seconds)
    steps = peaceful[-1].step
    # Two epochs less, so that a strike in the last phase of one still falls into the run.
    strikes = draw_strikes(count, steps - 2 * steps // epochs, random.Random(seed))
    rows = []
    print("signal   at s  phase       epoch  step  status  on from  files not whole, left behind")
    for strike in tqdm(strikes, desc="Interruptions"):
        row = interrupt(output / "broken", strike, seconds, *arguments)
        if row is None:
            break
        rows.append(row)
        tqdm.write(
            f"{row['signal']} {row['seconds']:6.1f}  {row['phase']:10} {row['epoch']:6} "
            f"{row['step']:5} {row['exit_status']:7} {row['goes_on_from_step']:8}  "
            f"{', '.join(row['files_that_do_not_open'] + row['left_behind']) or '-'}"
        )
    run_through(output / "broken", *arguments)
    results = compare(output / "peaceful", output / "broken") | {
        "left_behind": left_behind(output / "broken"),
        "files_that_do_not_open": files_that_do_not_open(output / "broken"),
    }
    settings = {"count": count, "epochs": epochs, "seed": seed, "seconds": time.time() - start}
    write_json(
        output / "interruptions.json",
        {**settings, **versions(), "phases": seconds, "interruptions": rows, "end": results},
    )
    differences = results["differences"]
    broken = [file for found in (*rows, results) for file in found["files_that_do_not_open"]]
    print(
        f"{len(rows)} interruptions; {results['tensors']} tensors of "
        f"{len(results['checkpoints'])} checkpoints and {results['losses']} losses compared: "
        f"{'; '.join(differences) or 'the same, bit for bit'}"
    )
    if differences or broken or len(rows) < count:
        sys.exit(1)


if __name__ == "__main__":
    run(main)
