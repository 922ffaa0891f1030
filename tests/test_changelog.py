"""CHANGELOG.md has the form of Keep a Changelog 1.1.0."""

import re
from pathlib import Path

import star_head

TEXT = (Path(__file__).parent.parent / "CHANGELOG.md").read_text(encoding="utf-8")
KINDS = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
DATED = r"\d+\.\d+\.\d+ - \d{4}-\d{2}-\d{2}"


def sections() -> dict[str, str]:
    """What stands under each heading of a version, the newest first."""
    parts = re.split(r"^## (.*)\n", TEXT, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_top_is_what_is_not_released_yet() -> None:
    headings = list(sections())
    assert headings[0] == "Unreleased"
    # 0.1.0 alone has no date: it was never published.
    assert all(heading == "0.1.0" or re.fullmatch(DATED, heading) for heading in headings[1:])


def test_the_newest_version_is_the_packages_and_the_citations() -> None:
    newest = list(sections())[1]
    assert newest.partition(" ")[0] == star_head.__version__
    cited = (Path(__file__).parent.parent / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {star_head.__version__}\n" in cited


def test_every_entry_is_of_a_kind() -> None:
    for heading, text in sections().items():
        before, *kinds = re.split(r"^### (.*)\n", text, flags=re.MULTILINE)
        assert "\n- " not in before, heading
        names = kinds[::2]
        assert names == [kind for kind in KINDS if kind in names], heading  # each once, in order
        for name, entries in zip(names, kinds[1::2], strict=True):
            assert entries.strip().startswith("- "), (heading, name)
            for line in filter(None, entries.splitlines()):
                assert line.startswith(("- ", "  ")), line
