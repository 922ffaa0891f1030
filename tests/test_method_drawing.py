"""The drawing of the method in README."""

from xml.etree import ElementTree

import pytest

from docs import draw_method


def luminance(colour: str) -> float:
    """Relative luminance, as the Web Content Accessibility Guidelines define it."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_the_file_is_what_the_script_draws() -> None:
    assert draw_method.PICTURE.read_text(encoding="utf-8") == draw_method.draw()


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("ground", ["ground", "box"])
@pytest.mark.parametrize("ink", ["text", "inv", "eq"])
def test_words_are_legible_in_both_modes(ink: str, ground: str, mode: int) -> None:
    one, other = (luminance(draw_method.COLOURS[name][mode]) for name in (ink, ground))
    contrast = (max(one, other) + 0.05) / (min(one, other) + 0.05)
    assert contrast >= 4.5  # of the guidelines, for words of this size


def test_all_parts_of_the_method_are_in_it() -> None:
    root = ElementTree.fromstring(draw_method.draw())
    words = " ".join(
        "".join(element.itertext()) for element in root.iter() if "text" in element.tag
    )
    for part in (
        "image", "view 1", "view 2", "backbone", "expert 1", "expert N", "invariant router",
        "equivariant router", "predictor", "invariant loss", "equivariant loss",
    ):  # fmt: skip
        assert part in words
    assert words.count("embedding") == 2


def test_all_is_drawn_within_the_picture() -> None:
    root = ElementTree.fromstring(draw_method.draw())
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    assert (width, height) == (draw_method.WIDTH, draw_method.HEIGHT)
    placed = [element for element in root if {"x", "y"} <= element.attrib.keys()]
    assert len(placed) > 30
    for element in placed:
        x, y, w, h = (float(element.attrib.get(k, 0)) for k in ("x", "y", "width", "height"))
        assert 0 <= x <= x + w <= width, element.attrib
        assert 0 <= y <= y + h <= height, element.attrib
