"""Token ids to text while they arrive: whole code points only, control tokens never, nothing of a stop string.

The idea: decode a short window of tokens each time one comes; what is new in its text is the piece. A text that ends in
U+FFFD may end inside a code point: what that can change waits for the next tokens, everything before it is certain. The
window begins anew where a text ends cleanly, and keeps the last tokens to tell whether a leading space belongs to it.
That works for byte-level BPE and for byte fallback alike.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

REPLACEMENT = "\ufffd"
CONTEXT_TOKENS = 6
"""How much of the prompt's end a decoder must see to know whether a leading space belongs to the text."""
MAX_UNCERTAIN = 3
"""Characters. A code point has four bytes at most, so no more than three U+FFFD at an end can still become another."""
MAX_WINDOW = 24
"""Tokens. Bytes that never become text have no clean end; from this many on a place to begin is looked for in them."""


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
        context = decoder.decode(tail) if tail else ""
        self._window = [] if context.endswith(REPLACEMENT) else tail
        self._context = len(self._window)  # tokens of the window that only stand before the text
        self._shown = len(context) if self._window else 0  # characters of the window's text that are out already

    def push(self, token_id: int) -> str:
        """Return the text that is now certain; often nothing, or more than one token's."""
        if token_id in self._hidden_ids:
            return ""
        self._window.append(token_id)
        text = self._decoder.decode(self._window)
        broken = len(text) - len(text.rstrip(REPLACEMENT))
        piece = text[self._shown : len(text) - min(broken, MAX_UNCERTAIN)]
        self._shown += len(piece)
        if not broken:
            del self._window[: self._context]
            self._context = len(self._window)
            self._shown = len(self._decoder.decode(self._window))
        elif len(self._window) > MAX_WINDOW:
            self._shorten(text)
        return piece

    def finish(self) -> str:
        """Return what was held back, without the piece of a code point at its end."""
        return self._decoder.decode(self._window)[self._shown :].rstrip(REPLACEMENT) if self._window else ""

    def _shorten(self, text: str) -> None:
        """Begin the window among broken bytes, if no code point lies across that place: the halves have the same text.

        What is left is enough for an unfinished code point, and for three characters U+FFFD that the model does mean.
        """
        cut = len(self._window) - MAX_WINDOW // 2
        before, after = (self._decoder.decode(part) for part in (self._window[:cut], self._window[cut:]))
        if before + after == text and len(before) <= self._shown:
            del self._window[:cut]
            self._context = 0
            self._shown -= len(before)


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
