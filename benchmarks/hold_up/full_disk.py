"""Let the disk become full while a pretraining runs and while results are written.

    python -m benchmarks.hold_up.full_disk               # by a limit on the size of files
    sudo python -m benchmarks.hold_up.full_disk --size=24 # on a file system in memory, really full

Runs examples/pretrain.py on scikit-learn's digits, by its command line, until it has saved a
checkpoint; then there is room for less than another. The run must stop and name the file, the last
checkpoint must be whole and nothing else under a final name be broken; once there is room again,
the run is resumed, and must end with the very weights of one that had room all the time. Then
whatever else the examples write meets the same disk. The paper has no figure to compare this with.
"""

import contextlib
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.hold_up.run_files import checkpoint_differences, files_that_do_not_open, left_behind
from benchmarks.hold_up.watched_run import (
    SMALL,
    WatchedRun,
    new_folder,
    run_through,
    versions,
    watched_run,
)
from star_head._whole_files import write_json
from star_head.adapters.timm import create_backbone, export_encoder
from star_head.evaluation import extract_features
from star_head.evaluation.preparation import Encoder
from star_head.examples.command_line import run
from star_head.examples.data.image_cache import cache_images
from star_head.examples.data.image_data import load_images
from star_head.examples.data.image_folder import find_images
from star_head.examples.training.checkpoints import SafeCheckpointIO, load_training_checkpoint


@contextlib.contextmanager
def file_system(folder: Path, size: int) -> Iterator[None]:
    """A file system of so many megabytes, in memory, at a folder; needs the rights of root."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@contextlib.contextmanager
def filled(folder: Path, room: int) -> Iterator[None]:
    """Leave so many bytes free on the file system of a folder, and free the others at the end."""
    ballast = folder / ".ballast"
    block = bytes(2**20)
    try:
        with open(ballast, "wb") as file:
            while (free := shutil.disk_usage(folder).free) > room:
                file.write(block[: free - room])
                file.flush()
        yield
    finally:
        ballast.unlink()


@contextlib.contextmanager
def limited(size: int, process: int = 0) -> Iterator[None]:
    """Let a process, this one unless given, write no file beyond so many bytes."""
    soft, hard = resource.prlimit(process, resource.RLIMIT_FSIZE)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(process, resource.RLIMIT_FSIZE, (soft, hard))


def stop_for_want_of_room(folder: Path, fill: Callable[[WatchedRun], Any], *arguments: str) -> Any:
    """Start a run, leave it no room once it has saved its first checkpoint, and see it stop."""
    with watched_run(folder, *arguments) as watched:
        watched.wait_for(lambda moment: moment.phase == "training" and moment.epoch >= 1)
        with fill(watched):
            code = watched.finish()
    return {
        "exit_status": code,
        "error": watched.last_lines(1),
        "goes_on_from_step": load_training_checkpoint(folder / "checkpoints/last.ckpt")[
            "global_step"
        ],
        "files_that_do_not_open": files_that_do_not_open(folder),
        "left_behind": left_behind(folder),
    }


def writers(folder: Path, images: Path) -> dict[str, tuple[Path, Callable[[], object]]]:
    """Everything that the examples write by more than a line: its place, and what writes it.

    Args:
        folder: Where to.
        images: A folder of image files.
    """
    encoder = Encoder(create_backbone("test_resnet"), 16, {"mean": [0.5] * 3, "std": [0.5] * 3})
    checkpoint = {"state_dict": encoder.backbone.state_dict()}
    digits = load_images("digits").pretrain
    paths = find_images(images)
    return {
        "checkpoint": (
            folder / "model.ckpt",
            lambda: SafeCheckpointIO().save_checkpoint(checkpoint, folder / "model.ckpt"),
        ),
        "JSON": (
            folder / "results.json",
            lambda: write_json(folder / "results.json", {"numbers": list(range(200_000))}),
        ),
        "exported encoder": (
            folder / "encoder",
            lambda: export_encoder(encoder.backbone, folder / "encoder", input_size=16),
        ),
        "features": (
            folder / "features",
            lambda: extract_features(encoder, digits, cache=folder / "features", num_workers=0),
        ),
        "image cache": (folder / "images", lambda: cache_images(paths, folder / "images")),
    }


def write_without_room(folder: Path, place: Path, write: Callable[[], object]) -> dict[str, Any]:
    """What a writer raises, and whether it leaves the disk as it found it."""
    before = contents(folder)
    try:
        write()
        error = "none"
    except OSError as raised:
        error = str(raised)
    return {
        "error": error,
        "names_the_file": str(place) in error,
        "leaves_all_as_it_was": contents(folder) == before,
    }


def contents(folder: Path) -> dict[Path, bytes]:
    """All files in a folder, but for what fills the disk."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != ".ballast")
    return {path: path.read_bytes() for path in paths}


def main(
    output: Path = Path("runs/hold_up/full_disk"),
    size: int | None = None,
    room: int = 500_000,
    epochs: int = 5,
) -> None:
    """Print what each writer said on the full disk and what was left; exit with 1 if any failed.

    Args:
        output: Folder for the runs and for full_disk.json; new or empty.
        size: Of a file system in memory to fill, in megabytes, which needs the rights of root;
            else files are limited in size instead.
        room: Bytes that are left free, or that files may have; a checkpoint has 3.2 million.
        epochs: Of the run; about a second each.
    """
    new_folder(output)
    arguments = (*SMALL, f"--trainer.max_epochs={epochs}", "--data.num_workers=1")
    run_through(output / "roomy", *arguments)
    images, disk = output / "images", output / "disk"
    images.mkdir()
    disk.mkdir()
    for i, pixels in enumerate(np.random.default_rng(0).integers(256, size=(20, 120, 120, 3))):
        Image.fromarray(pixels.astype(np.uint8)).save(images / f"{i}.png")
    with file_system(disk, size) if size else contextlib.nullcontext():
        stopped = stop_for_want_of_room(
            disk,
            lambda watched: filled(disk, room) if size else limited(room, watched.process.pid),
            *arguments,
        )
        run_through(disk, *arguments)
        differences = checkpoint_differences(
            output / "roomy/checkpoints/last.ckpt", disk / "checkpoints/last.ckpt"
        )
        found = {}
        torch.manual_seed(0)
        for name, (path, write) in writers(disk / "others", images).items():
            with filled(disk, room) if size else limited(room):
                found[name] = write_without_room(disk, path, write)
    results = {"full": f"{size} MB" if size else "limit on files", "run": stopped}
    write_json(
        output / "full_disk.json",
        {**results, **versions(), "differences_at_the_end": differences, "writers": found},
    )
    print(f"the run ended with {stopped['exit_status']}: {stopped['error']}")
    bad = stopped["files_that_do_not_open"] + stopped["left_behind"]
    print(f"left: a checkpoint of step {stopped['goes_on_from_step']}; not whole: {bad or 'none'}")
    print(f"after going on: {'; '.join(differences) or 'the same weights and state, bit for bit'}")
    for name, result in found.items():
        print(f"{name}: {result['error']}")
    fine = all(r["names_the_file"] and r["leaves_all_as_it_was"] for r in found.values())
    named = str(disk / "checkpoints") in stopped["error"]
    if differences or bad or not stopped["exit_status"] or not named or not fine:
        sys.exit(1)


if __name__ == "__main__":
    run(main)
