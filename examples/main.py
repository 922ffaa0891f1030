"""The command ``star-head``: runs the scripts beside this file from wherever the wheel lies.

    star-head --help
    star-head pretrain --config stl10_resnet18
    star-head configs

``star-head NAME ...`` and, in a checkout, ``python examples/NAME.py ...`` are the same code.
"""

import runpy
import sys
from collections.abc import Mapping
from importlib.util import find_spec

from star_head import __version__
from star_head.examples.configs import describe_configs

COMMANDS: Mapping[str, str] = {
    "quickstart": "pretrain a small encoder on digits and see what it learned, in minutes",
    "pretrain": "pretrain an encoder by a YAML file: the paper's runs, or your images",
    "linear-eval": "linear evaluation of an encoder's frozen features",
    "knn-eval": "weighted k-nearest-neighbour accuracy of an encoder's frozen features",
    "few-shot": "5-way few-shot accuracy of an encoder's frozen features",
    "compare": "train STAR and other methods on your images alike, and compare them on one page",
    "detection": "train Faster R-CNN on Pascal VOC, with the encoder frozen or finetuned",
    "segmentation": "segment images by an encoder's frozen features",
    "finetune": "finetune an encoder and a classifier on labelled images",
    "analyze": "one page on what pretrained heads learned: routing, redundancy, equivariance",
    "export-encoder": "turn a checkpoint into an encoder that timm opens",
    "plot-run": "draw the curves of a pretraining run",
    "configs": "list the configurations for `pretrain --config NAME`",
}

# What the scripts import that the core does not bring; all of it comes with one extra.
_NEEDED = (
    "jsonargparse",
    "lightly",
    "lightning",
    "matplotlib",
    "scipy",
    "sklearn",
    "timm",
    "torchmetrics",
    "torchvision",
    "tqdm",
)


def main() -> None:
    """Run the script that the first argument names, with the arguments after it."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(_help())
        return
    if name == "--version":
        print(f"star-head {__version__}")
        return
    command = name.replace("_", "-")
    if command not in COMMANDS:
        sys.exit(f"star-head: no command {name!r}; expected one of {', '.join(COMMANDS)}")
    if command == "configs":
        if arguments:
            sys.exit(f"star-head configs: expected no arguments, got {' '.join(arguments)}")
        print(describe_configs())
        return
    if missing := _missing():
        sys.exit(f"star-head {command} needs {', '.join(missing)}: {_INSTALL}")
    sys.argv[1:] = arguments
    runpy.run_module(
        f"star_head.examples.{command.replace('-', '_')}", run_name="__main__", alter_sys=True
    )


_INSTALL = 'pip install "star-head[examples]"'


def _missing() -> list[str]:
    return [package for package in _NEEDED if find_spec(package) is None]


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [
        "usage: star-head COMMAND ...",
        "",
        "Projection heads that make an encoder invariant and equivariant at once (STAR): train,",
        "evaluate, look inside.",
        "",
        *(f"  {name:{width}}  {purpose}" for name, purpose in COMMANDS.items()),
        "",
        "`star-head COMMAND --help` shows a command's options and examples.",
    ]
    if missing := _missing():
        lines.append(f"Not installed: {', '.join(missing)}; all commands but configs need them.")
        lines.append(f"To install them: {_INSTALL}")
    return "\n".join(lines)
