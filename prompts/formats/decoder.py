"""Token ids to text, exactly as SentencePiece does it, for every tokenizer of `tokenizers`.

A model with byte fallback writes what its vocabulary lacks byte by byte. Where such bytes are no UTF-8, SentencePiece
replaces each wrong byte and keeps the others; the library's own decoder gives up all bytes around a wrong one. So the
wrong ones are taken out before the library decodes.
"""

import re
from collections.abc import Sequence
from itertools import groupby

import tokenizers

REPLACEMENT = "\ufffd"
_ESCAPED = re.compile("[\udc80-\udcff]")  # how Python hands on a byte that is no UTF-8


class Decoder:
    """A tokenizer's way back. May be used from many threads."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer
        has_bytes = getattr(tokenizer.model, "byte_fallback", False)
        found = [tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in range(256 if has_bytes else 0)]
        ids = [one for one in found if one is not None]
        self._ids = ids if len(ids) == len(found) else []
        self._bytes = {token_id: byte for byte, token_id in enumerate(self._ids)}

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        """Return the text; an id that the vocabulary lacks stands for none."""
        if not self._bytes.keys().isdisjoint(ids):
            ids = self._mended(ids)
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens))

    def _mended(self, ids: Sequence[int]) -> list[int]:
        """Return the ids with the bytes of U+FFFD in place of each byte that is no UTF-8 where it stands."""
        mended: list[int] = []
        for is_byte, run in groupby(ids, self._bytes.__contains__):
            if is_byte:
                text = bytes(self._bytes[one] for one in run).decode("utf-8", "surrogateescape")
                mended += (self._ids[byte] for byte in _ESCAPED.sub(REPLACEMENT, text).encode())
            else:
                mended += run
        return mended
