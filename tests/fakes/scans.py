"""A scan fed as slowly as can be, held to what every scan promises: places only rise, and nothing is decided twice."""

from app.safety.detector import Match, Scan


def read_slowly(scan: Scan, text: str, *, most_held: int | None = None) -> list[Match]:
    """Feed character by character to the end; return what was found. `most_held` bounds what stands behind."""
    found: list[Match] = []
    safe = 0
    for fed, char in enumerate(text, 1):
        scan.feed(char)
        new = list(scan.take())
        assert all(match.start >= safe for match in new)
        assert safe <= scan.safe_upto <= fed
        safe = scan.safe_upto
        assert most_held is None or fed - safe <= most_held
        found += new
    scan.finish()
    new = list(scan.take())
    assert all(match.start >= safe for match in new)
    assert scan.safe_upto == len(text)
    return found + new
