"""Take images away from a pretraining, or spoil them, and go on when they are back.

    python -m benchmarks.hold_up.lost_files

Runs examples/pretrain.py, by its command line and with two loader workers, on a folder of image
files that scikit-learn's digits are written to. After the first epoch a file is deleted, cut off in
its midst or overwritten by noise, or a whole class folder is moved away. The run must stop and name
a file; then it must not go on without that file as if nothing were; and with the file in its place
again it must end with the very weights of a run that never lost one. The paper has no figure to
compare this with.
"""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.hold_up.run_files import checkpoint_differences
from benchmarks.hold_up.watched_run import SMALL, new_folder, run_through, versions, watched_run
from star_head._whole_files import write_json
from star_head.examples.command_line import run
from star_head.examples.data.image_data import load_images

# A multiple of the batch, so that every epoch reads every file.
IMAGES, BATCH = 360, 90
LOST = "class3/0002.png"


def cut_off(path: Path) -> None:
    """Leave the first half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwrite(path: Path) -> None:
    """Fill a file with noise."""
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "cut off": cut_off,
    "noise": overwrite,
    "folder moved away": lambda path: path.parent.rename(path.parent.with_name(".moved")),
}


def write_digits(folder: Path) -> None:
    """Write digits as PNG files in a folder for each class."""
    digits = load_images("digits").pretrain
    for index in range(IMAGES):
        image, label = digits[index]
        path = folder / f"class{label}" / f"{index:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.resize((16, 16)).save(path)


def lose(
    damage: Callable[[Path], object], images: Path, spare: Path, folder: Path, *arguments: str
) -> dict[str, Any]:
    """Start a run, spoil its images, and see it stop; then try without them, and with them again.

    Args:
        damage: What happens to a file.
        images: Which the run reads.
        spare: The same images, kept.
        folder: Folder of the run.
        *arguments: Of the run.
    """
    with watched_run(folder, *arguments) as watched:
        watched.wait_for(lambda moment: moment.phase == "training" and moment.epoch >= 1)
        damage(images / LOST)
        found: dict[str, Any] = {"exit_status": watched.finish(), "error": watched.last_lines(1)}
    with watched_run(
        folder, *arguments, "--data.skip_unreadable=true", "--ckpt_path=last"
    ) as watched:
        found |= {"exit_status_without": watched.finish(), "error_without": watched.last_lines(1)}
    shutil.rmtree(images)
    shutil.copytree(spare, images)
    run_through(folder, *arguments)
    return found


def main(output: Path = Path("runs/hold_up/lost_files"), epochs: int = 5) -> None:
    """Print what each loss led to; exit with 1 if a run did not stop, went on without, or differs.

    Args:
        output: Folder for the runs and for lost_files.json; new or empty.
        epochs: Of the runs.
    """
    new_folder(output)
    images, spare = output / "images", output / "spare"
    write_digits(spare)
    shutil.copytree(spare, images)
    arguments = (
        *SMALL,
        *("--data.dataset=folder", f"--data.data_dir={images}", f"--data.batch_size={BATCH}"),
        *("--data.num_workers=2", f"--trainer.max_epochs={epochs}"),
    )
    run_through(output / "peaceful", *arguments)
    results = {}
    for name, damage in tqdm(DAMAGES.items(), desc="Losses"):
        folder = output / name.replace(" ", "_")
        found = lose(damage, images, spare, folder, *arguments)
        last = Path("checkpoints", "last.ckpt")
        found["differences_at_the_end"] = checkpoint_differences(
            output / "peaceful" / last, folder / last
        )
        results[name] = found
    write_json(output / "lost_files.json", {"epochs": epochs, **versions(), "losses": results})
    for name, found in results.items():
        print(f"{name}: ended with {found['exit_status']}: {found['error']}")
        print(f"    without it: {found['exit_status_without']}: {found['error_without']}")
        differences = found["differences_at_the_end"]
        print(f"    with it again: {'; '.join(differences) or 'the same, bit for bit'}")
    if not all(
        found["exit_status"]
        and "images/class3" in found["error"]
        and found["exit_status_without"]
        and not found["differences_at_the_end"]
        for found in results.values()
    ):
        sys.exit(1)


if __name__ == "__main__":
    run(main)
