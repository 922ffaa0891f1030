"""The table of known operations in docs/views.md: `python -m docs.known_operations` fills it in."""

from pathlib import Path

from benchmarks.page_blocks import fill_page, table
from star_head.adapters._kornia.geometry import GEOMETRY
from star_head.adapters._kornia.intensity import INTENSITY
from star_head.adapters._recorded import own, v1, v2
from star_head.adapters._recorded.operation import Fixed, Known
from star_head.augmentation import ParameterSpec

PAGE = Path(__file__).parent / "views.md"


def _number(number: ParameterSpec) -> str:
    neutral = number.neutral if isinstance(number.neutral, str) else f"{number.neutral:g}"
    return f"{number.name} ({number.unit}; {neutral})"


def operations() -> list[str]:
    """Lines of the table: each class of operations, where it is from, and its numbers."""
    sources = {"torchvision": v1.KNOWN, "torchvision v2": v2.KNOWN, "lightly": own.KNOWN}
    found: dict[tuple[str, bool, tuple[ParameterSpec, ...]], list[str]] = {}
    for source, known in sources.items():
        for name, entry in known.items():
            found.setdefault((name, isinstance(entry, Fixed), entry.numbers), []).append(source)
    rows = [
        (f"`{name}`", ", ".join(of), ", ".join(map(_number, numbers)))
        for (name, fixed, numbers), of in sorted(found.items(), key=lambda item: item[0][:2])
        if not fixed
    ]
    return table(("operation", "of", "numbers (unit; neutral value)"), rows)


def fixed() -> list[str]:
    """A sentence with the classes that do the same to every image."""
    names: dict[str, Known] = {**v1.KNOWN, **v2.KNOWN, **own.KNOWN}
    listed = ", ".join(f"`{name}`" for name in sorted(names) if isinstance(names[name], Fixed))
    return [f"Without anything random: {listed}.", ""]


def kornias() -> list[str]:
    """Lines of the table of kornia's augmentations, in which each is of kornia alone."""
    known = {**GEOMETRY, **INTENSITY}
    rows = [
        (f"`{name}`", ", ".join(map(_number, entry.numbers)))
        for name, entry in sorted(known.items())
        if not entry.fixed
    ]
    return table(("augmentation", "numbers (unit; neutral value)"), rows)


def kornias_fixed() -> list[str]:
    """A sentence with those that do the same to every image."""
    names = sorted(name for name, entry in {**GEOMETRY, **INTENSITY}.items() if entry.fixed)
    listed = ", ".join(f"`{name}`" for name in names)
    return [f"Without anything random, unless `p` is less than 1: {listed}.", ""]


def blocks() -> dict[str, list[str]]:
    """What stands in the page, by the names of its markers."""
    return {
        "operations": operations(),
        "fixed": fixed(),
        "kornia": kornias(),
        "kornia fixed": kornias_fixed(),
    }


if __name__ == "__main__":
    fill_page(PAGE, blocks())
