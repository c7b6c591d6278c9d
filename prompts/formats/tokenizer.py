"""Text to token ids such that text stays text: nothing that anybody types becomes a token that steers the model.

Two kinds of tokens steer. Those that the tokenizer marks as special are switched off in text by the library. Others are
not marked: in the official files `<reserved_107>`, Baichuan2's sign for the assistant, is a word like any other. Such a
word is cut after its first character, and its parts are encoded apart; they decode to the same text.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import tokenizers

from app.domain.errors import InvalidInput
from prompts.formats import sentencepiece_model
from prompts.formats.decoder import Decoder


class Tokenizer:
    """A model's tokenizer, for text that is not trusted. May be used from many threads.

    Nothing is cached: 4,000 tokens take 3 ms.
    """

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        """`inner` is taken over: special tokens in text are switched off in it."""
        inner.encode_special_tokens = True
        inner.no_padding()
        inner.no_truncation()
        # By hand: the library would leave it out before a space, and put it before each part of a text that is cut.
        self._prefix = sentencepiece_model.take_prefix(inner)
        self._inner = inner
        self._decoder = Decoder(inner)
        added = inner.get_added_tokens_decoder()
        steering = {
            token_id: token
            for token_id, token in added.items()
            if token.special or not sentencepiece_model.is_plain_symbol(token.content)
        }
        unknown = getattr(inner.model, "unk_token", None)  # stands for text that the vocabulary lacks: not forbidden
        self._forbidden_ids = frozenset(one for one, token in steering.items() if token.content != unknown)
        self._to_cut = _anywhere(token.content for token in steering.values() if not token.special)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the tokenizer of a `tokenizer.json`'s text. Raises InvalidInput where it is none."""
        try:
            return cls(tokenizers.Tokenizer.from_str(text))
        except Exception as error:  # the library raises nothing narrower
            raise InvalidInput(f"not a tokenizer.json: {error}") from error

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Return the tokenizer of a `tokenizer.json`. Raises InvalidInput where it cannot be read."""
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"{path.name} cannot be read") from error

    def to_json(self) -> str:
        """Return the whole tokenizer as the text of a `tokenizer.json`."""
        text = str(self._inner.to_str())
        if not self._prefix:
            return text
        whole = tokenizers.Tokenizer.from_str(text)
        sentencepiece_model.give_prefix(whole)
        return str(whole.to_str())

    def encode_plain(self, text: str) -> tuple[int, ...]:
        """Return the ids of a text, whatever it says; never a control token.

        Raises InvalidInput where the vocabulary has no other way to write it (Baichuan2's and SmolLM2's always have).
        """
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # JSON can carry half a character
        ids: list[int] = []
        for part in self._parts(self._prefix + text if text else text):
            ids += self._inner.encode(part, add_special_tokens=False).ids
        if not self._forbidden_ids.isdisjoint(ids):
            raise InvalidInput("the text contains a control token of this model")
        return tuple(ids)

    def count(self, text: str) -> int:
        """Return how many tokens a text is."""
        return len(self.encode_plain(text))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text; control tokens stand for none."""
        return self._decoder.decode(ids, skip_special_tokens=True)

    def id_of(self, token: str) -> int | None:
        """Return the id of one token of the vocabulary; None where there is no such token."""
        found: int | None = self._inner.token_to_id(token)
        return found

    def _parts(self, text: str) -> list[str]:
        if self._to_cut is None:
            return [text]
        cuts = [found.start() + 1 for found in self._to_cut.finditer(text)]
        return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def from_sentencepiece(path: Path) -> Tokenizer:
    """Return the tokenizer of Baichuan's `tokenizer.model`; `to_json()` of it makes a `tokenizer.json`.

    Raises InvalidInput where the file cannot be read, or is not of Baichuan's kind.
    """
    return Tokenizer(sentencepiece_model.convert(path))


def _anywhere(words: Iterable[str]) -> re.Pattern[str] | None:
    """Return a pattern that finds where any of the words begins, also where they overlap; None without words."""
    alternatives = "|".join(re.escape(word) for word in sorted(words))
    return re.compile(f"(?={alternatives})") if alternatives else None
