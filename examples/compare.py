"""Compare STAR with other methods on your images: the same backbone, budget, views and measures.

    star-head compare --dataset folder --data_dir photos --methods simclr,star-mmoe --seeds 3
    star-head compare --config fashion_mnist --methods simclr,equimod,star-mmoe-4 --jobs 2
    star-head compare --dataset digits --trainer.max_epochs=20 --model.backbone=resnet10t

Settings of `star-head pretrain`, such as --model.backbone, --data.batch_size and
--trainer.max_epochs, hold for all methods. Each run is a pretraining in a process of its own, and
its measures are one JSON file; a run that has one is not done again, and one that was interrupted
is resumed. Where all are done, only the table and the page are made anew.
"""

import sys
from pathlib import Path

from star_head._processors import available_processors
from star_head._whole_files import replacing, write_json
from star_head.adapters._images import Color
from star_head.adapters._pixel_range import PixelRange
from star_head.examples.command_line import print_next, run
from star_head.examples.comparing.methods import METHODS, UNTRAINED, check_methods
from star_head.examples.comparing.page import markdown, render
from star_head.examples.comparing.plan import Plan, Run, check_settings, read_config
from star_head.examples.comparing.processes import alone_in, do_all
from star_head.examples.comparing.results import read_comparison
from star_head.examples.data.image_data import DatasetName
from star_head.examples.data.splits import Folders


def main(
    settings: list[str],
    dataset: DatasetName | None = None,
    data_dir: Path | None = None,
    methods: tuple[str, ...] = tuple(METHODS),
    seeds: int = 3,
    config: str | None = None,
    transfer: tuple[str, ...] = (),
    transfer_dir: Path | None = None,
    jobs: int = 1,
    threads: int | None = None,
    output: Path = Path("runs/compare"),
    pixel_range: PixelRange | None = None,
    background: Color | None = None,
    folders: Folders | None = None,
) -> None:
    """Train and measure each method with each seed, and write compare.html and compare.json.

    Args:
        settings: Further settings of `star-head pretrain`, the same for all methods.
        dataset: What to train on; default: that of ``--config``, or digits.
        data_dir: Where its files are, or are fetched to; default: that of ``--config``.
        methods: simclr, equimod, augself, essl, star-ss, star-mmoe, or star-mmoe-N of N experts.
            All others are compared with the first.
        seeds: Runs of each method, of seeds 0, 1, ...
        config: A configuration of `star-head pretrain`: a file, or the name of one shipped.
        transfer: Further labelled data sets to measure on: names that `star-head linear-eval` has,
            or folders of class folders.
        transfer_dir: Where those with names are; default: ``data``.
        jobs: Runs at a time.
        threads: Threads of each; default: the number of processors divided by ``jobs``.
        output: Folder for runs, results and the page.
        pixel_range: For ``folder``, the pixel values (low, high) that become black and white in
            images of more than 8 bits.
        background: For ``folder``, the colour (red, green, blue) under transparent pixels.
        folders: For ``folder``, what the folders at its top are, where their names do not say.
    """
    check_methods(methods)
    for name, value in (
        ("seeds", seeds),
        ("jobs", jobs),
        ("threads", 1 if threads is None else threads),
    ):
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
    check_settings(settings)
    found = None if config is None else read_config(config)
    of_data = {} if found is None else found.get("data", {})
    given_dir = data_dir or of_data.get("data_dir")
    plan = Plan(
        dataset or of_data.get("dataset", "digits"),
        None if given_dir is None else Path(given_dir),
        tuple(transfer),
        transfer_dir,
        pixel_range or of_data.get("pixel_range"),
        background or of_data.get("background"),
        folders or of_data.get("folders"),
        found,
        tuple(settings),
    )
    output = output.expanduser().resolve()
    for line in plan.describe():
        print(line)
    runs = [Run(method, seed) for seed in range(seeds) for method in (UNTRAINED, *methods)]
    with alone_in(output):
        plan.keep(output)
        failed = do_all(runs, output, jobs, threads or max(1, available_processors() // jobs))
        not_done = "not done: " + "\n".join(failed)
        if not any(Run(methods[0], seed).result(output).exists() for seed in range(seeds)):
            sys.exit(not_done)  # there is nothing to compare the others with
        comparison = read_comparison(output / "results", methods, range(seeds))
        write_json(output / "compare.json", comparison.summary())
        with replacing(output / "compare.html") as scratch:
            scratch.write_text(render(comparison, plan.shown()), encoding="utf-8")
    print("\n".join(markdown(comparison)))
    print(f"The page is {output / 'compare.html'}, its numbers are in {output / 'compare.json'}")
    if failed:
        sys.exit(not_done)
    last = output / "runs" / f"{methods[-1]}_0" / "checkpoints" / "last.ckpt"
    print_next(what_a_head_learned=f"star-head analyze {last}")


if __name__ == "__main__":
    run(main, dotted="settings")
