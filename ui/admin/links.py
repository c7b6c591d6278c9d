"""Addresses within the console: a page's name and its parameters, as they stand behind the `#` of the address."""

from urllib.parse import urlencode


def link(page: str, **parameters: str | int | bool) -> str:
    """Return `page?name=value`; what is empty, zero or False is left out, and True becomes a ticked box."""
    given = {name: "on" if value is True else str(value) for name, value in parameters.items() if value}
    return f"{page}?{urlencode(given)}" if given else page
