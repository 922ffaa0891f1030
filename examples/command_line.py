"""A typed function as a command line, options spelled with dashes or underscores."""

import os
import re
import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser, DefaultHelpFormatter, auto_cli


def run(
    main: Callable[..., None],
    several: str | None = None,
    *,
    positional: bool = False,
    dotted: str | None = None,
) -> None:
    """Call a function with arguments from the command line; its docstring is the help.

    jsonargparse names an option exactly as the parameter, ``--batch_size``; this takes
    ``--batch-size`` as well, ``--k=20`` where a list is meant, and ``~`` in paths. The help shows
    the examples of the script's docstring.

    Args:
        main: The function.
        several: The parameter, a list of strings, that takes the arguments without a name, where
            jsonargparse would want them in brackets.
        positional: Whether parameters without a default stand behind those, without a name too.
        dotted: The parameter, a list of strings, that takes all arguments with a dot in their name,
            which are another command's.
    """
    arguments = with_lists(with_home(with_underscores(sys.argv[1:])), main)
    help_text = parser_help(sys.modules[main.__module__].__doc__)
    if several is None and dotted is None:
        auto_cli(main, args=arguments, **help_text)
        return
    description = (main.__doc__ or "").partition("\n")[0]
    parser = ArgumentParser(description=description, **help_text)
    if several is not None:
        parser.add_argument(several, nargs="+", help="One or several.")
    own, others = split_dotted(arguments) if dotted else (arguments, [])
    skipped: set[str | int] = {name for name in (several, dotted) if name}
    parser.add_function_arguments(main, skip=skipped, as_positional=positional)
    given = parser.parse_args(own).as_dict()
    main(**given, **({dotted: others} if dotted else {}))


def split_dotted(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Arguments without a dot in their names, and those with one, each with its value.

    Example:
        >>> split_dotted(["--seeds", "3", "--model.backbone", "resnet18", "--data.cache=a.b"])
        (['--seeds', '3'], ['--model.backbone=resnet18', '--data.cache=a.b'])
    """
    own: list[str] = []
    dotted: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        name, equals, _ = argument.partition("=")
        if not (name.startswith("--") and "." in name):
            own.append(argument)
        else:
            dotted.append(argument if equals else f"{argument}={next(rest, '')}")
    return own, dotted


def with_underscores(arguments: Sequence[str]) -> list[str]:
    """Arguments whose options are spelled as parameters are: ``--batch-size`` as ``--batch_size``.

    Example:
        >>> with_underscores(["--batch-size=8", "my-photos", "--data.data-dir", "a-b"])
        ['--batch_size=8', 'my-photos', '--data.data_dir', 'a-b']
    """
    option = re.compile(r"^--[a-z][\w.-]*")
    return [option.sub(lambda name: "--" + name[0][2:].replace("-", "_"), a) for a in arguments]


def with_home(arguments: Sequence[str]) -> list[str]:
    """Arguments with ``~`` as the user's own folder, which a shell leaves alone behind ``=``.

    Example:
        >>> with_home(["--output=~/runs"]) == [f"--output={Path.home() / 'runs'}"]
        True
    """
    parts = [re.fullmatch(r"(--[a-z][\w.]*=)?(~.*)", argument) for argument in arguments]
    return [
        argument if part is None else (part[1] or "") + os.path.expanduser(part[2])
        for argument, part in zip(arguments, parts, strict=True)
    ]


def with_lists(arguments: Sequence[str], main: Callable[..., None]) -> list[str]:
    """Arguments with brackets around what stands for a list without: ``--k=20`` as ``--k=[20]``.

    Args:
        arguments: Arguments of the command line.
        main: The function whose parameters they are.
    """
    several = (list, tuple, Sequence)
    lists = {
        f"--{name}"
        for name, kind in get_type_hints(main).items()
        if any((get_origin(k) or k) in several for k in (kind, *get_args(kind)))
    }
    found = list(arguments)
    for i, argument in enumerate(found):
        option, equals, value = argument.partition("=")
        if option not in lists:
            continue
        if equals:
            found[i] = f"{option}={_bracketed(value)}"
        elif i + 1 < len(found):
            found[i + 1] = _bracketed(found[i + 1])
    return found


def _bracketed(value: str) -> str:
    """A list as jsonargparse reads it, of numbers with commas or spaces, in () or in nothing."""
    if value.startswith("[") or value in ("null", "None"):
        return value
    items = re.split(r"[\s,]+", value.strip("() ,"))
    return f"[{','.join(items)}]"


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
