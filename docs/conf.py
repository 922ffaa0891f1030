"""How Sphinx builds the site that ``make docs`` writes to ``build/docs``."""

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

import star_head

project = "star-head"
author = "The star-head developers"
version = release = star_head.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
highlight_language = "none"

# The docs extra leaves it out, since it brings 53 packages.
autodoc_mock_imports = ["stable_pretraining"]
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
# A role in a docstring that leads nowhere is a warning; other libraries' pages are not linked.
nitpicky = True
nitpick_ignore_regex = [("py:class", r"(collections|numpy|os|pathlib|PIL|torch)\..+")]
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Shape"]

html_theme = "furo"
pygments_style = "default"
pygments_dark_style = "monokai"
html_title = f"star-head {release}"
html_math_renderer = "mathml"
html_copy_source = False
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["wide.css"]
# Not on what a program printed, nor on a diff.
copybutton_selector = "div:not(.highlight-text, .highlight-diff) > div.highlight > pre"


def rebase_links(app: Sphinx, path: Path, parent: str, content: list[str]) -> None:
    """Let a file of the repository's root, included here, link to what its links mean there."""

    def rebase(link: re.Match[str]) -> str:
        text, target = link.groups()
        if target.startswith("docs/"):
            return f"[{text}]({target.removeprefix('docs/')})"
        if target in ("CHANGELOG.md", "CONTRIBUTING.md"):
            return f"[{text}]({target.lower()})"
        # A file is copied into the site; a folder, or a page outside docs/, cannot be.
        if target.endswith(".md") or Path(app.srcdir, "..", target).is_dir():
            return text
        return f"[{text}](../{target})"

    if path.parent == Path(".."):
        content[0] = re.sub(r"\[([^]]+)\]\((?!\w+:|#)([^)]+)\)", rebase, content[0])


def visit_math(writer: Any, node: nodes.math | nodes.math_block) -> None:
    """Write a formula as MathML, which browsers show without a script."""
    as_block = isinstance(node, nodes.math_block)
    formula = tex2mathml(node.astext(), as_block=as_block)
    # Without a mathematical font, a browser prints what is marked as an accent into its letter.
    formula = formula.replace(' accent="true"', "")
    writer.body.append(f"<p>{formula}</p>" if as_block else formula)
    raise nodes.SkipNode


def shorten_types(app: Sphinx, doctree: nodes.document) -> None:
    """Write ``Any`` for the ``~typing.Any`` that Sphinx leaves in a type with literals."""
    for text in list(doctree.findall(nodes.Text)):
        if re.fullmatch(r"~(\w+\.)+\w+", text):
            text.parent.replace(text, nodes.Text(text.rpartition(".")[2]))


def setup(app: Sphinx) -> None:
    """Connect the functions above."""
    app.connect("include-read", rebase_links)
    app.connect("doctree-read", shorten_types)
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math, None))
