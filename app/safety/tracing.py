"""What is kept of a text that is not kept: a fingerprint, its length, and a guess at its language.

The fingerprint is an HMAC over the normalised text. Its key is derived from the server's secret and the day, so the
same text is known again within a day, in any spelling that the filter sees through, and on no other day. Without the
secret nobody can try out texts against it.
"""

import hmac
import unicodedata
from datetime import UTC, datetime
from hashlib import sha256

from app.domain.models import TextTrace
from app.domain.verdicts import SealedText
from app.safety.normalise import FOLDED

_PURPOSE = b"haina hit digest "
_DIGITS = 32
_LETTERS_OF_A_CHARACTER = 4
"""A Chinese character says about as much: a few English names do not make a Chinese question English."""


class HmacTracer:
    """`app.domain.ports.Tracer` with the server's secret."""

    def __init__(self, secret: str) -> None:
        """Keep the secret."""
        self._secret = secret.encode()

    def trace(self, text: SealedText, *, at: datetime) -> TextTrace:
        """Return its fingerprint with the key of the day of `at` (in UTC), its length and its language."""
        raw = text.unsealed()
        key = hmac.digest(self._secret, _PURPOSE + at.astimezone(UTC).date().isoformat().encode(), sha256)
        normalised = " ".join("".join(FOLDED[char] for char in raw).split())
        digest = hmac.new(key, normalised.encode("utf-8", "surrogatepass"), sha256).hexdigest()[:_DIGITS]
        return TextTrace(digest=digest, length=len(raw), language=language_of(raw))


def language_of(text: str) -> str:
    """Return `zh`, `en` or `other`, by the scripts of its letters: French counts as `en`, Japanese as `other`."""
    chinese = latin = other = 0
    for char in text:
        if char.isascii():
            latin += char.isalpha()
        elif char.isalpha():
            name = unicodedata.name(char, "")
            if name.startswith("CJK "):
                chinese += 1
            elif "LATIN" in name:
                latin += 1
            else:
                other += 1
    chinese *= _LETTERS_OF_A_CHARACTER
    if not (chinese or latin) or other * _LETTERS_OF_A_CHARACTER >= chinese + latin:
        return "other"
    return "zh" if chinese >= latin else "en"
