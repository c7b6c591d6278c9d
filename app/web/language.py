"""The reader's language."""

from starlette.requests import HTTPConnection

from app.domain.words import LANGUAGE_COOKIE, Language, preferred_language


def language_of(connection: HTTPConnection) -> Language:
    """Return what the switch was set to, else what the browser prefers."""
    return preferred_language(connection.cookies.get(LANGUAGE_COOKIE), connection.headers.get("accept-language", ""))
