"""A typed function as a command line, options spelled with dashes or underscores."""

import re
import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, DefaultHelpFormatter, auto_cli


def run(main: Callable[..., None], several: str | None = None) -> None:
    """Call a function with arguments from the command line; its docstring is the help.

    jsonargparse names an option exactly as the parameter, ``--batch_size``; this takes
    ``--batch-size`` as well. The help shows the examples of the script's docstring.

    Args:
        main: The function.
        several: The parameter, a list of strings, that takes all arguments without a name, where
            jsonargparse would want them in brackets.
    """
    arguments = with_underscores(sys.argv[1:])
    help_text = parser_help(sys.modules[main.__module__].__doc__)
    if several is None:
        auto_cli(main, args=arguments, **help_text)
        return
    description = (main.__doc__ or "").partition("\n")[0]
    parser = ArgumentParser(description=description, **help_text)
    parser.add_argument(several, nargs="+", help="One or several.")
    parser.add_function_arguments(main, skip={several})
    main(**parser.parse_args(arguments).as_dict())


def with_underscores(arguments: Sequence[str]) -> list[str]:
    """Arguments whose options are spelled as parameters are: ``--batch-size`` as ``--batch_size``.

    Example:
        >>> with_underscores(["--batch-size=8", "my-photos", "--data.data-dir", "a-b"])
        ['--batch_size=8', 'my-photos', '--data.data_dir', 'a-b']
    """
    option = re.compile(r"^--[a-z][\w.-]*")
    return [option.sub(lambda name: "--" + name[0][2:].replace("-", "_"), a) for a in arguments]


def parser_help(script: str | None) -> dict[str, Any]:
    """What a parser says of the command besides its options: its name, and examples.

    Args:
        script: The script's docstring, in which examples are indented by four spaces.
    """
    examples = re.findall(r"^    \S.*(?:\n        .*)*", script or "", re.MULTILINE)
    return {
        "prog": f"star-head {Path(sys.argv[0]).stem.replace('_', '-')}",
        "epilog": "\n".join(["examples:", *(line.replace("    ", "  ") for line in examples)]),
        "formatter_class": _HelpFormatter,
    }


def print_next(**steps: str) -> None:
    """Say which commands a user would go on with.

    Args:
        **steps: Each command by what it is for.
    """
    print("Next:")
    for purpose, command in steps.items():
        print(f"  {command}    # {purpose.replace('_', ' ')}")


class _HelpFormatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Keeps the line breaks between examples."""
