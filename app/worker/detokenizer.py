"""Token ids to text while they arrive: whole code points only, control tokens never, nothing of a stop string.

The idea: decode a short window twice, once without and once with the new tokens; the difference is the new text. A
window that ends in U+FFFD may end inside a code point, so it waits for the next token. That works for byte-level BPE
and for byte fallback, where one wrong byte spoils the decoding of all bytes around it.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

REPLACEMENT = "\ufffd"
CONTEXT_TOKENS = 6
"""How much of the prompt's end a decoder must see to know whether a leading space belongs to the text."""
MAX_HELD_TOKENS = 16
"""A code point is four bytes at most; more tokens than this without an end are not one, and are shown as they are."""


class Decoder(Protocol):
    """A tokenizer, as far as it is needed here."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of the ids, control tokens included."""
        ...


class Detokenizer:
    """One growing text. The pieces, put together, are the decoded tokens without `hidden_ids`."""

    def __init__(self, decoder: Decoder, *, hidden_ids: Collection[int], prompt_ids: Sequence[int] = ()) -> None:
        self._decoder = decoder
        self._hidden_ids = hidden_ids
        tail = list(prompt_ids[-CONTEXT_TOKENS:])
        # After a control token a text begins: a space that only marks a beginning does not belong to it.
        begins = [at for at, token_id in enumerate(tail, start=1) if token_id in hidden_ids]
        tail = tail[begins[-1] if begins else 0 :]
        if tail and decoder.decode(tail).endswith(REPLACEMENT):
            tail = []
        self._window = tail
        self._shown = len(tail)  # tokens of the window whose text is out already

    def push(self, token_id: int) -> str:
        """Return the text that is now certain; often nothing, or more than one token's."""
        if token_id in self._hidden_ids:
            return ""
        self._window.append(token_id)
        text = self._decoder.decode(self._window)
        if text.endswith(REPLACEMENT) and len(self._window) - self._shown < MAX_HELD_TOKENS:
            return ""
        return self._advance(text)

    def finish(self) -> str:
        """Return what was held back, without the piece of a code point at its end."""
        if self._shown == len(self._window):
            return ""
        return self._advance(self._decoder.decode(self._window)).rstrip(REPLACEMENT)

    def _advance(self, text: str) -> str:
        before = self._decoder.decode(self._window[: self._shown]) if self._shown else ""
        del self._window[: self._shown]
        self._shown = len(self._window)
        return text[len(before) :]


class StopStrings:
    """Looks for stop strings in a growing text and holds back what may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""

    def push(self, text: str) -> tuple[str, str | None]:
        """Return the text that is free and the stop string that was met, if any: what follows is then dropped."""
        if not self._stops:
            return text, None
        held = self._held + text
        found = [(place, -len(stop), stop) for stop in self._stops if (place := held.find(stop)) >= 0]
        if found:
            place, _, stop = min(found)
            self._held = ""
            return held[:place], stop
        keep = max(_overlap(held, stop) for stop in self._stops)
        free = len(held) - keep
        self._held = held[free:]
        return held[:free], None

    def finish(self) -> str:
        """Return what was held back: the text is over, so it was no stop string."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of `text` that is a beginning, but not all, of `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-n:])), 0)
