"""Draws the console's markup: Jinja templates in which everything that is put in is escaped."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache, partial

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from app.domain.words import Language, category_name
from ui.admin.words import name_of, say


def draw(template: str, *, language: Language, **values: object) -> str:
    """Return a template of `templates/` filled in; `t("key")` inside it says words in the reader's language."""
    return (
        _environment()
        .get_template(template)
        .render(
            **values,
            language=language,
            t=partial(say, language=language),
            name_of=partial(name_of, language=language),
            category_name=partial(category_name, language=language),
        )
    )


def moment(at: datetime | None) -> Markup:
    """Return a time; the script shows it in the reader's own zone."""
    if at is None:
        return Markup("–")
    at = at.astimezone(UTC)
    return Markup('<time datetime="{}">{} UTC</time>').format(at.isoformat(), at.strftime("%Y-%m-%d %H:%M"))


def in_language(texts: Mapping[str, str], language: Language) -> str:
    """Return the text in the reader's language, or in whichever there is."""
    return texts.get(language) or next(iter(texts.values()), "")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ui.admin"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["moment"] = moment
    environment.filters["in_language"] = in_language
    return environment
