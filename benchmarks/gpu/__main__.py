"""All that is promised of a GPU, measured on one: a table, a JSON file, and an error if one breaks.

    python -m benchmarks.gpu                  # on the GPU, ten minutes at most; or on the CPU, tiny
    python -m benchmarks.gpu --parts head step

Downloads nothing. A part whose packages are not installed is left out by name. One that fails or
takes too long is named, and the rest goes on; promises.py has the bars.
"""

import argparse
import contextlib
import datetime
import importlib.metadata
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import star_head
from benchmarks.cost_points import device_name
from benchmarks.gpu.cases import Row, read_rows
from benchmarks.gpu.part import PARTS
from benchmarks.gpu.promises import PROMISES, problems
from benchmarks.gpu.table import table_of
from star_head._processors import available_processors
from star_head._whole_files import write_json

ROOT = Path(__file__).parents[2]
PACKAGES = ("lightly", "timm", "torchvision", "lightning", "kornia", "triton", "numpy")


def main() -> None:
    """Measure, print, write; exit with 1 where a promise was broken or a part failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--device",
        choices=("cuda", "cpu"),
        default="cuda" if torch.cuda.is_available() else "cpu",
        help="default: cuda where there is one, else cpu, at tiny sizes",
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="for all parts together")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--output", type=Path, default=Path("runs/gpu/results.json"))
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device: expected cpu, got cuda, of which PyTorch finds none here")
    device = torch.device(arguments.device)
    full_size = device.type == "cuda"
    begun = time.perf_counter()
    rows: list[Row] = []
    found: dict[str, Any] = {"machine": describe(device), "full_size": full_size}
    found["promises"] = [
        {"part": p.part, "figure": p.figure, "bar": p.bar(), "text": p.text} for p in PROMISES
    ]
    found["seconds"] = {}
    for number, part in enumerate(arguments.parts):
        started = time.perf_counter()
        left = 60 * arguments.minutes - (started - begun)
        print(f"{part} ...", flush=True)
        seconds = share(arguments.parts[number:]) * left if full_size else left
        rows += run_part(part, str(device), full_size, seconds)
        found["seconds"][part] = time.perf_counter() - started
        found["minutes"] = (time.perf_counter() - begun) / 60
        found["rows"] = [asdict(row) for row in rows]
        found["problems"] = problems(rows, full_size)
        write_json(arguments.output, found)  # what was measured so far is kept
    machine = found["machine"]
    print(f"\n{machine['device']}, torch {machine['torch']}, CUDA {machine['cuda']}")
    print(table_of(rows, full_size))
    print(f"\n{found['minutes']:.1f} minutes; written to {arguments.output}")
    if not full_size:
        print("Tiny sizes without a GPU: promises about speed and memory are not judged.")
    if found["problems"]:
        sys.exit("\n".join(["Not as promised:", *found["problems"]]))


def share(parts: Sequence[str]) -> float:
    """What the first of some parts may take of the time that is left for all."""
    minutes = [PARTS[part].minutes for part in parts]
    return minutes[0] / sum(minutes)


def run_part(part: str, device: str, full_size: bool, seconds: float) -> list[Row]:
    """Rows of a part, run in a process of its own.

    Args:
        part: Its name.
        device: Where it runs.
        full_size: Else tiny.
        seconds: After which it is ended; what it measured until then is kept.
    """
    if seconds <= 0:
        return [Row(part, "all", failed="no time was left; --minutes gives more")]
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "rows.jsonl")
        command = [
            *(sys.executable, "-m", "benchmarks.gpu.part", part),
            *(f"--device={device}", f"--output={output}", *([] if full_size else ["--toy"])),
        ]
        failed = failure_of(command, seconds)
        rows = read_rows(output)
    if failed is not None:
        rows.append(Row(part, "the rest" if rows else "all", failed=failed))
    return rows


def failure_of(command: Sequence[str], seconds: float) -> str | None:
    """Run a process, and say how it failed, None if it did not; what it started ends with it.

    Args:
        command: What is run.
        seconds: After which it is ended.
    """
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    try:
        code = process.wait(seconds)
        return f"its process ended with {code}" if code else None
    except subprocess.TimeoutExpired:
        return f"took more than {seconds:.0f} s"
    finally:
        stop(process)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a process and what it started: by SIGTERM, at which a part clears up, then SIGKILL."""
    with contextlib.suppress(ProcessLookupError):  # none of them is left
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def describe(device: torch.device) -> dict[str, Any]:
    """What the figures depend on."""
    found = {name: version(name) for name in PACKAGES}
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "device": device_name(device),
        "processors": available_processors(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "star-head": star_head.__version__,
        "packages": found,
    }


def version(name: str) -> str | None:
    """Of a package, None where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
