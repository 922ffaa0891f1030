"""One part in a process of its own: what it breaks or leaves behind is gone with it."""

import argparse
import importlib
import signal
import sys
from pathlib import Path
from typing import NamedTuple

from benchmarks.gpu.cases import run_cases
from benchmarks.gpu.sizes import FULL, TOY


class Part(NamedTuple):
    """Where cases are found, and for how long they may run.

    Attributes:
        function: Gives the cases: its module in this folder, and its name.
        minutes: Its share of ten; what earlier parts leave of theirs is shared by the later ones.
    """

    function: str
    minutes: float


# The important first, in case there is no time for all. Together ten minutes.
PARTS = {
    "agreement": Part("agreement.cases", 0.75),
    "head": Part("head.eager_cases", 1.25),
    "loss": Part("loss.cases", 0.75),
    "step": Part("step.cases", 1.5),
    "resume": Part("resume.cases", 1.25),
    "stl10": Part("stl10.cases", 2.75),
    "views": Part("views.cases", 0.75),
    "compiled": Part("head.compiled_cases", 1),
}


def main() -> None:
    """Run the part that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--toy", action="store_true", help="tiny sizes")
    parser.add_argument("--output", type=Path, required=True, help="JSON lines, a row each")
    arguments = parser.parse_args()
    # Unwinds, so that runs it started end, and folders it made are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    module, _, function = PARTS[arguments.part].function.partition(".")
    find_cases = getattr(importlib.import_module(f"benchmarks.gpu.{module}"), function)
    sizes = TOY if arguments.toy else FULL
    run_cases(arguments.part, find_cases(arguments.device, sizes), arguments.output)


if __name__ == "__main__":
    main()
