"""The tokens: they reach the style sheets and Gradio, and everything written in them can be read."""

from dataclasses import fields

import pytest

from ui.chat.page import ASSETS
from ui.theme import DARK, LIGHT, Palette, css_variables, gradio_theme

TEXT_ON = {
    "ink": ("page", "surface", "raised", "tint"),
    "muted": ("page", "surface", "raised"),
    "accent": ("page", "surface", "raised"),
    "danger": ("page", "surface", "raised"),
    "warn": ("page", "surface", "raised"),
    "ok": ("page", "surface"),
    "on_accent": ("accent",),
    "code_keyword": ("surface",),
    "code_string": ("surface",),
    "code_number": ("surface",),
}
PALETTES = pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def test_the_contrast_formula_is_the_known_one() -> None:
    assert contrast("#000000", "#FFFFFF") == pytest.approx(21)
    assert contrast("#767676", "#FFFFFF") == pytest.approx(4.54, abs=0.01)


@PALETTES
def test_every_text_colour_can_be_read_on_what_it_stands_on(palette: Palette) -> None:
    pairs = {(text, ground) for text, grounds in TEXT_ON.items() for ground in grounds}
    ratios = {pair: contrast(getattr(palette, pair[0]), getattr(palette, pair[1])) for pair in pairs}
    assert {pair: ratio for pair, ratio in ratios.items() if ratio < 4.5} == {}


@PALETTES
def test_the_edge_of_a_field_can_be_seen(palette: Palette) -> None:
    assert contrast(palette.edge, palette.page) >= 3
    assert contrast(palette.edge, palette.surface) >= 3


def test_every_colour_is_a_variable_in_both_themes() -> None:
    light, dark = css_variables().split(".dark")
    for field in fields(Palette):
        name = f"--haina-{field.name.replace('_', '-')}"
        assert f"{name}: {getattr(LIGHT, field.name)};" in light
        assert f"{name}: {getattr(DARK, field.name)};" in dark


def test_motion_ends_where_the_reader_wants_none() -> None:
    # Not among the variables: Gradio loses a media query around `:root`.
    _, rules = (ASSETS / "base.css").read_text("utf-8").split("@media (prefers-reduced-motion: reduce)")
    assert "animation: none !important" in rules
    assert "transition: none !important" in rules


def test_gradio_draws_in_the_same_colours_and_fetches_no_font() -> None:
    theme = gradio_theme()
    assert vars(theme)["body_background_fill"] == LIGHT.page
    assert vars(theme)["body_background_fill_dark"] == DARK.page
    assert theme._stylesheets == []
    assert theme._font_css == []


def test_style_sheets_name_colours_by_their_token_only() -> None:
    for sheet in ASSETS.glob("*.css"):
        text = sheet.read_text("utf-8").replace("#haina", "").replace("#000", "")  # ids, and the mask's opaque
        assert "#" not in text, sheet.name


def test_every_variable_that_a_style_sheet_names_is_defined() -> None:
    defined = set(css_variables().replace(";", " ").replace(":", " ").split())
    defined |= {"--haina-height"}  # set by main.js: the visible part above a phone's keyboard
    for sheet in ASSETS.glob("*.css"):
        named = {part.split(")")[0].split(",")[0] for part in sheet.read_text("utf-8").split("var(")[1:]}
        assert {name for name in named if name.startswith("--haina-")} <= defined, sheet.name
