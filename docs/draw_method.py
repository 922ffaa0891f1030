"""The drawing of the method in README: `python -m docs.draw_method` writes it.

Plain text and shapes, so that the file is the same on every machine. It brings its own ground and
follows the reader's light or dark mode.
"""

from collections.abc import Iterator
from html import escape
from pathlib import Path

PICTURE = Path(__file__).parent / "method.svg"

WIDTH, HEIGHT = 900, 424

# A colour in light mode and in dark mode. Both are legible on the ground of the same mode.
COLOURS = {
    "ground": ("#ffffff", "#14181f"),
    "box": ("#f1f3f6", "#242b36"),
    "line": ("#5b6675", "#a3afbf"),
    "text": ("#1b2430", "#e8edf3"),
    "inv": ("#1b62b5", "#7db8ff"),
    "eq": ("#a84300", "#ffa55c"),
}
KNOWN = "what was done to make each view (crop, flip, colour, blur)"
# How much of each of the four experts the two tasks take, as widths of lines.
SHARES = {"inv": (5.0, 2.5, 1.5, 0.8), "eq": (0.8, 1.5, 2.5, 5.0)}


def style() -> str:
    """Classes for what is drawn; the second half of each colour is dark mode's."""
    light, dark = (
        " ".join(f"--{name}: {both[mode]};" for name, both in COLOURS.items()) for mode in (0, 1)
    )
    return f"""\
<style>
  svg {{ {light} }}
  @media (prefers-color-scheme: dark) {{ svg {{ {dark} }} }}
  text {{ font: 14px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: var(--text); }}
  .small {{ font-size: 13px; }}
  .middle {{ text-anchor: middle; }}
  .ground {{ fill: var(--ground); stroke: var(--line); stroke-opacity: 0.35; }}
  .box {{ fill: var(--box); stroke: var(--line); stroke-width: 1.5; }}
  .head {{ fill: none; stroke: var(--line); stroke-dasharray: 5 5; }}
  .flow {{ fill: none; stroke: var(--line); stroke-width: 1.5; }}
  .inv {{ stroke: var(--inv); }}
  .eq {{ stroke: var(--eq); }}
  text.inv {{ fill: var(--inv); stroke: none; }}
  text.eq {{ fill: var(--eq); stroke: none; }}
  marker path {{ stroke: none; }}
</style>"""


def markers() -> str:
    """Arrow heads, one for each colour of a line."""
    heads = [
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0 8 4 0 8Z" '
        f'style="fill: var(--{name})"/></marker>'
        for name in ("line", "inv", "eq")
    ]
    return "<defs>\n" + "\n".join(heads) + "\n</defs>"


def text(x: float, y: float, words: str, kind: str = "middle") -> str:
    """One line of words, its middle at x unless its kind says otherwise."""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(words)}</text>'


def box(left: float, top: float, width: float, height: float, *lines: str, kind: str = "") -> str:
    """A box with up to two lines of words in its middle."""
    shape = (
        f'<rect x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}" rx="6" '
        f'class="{f"box {kind}".strip()}"/>'
    )
    first = top + height / 2 + 5 - 9 * (len(lines) - 1)
    words = [
        text(left + width / 2, first + 18 * i, line, f"middle {kind}".strip())
        for i, line in enumerate(lines)
    ]
    return "\n".join([shape, *words])


def flow(path: str, kind: str = "line") -> str:
    """A line that ends in an arrow."""
    return f'<path d="{path}" class="flow {kind}" marker-end="url(#{kind})"/>'


def picture(name: str, left: float, top: float, placed: str, sky: str, sail: str) -> str:
    """A boat, seen through a square window: moved, turned round and coloured as a view would be."""
    return f"""\
<clipPath id="{name}"><rect x="{left:g}" y="{top:g}" width="64" height="64" rx="5"/></clipPath>
<g clip-path="url(#{name})"><g transform="translate({left:g} {top:g}) {placed}">
  <rect x="-64" y="-64" width="192" height="192" fill="{sky}"/>
  <rect x="-64" y="46" width="192" height="82" fill="#3f7fb0"/>
  <path d="M12 42H52L45 53H19Z" fill="#7a4a2a"/>
  <path d="M31 39V10L12 39Z" fill="{sail}"/>
  <path d="M34 39V16L48 39Z" fill="#f4efe4"/>
</g></g>"""


