"""The shipped settings of pretraining runs, found by their names."""

from pathlib import Path

_FOLDER = Path(__file__).parent


def config_names() -> list[str]:
    """The names of the shipped configurations.

    Example:
        >>> "stl10_resnet18" in config_names()
        True
    """
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def find_config(name: str) -> str:
    """The path of a shipped configuration, or ``name`` itself where that is a file.

    Raises:
        FileNotFoundError: If there is neither.
    """
    shipped = _FOLDER / f"{name}.yaml"
    if Path(name).expanduser().is_file():
        return str(Path(name).expanduser())
    if name in config_names():
        return str(shipped)
    raise FileNotFoundError(
        f"config: expected a file, or one of {', '.join(config_names())}; got {name!r}"
    )


def describe_configs() -> str:
    """A line for each shipped configuration: its name, and what it says of itself."""
    width = max(map(len, config_names()))
    return "\n".join(
        f"{name:{width}}  {(_FOLDER / f'{name}.yaml').read_text().partition(chr(10))[0][2:]}"
        for name in config_names()
    )
