"""A typed function as a command line, options spelled with dashes or underscores."""

import re
import sys
from collections.abc import Callable

from jsonargparse import auto_cli


def run(main: Callable[..., None]) -> None:
    """Call a function with arguments from the command line; its docstring is the help.

    jsonargparse names an option exactly as the parameter, ``--batch_size``; this takes
    ``--batch-size`` as well.
    """
    dashes = re.compile(r"^--[a-z][a-z-]*")
    auto_cli(
        main,
        args=[
            dashes.sub(lambda name: "--" + name[0][2:].replace("-", "_"), argument)
            for argument in sys.argv[1:]
        ],
    )
