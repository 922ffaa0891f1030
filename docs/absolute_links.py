"""Make a page's relative links and pictures absolute, for where it is shown without the repository.

    python -m docs.absolute_links README.md https://HOST/OWNER/NAME v0.2.0

The package index shows README alone, so the release workflow rewrites it before it builds.
Addresses are GitHub's: ``raw`` for a picture, ``blob`` for a page.
"""

import re
import sys
from pathlib import Path

LINK = re.compile(r"\]\((?!\w+:|#)([^)]+)\)")
PICTURES = (".png", ".svg")
FENCED = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)


def absolute(text: str, repository: str, tag: str) -> str:
    """The text with every relative link under the repository's address at a tag.

    Fenced code is left alone, and so is what has an address already or points into the page.

    >>> absolute("[cost](docs/cost.md#the-head)", "https://host/a/b", "v1")
    '[cost](https://host/a/b/blob/v1/docs/cost.md#the-head)'
    """

    def point(link: re.Match[str]) -> str:
        target = link[1]
        kind = "raw" if target.endswith(PICTURES) else "blob"
        return f"]({repository.rstrip('/')}/{kind}/{tag}/{target})"

    parts = FENCED.split(text)
    parts[::2] = [LINK.sub(point, part) for part in parts[::2]]
    return "".join(parts)


def main() -> None:
    """Rewrite the file that is named, in place."""
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    path = Path(sys.argv[1])
    path.write_text(absolute(path.read_text(encoding="utf-8"), *sys.argv[2:]), encoding="utf-8")


if __name__ == "__main__":
    main()
