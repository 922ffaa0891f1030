"""A typed function as a command line, options spelled with dashes or underscores."""

import re
import sys
from collections.abc import Callable

from jsonargparse import ArgumentParser, auto_cli


def run(main: Callable[..., None], several: str | None = None) -> None:
    """Call a function with arguments from the command line; its docstring is the help.

    jsonargparse names an option exactly as the parameter, ``--batch_size``; this takes
    ``--batch-size`` as well.

    Args:
        main: The function.
        several: The parameter, a list of strings, that takes all arguments without a name, where
            jsonargparse would want them in brackets.
    """
    dashes = re.compile(r"^--[a-z][\w.-]*")
    arguments = [
        dashes.sub(lambda name: "--" + name[0][2:].replace("-", "_"), argument)
        for argument in sys.argv[1:]
    ]
    if several is None:
        auto_cli(main, args=arguments)
        return
    parser = ArgumentParser(description=(main.__doc__ or "").partition("\n")[0])
    parser.add_argument(several, nargs="+", help="One or several.")
    parser.add_function_arguments(main, skip={several})
    main(**parser.parse_args(arguments).as_dict())
