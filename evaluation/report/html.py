"""Parts of a web page that holds all that it shows: tables, figures, and the page itself."""

import html
from collections.abc import Sequence
from pathlib import Path

_CSS = Path(__file__).with_name("report.css")


def escape(text: object) -> str:
    """Text as it stands in a page."""
    return html.escape(str(text))


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    caption: str = "",
    kind: str = "",
    groups: Sequence[tuple[str, int]] = (),
) -> str:
    """A table whose first column names the rows. Cells are HTML.

    Args:
        columns: A heading for each column.
        rows: The cells of each row.
        caption: What stands under it, HTML.
        kind: "narrow" for one as wide as its cells, "text" for one of words.
        groups: Headings over several columns each, from the second on, and of how many.
    """
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    over = "".join(f'<th scope="colgroup" colspan="{n}">{group}</th>' for group, n in groups)
    above = f'<tr class="groups"><td></td>{over}</tr>\n' if groups else ""
    body = "\n".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for first, *cells in rows
    )
    foot = f"\n<figcaption>{caption}</figcaption>" if caption else ""
    return (
        f'<figure class="table"><table class="{kind}">\n<thead>{above}<tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table>{foot}</figure>"
    )


def figure(source: str, caption: str, description: str) -> str:
    """A picture with what stands under it.

    Args:
        source: A data URI.
        caption: HTML.
        description: For those who do not see it, plain text.
    """
    return (
        f'<figure><img src="{source}" alt="{escape(description)}">\n'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of HTML; ``kind`` is "lead" or "note"."""
    return f'<p class="{kind}">{text}</p>' if kind else f"<p>{text}</p>"


def note(text: str) -> str:
    """A remark, such as on what is left out, from plain text."""
    return paragraph(escape(text), "note")


def number(value: float | None, digits: int = 3, chance: float | None = None) -> str:
    """A number for a table, with what chance gives under it; a dash where there is none."""
    if value is None:
        return "&ndash;"
    text = f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "&minus;")
    return text if chance is None else f"{text}<small>chance level {chance:.{digits}f}</small>"


def page(title: str, introduction: str, sections: Sequence[tuple[str, str]], footer: str) -> str:
    """A whole page, with links to its sections.

    Args:
        title: Plain text.
        introduction: HTML.
        sections: The title, plain text, and the HTML of each.
        footer: HTML.
    """
    links = "".join(
        f'<a href="#section-{i}">{escape(name)}</a>' for i, (name, _) in enumerate(sections, 1)
    )
    body = "\n".join(
        f'<section id="section-{i}">\n<h2>{escape(name)}</h2>\n{content}\n</section>'
        for i, (name, content) in enumerate(sections, 1)
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{_CSS.read_text(encoding="utf-8")}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
{introduction}
<nav>{links}</nav>
</header>
<main>
{body}
</main>
<footer>{footer}</footer>
</body>
</html>
"""
