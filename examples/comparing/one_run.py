"""Does one run of a comparison, in a process of its own: trains, and measures what came out.

python -m star_head.examples.comparing.one_run OUTPUT METHOD SEED THREADS STARTED
"""

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch

from star_head._whole_files import write_json
from star_head.evaluation import Encoder, open_encoder
from star_head.examples.comparing.measures import Stopwatch, measure_encoder, measure_run
from star_head.examples.comparing.methods import UNTRAINED
from star_head.examples.comparing.plan import Plan, Run
from star_head.examples.pretrain import create_cli, train


def do(output: Path, run: Run, threads: int, started: float) -> None:
    """Write the run's JSON file.

    Args:
        output: Folder of the comparison.
        run: Which is done.
        threads: How many it has.
        started: The system's time when this was asked for, before anything was imported.
    """
    torch.set_num_threads(threads)
    plan = Plan.read(output)
    folder = run.folder(output)
    sys.argv[1:] = plan.pretrain_arguments(run, output, threads)
    cli = create_cli()
    if cli.trainer.world_size > 1:
        raise ValueError(
            f"trainer.devices: expected one device for a run, got {cli.trainer.world_size}; --jobs "
            f"does several runs at a time"
        )
    found: dict[str, Any] = {
        "dataset": plan.title,
        "method": run.method,
        "seed": run.seed,
    }
    # As `star-head pretrain` takes it too: imports, and building model and data.
    seconds: dict[str, Any] = {"start": time.time() - started}
    data = plan.load()
    watch = Stopwatch()
    device = cli.trainer.strategy.root_device
    if run.method == UNTRAINED:
        views = cli.datamodule.transform
        encoder = Encoder(cli.model.star.backbone, views.input_size, views.normalize)
        epochs = cli.trainer.max_epochs
    else:
        before = time.perf_counter()
        train(cli)
        seconds["training"] = time.perf_counter() - before
        found |= measure_run(folder, data, device, watch, threads - 1)
        encoder = open_encoder(folder / "encoder")
        epochs = found["epochs"]
    encoder.backbone.to(device)
    found |= {"epochs": epochs, **measure_encoder(encoder, data, watch, threads - 1)}
    seconds |= {"evaluation": watch.seconds, "all": time.time() - started}
    write_json(run.result(output), found | {"seconds": seconds})


def end_with_parent() -> None:
    """Wait until standard input ends, as it does with the process that holds its other end.

    Then this one ends at once, which no file minds: each is written whole.
    """
    os.read(0, 1)
    os._exit(1)


def main() -> None:
    """Do the run that the command line names."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    output, method, seed, threads, started = sys.argv[1:]
    do(Path(output), Run(method, int(seed)), int(threads), float(started))


if __name__ == "__main__":
    main()