def images() -> Iterator[str]:
    """The image, its two views, and what is known of how they were made."""
    yield picture("view1", 24, 64, "translate(84 -26) scale(-1.6 1.6)", "#e9cfa4", "#d9822b")
    yield picture("image", 24, 176, "", "#bfe0f2", "#c8373a")
    yield picture("view2", 24, 288, "translate(-14 -8) scale(1.25)", "#8fa9b8", "#8c2f63")
    yield text(56, 56, "view 1")
    yield text(66, 170, "image")
    yield text(56, 369, "view 2")
    yield flow("M40 174V132")
    yield flow("M40 242V284")
    yield text(48, 150, "a₁", "small")
    yield text(48, 268, "a₂", "small")
    yield text(
        24, 404, "a₁, a₂: what was done to make each view (crop, flip, colour, blur)", "small"
    )
    yield flow("M474 400H656V360")


def backbone() -> Iterator[str]:
    """What is trained, and kept."""
    for start in ("M92 96C120 96 112 190", "M92 208C104 208 120 208", "M92 320C120 320 112 226"):
        yield flow(f"{start} 138 {start.split()[-1]}")
    yield '<path d="M140 158 228 176V240L140 258Z" class="box"/>'
    yield text(183, 213, "backbone")
    yield text(184, 280, "kept after", "small middle")
    yield text(184, 296, "training", "small middle")
    yield '<path d="M228 208H256" class="flow"/>'
    yield flow("M256 208H284")
    yield flow("M256 208V88H284")
    yield flow("M256 208V328H284")


def bank() -> Iterator[str]:
    """Experts that both tasks share, each task's router, and the mixtures."""
    tops = [144 + 34 * i for i in range(4)]
    for task, y, widths in (("inv", 144, SHARES["inv"]), ("eq", 272, SHARES["eq"])):
        for top, width in zip(tops, widths, strict=True):
            yield (
                f'<path d="M430 {top + 13}L474 {y}" class="flow {task}" '
                f'style="stroke-width: {width:g}"/>'
            )
    for top, name in zip(tops, ("expert 1", "expert 2", "…", "expert N"), strict=True):
        yield box(286, top, 144, 26, name)
    yield box(286, 72, 144, 32, "invariant router", kind="inv")
    yield box(286, 312, 144, 32, "equivariant router", kind="eq")
    yield flow("M430 88H474V126", "inv")
    yield flow("M430 328H474V290", "eq")
    yield text(482, 104, "weights", "small")
    yield text(482, 324, "weights", "small")
    for task, y in (("inv", 144), ("eq", 272)):
        yield f'<circle cx="474" cy="{y}" r="16" class="box {task}"/>'
        yield text(474, y + 5, "Σ", f"middle {task}")
        yield flow(f"M490 {y}H516", task)


def tasks() -> Iterator[str]:
    """Embeddings, the predictor and the two losses."""
    yield box(518, 120, 104, 48, "invariant", "embedding", kind="inv")
    yield box(518, 248, 104, 48, "equivariant", "embedding", kind="eq")
    yield flow("M622 144H742", "inv")
    yield flow("M622 272H742", "eq")
    yield text(674, 136, "views 1, 2", "small middle")
    yield text(674, 264, "views 1, 2", "small middle")
    yield flow("M570 296V336H604", "eq")
    yield text(577, 312, "image", "small")
    yield box(606, 316, 100, 40, "predictor", kind="eq")
    yield flow("M706 336H812V300", "eq")
    yield text(734, 354, "predicted for views 1, 2", "small")
    yield box(744, 120, 136, 48, "invariant loss", "(NT-Xent)", kind="inv")
    yield box(744, 248, 136, 48, "equivariant loss", "(NT-Xent)", kind="eq")
    yield text(812, 213, "trained on their sum", "small middle")


def draw() -> str:
    """The whole picture as text of an SVG file."""
    title = (
        "STAR: a backbone's features go through experts that both tasks share. A router for each "
        "task mixes them into an invariant and an equivariant embedding. The invariant loss "
        "compares two views; the equivariant loss compares each with what is predicted for it."
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-label="{escape(title)}">',
            style(),
            markers(),
            f'<rect x="1" y="1" width="{WIDTH - 2}" height="{HEIGHT - 2}" rx="10" class="ground"/>',
            '<rect x="268" y="30" width="458" height="348" rx="10" class="head"/>',
            text(497, 52, "projection head: dropped after training", "small middle"),
            *images(),
            *backbone(),
            *bank(),
            *tasks(),
            "</svg>",
            "",
        ]
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
