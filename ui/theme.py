"""Design tokens: colours, type and shape, in one place. They feed Gradio's theme and the CSS variables alike.

A style sheet names a token as `var(--haina-ink)`; nothing else in `ui` writes a colour, a font or a radius.
"""

from dataclasses import dataclass, fields

import gradio as gr

SANS = (
    "Inter",
    "Segoe UI",
    "-apple-system",
    "PingFang SC",
    "Microsoft YaHei",
    "Noto Sans SC",
    "Noto Sans CJK SC",
    "sans-serif",
)
"""System fonts: nothing is fetched. Debian packages Noto's Chinese under the longer name."""
MONO = ("ui-monospace", "SF Mono", "Cascadia Mono", "Consolas", "monospace")

SIZES_PX = {"small": 13, "body": 15, "lead": 17, "title": 22}
RADIUS_PX = 10
MOTION_MS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Palette:
    """The colours of one theme, as `#RRGGBB`."""

    page: str
    surface: str
    raised: str
    ink: str
    muted: str
    line: str
    edge: str
    """The border of a thing one can type into or press: 3 to 1 against the page, where `line` only divides."""
    accent: str
    on_accent: str
    tint: str
    warn: str
    danger: str
    ok: str
    code_keyword: str
    code_string: str
    code_number: str


LIGHT = Palette(
    page="#FBFAF7",
    surface="#FFFFFF",
    raised="#F3F1EB",
    ink="#1B252C",
    muted="#5B6870",
    line="#E4E0D6",
    edge="#8B8F8C",
    accent="#0F6B6B",
    on_accent="#FFFFFF",
    tint="#E2F0EE",
    warn="#8A5A10",
    danger="#B0332A",
    ok="#2A734A",
    code_keyword="#7A3E9D",
    code_string="#2A6B3F",
    code_number="#9A4A12",
)
DARK = Palette(
    page="#0F1518",
    surface="#161E22",
    raised="#1D272C",
    ink="#E6ECEE",
    muted="#95A3AA",
    line="#27333A",
    edge="#64747C",
    accent="#55B8AD",
    on_accent="#06201E",
    tint="#143230",
    warn="#E0A84A",
    danger="#F08A80",
    ok="#6CC08B",
    code_keyword="#C9A3E8",
    code_string="#8FCB9F",
    code_number="#E2AA78",
)


def css_variables() -> str:
    """Return the style sheet that defines every `--haina-…` variable, for light and for dark.

    Gradio marks the dark theme with the class `dark` on the body.
    """
    shape = {
        "sans": _font_family(SANS),
        "mono": _font_family(MONO),
        **{f"size-{name}": f"{size}px" for name, size in SIZES_PX.items()},
        "radius": f"{RADIUS_PX}px",
        "motion": f"{MOTION_MS}ms",
    }
    light, dark = _declarations(_colours(LIGHT)), _declarations(_colours(DARK))
    return f":root {{ color-scheme: light; {_declarations(shape)} {light} }}\n.dark {{ color-scheme: dark; {dark} }}\n"


def system_colours() -> str:
    """Return what makes a page without Gradio dark where the system is, unless the reader chose light."""
    dark = _declarations(_colours(DARK))
    return f"@media (prefers-color-scheme: dark) {{ :root:not(.light) {{ color-scheme: dark; {dark} }} }}\n"


def gradio_theme() -> gr.themes.Base:
    """Return Gradio's theme in the same tokens, for what Gradio draws itself."""
    steps = ("xxs", "xs", "sm", "md", "lg", "xl", "xxl")
    radius = gr.themes.Size(name="radius_haina", **dict.fromkeys(steps, f"{RADIUS_PX}px"))
    theme = gr.themes.Base(font=list(SANS), font_mono=list(MONO), radius_size=radius)
    settings: dict[str, str] = {}
    for variable, token in _GRADIO_COLOURS.items():
        settings[variable] = getattr(LIGHT, token)
        settings[f"{variable}_dark"] = getattr(DARK, token)
    # This one variable has no dark twin, so it follows ours.
    theme.set(**settings, color_accent="var(--haina-accent)", **dict.fromkeys(_GRADIO_WITHOUT_SHADOW, "none"))
    return theme


_GRADIO_COLOURS = {
    "body_background_fill": "page",
    "body_text_color": "ink",
    "body_text_color_subdued": "muted",
    "background_fill_primary": "surface",
    "background_fill_secondary": "raised",
    "block_background_fill": "surface",
    "block_border_color": "line",
    "block_label_background_fill": "surface",
    "block_label_text_color": "muted",
    "block_title_text_color": "ink",
    "border_color_primary": "line",
    "border_color_accent": "accent",
    "color_accent_soft": "tint",
    "link_text_color": "accent",
    "link_text_color_hover": "accent",
    "link_text_color_active": "accent",
    "link_text_color_visited": "accent",
    "input_background_fill": "surface",
    "input_border_color": "edge",
    "input_border_color_focus": "accent",
    "input_placeholder_color": "muted",
    "panel_background_fill": "raised",
    "panel_border_color": "line",
    "table_border_color": "line",
    "table_even_background_fill": "surface",
    "table_odd_background_fill": "surface",
    "table_row_focus": "tint",
    "table_text_color": "ink",
    "button_primary_background_fill": "accent",
    "button_primary_background_fill_hover": "accent",
    "button_primary_border_color": "accent",
    "button_primary_text_color": "on_accent",
    "button_secondary_background_fill": "surface",
    "button_secondary_background_fill_hover": "raised",
    "button_secondary_border_color": "edge",
    "button_secondary_text_color": "ink",
    "button_cancel_background_fill": "surface",
    "button_cancel_background_fill_hover": "raised",
    "button_cancel_border_color": "danger",
    "button_cancel_text_color": "danger",
    "checkbox_background_color_selected": "accent",
    "checkbox_border_color_selected": "accent",
    "slider_color": "accent",
    "loader_color": "accent",
    "error_text_color": "danger",
}
"""Gradio's variable → our token."""
_GRADIO_WITHOUT_SHADOW = (
    "block_shadow",
    "button_primary_shadow",
    "button_secondary_shadow",
    "input_shadow",
    "shadow_drop",
)
"""Hairlines instead of shadows."""


def _colours(palette: Palette) -> dict[str, str]:
    return {field.name.replace("_", "-"): getattr(palette, field.name) for field in fields(palette)}


def _declarations(values: dict[str, str]) -> str:
    return " ".join(f"--haina-{name}: {value};" for name, value in values.items())


def _font_family(names: tuple[str, ...]) -> str:
    return ", ".join(f'"{name}"' if " " in name else name for name in names)
