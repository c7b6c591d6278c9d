"""A text → what the model reads of it: one window, or several that overlap where the text is too long for one.

No torch. The tokenizer itself cuts: each window has the special tokens that a whole text has.
"""

from dataclasses import dataclass

from tokenizers import Tokenizer

_OVERLAP = 4
"""Each window repeats a quarter of the one before it: what a cut has torn apart is whole in one of the two."""


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens that are read at once."""

    ids: tuple[int, ...]
    type_ids: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.ids)


class Reader:
    """Makes windows; may be used by several threads at once."""

    def __init__(self, tokenizer: Tokenizer, *, length: int) -> None:
        """`length`: tokens of a window, special ones included. Raises ValueError where that leaves no room for text."""
        self._tokenizer = Tokenizer.from_str(tokenizer.to_str())  # the other one stays as it is
        # What a text calls [SEP] is text: else its writer could end it there, or pad it, for the model.
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_padding()
        room = length - self._tokenizer.num_special_tokens_to_add(is_pair=False)
        if room < _OVERLAP:
            raise ValueError(f"a window of {length} tokens has no room for text")
        self.length = length
        self._tokenizer.enable_truncation(length, stride=room // _OVERLAP)

    @property
    def largest_id(self) -> int:
        """The largest id that a text may turn into."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)

    def read(self, text: str) -> tuple[Window, ...]:
        """Return the windows, in the text's order; none where the text has no tokens at all."""
        first = self._tokenizer.encode(text)
        return tuple(
            Window(tuple(part.ids), tuple(part.type_ids)) for part in (first, *first.overflowing) if len(part.ids)
        )
