"""A tokenizer for the worker's routes and for the engine's decoding: `tokenizers`, without transformers."""

from collections.abc import Sequence

from tokenizers import Tokenizer

from prompts.formats.decoder import Decoder


class Vocabulary:
    """Text to ids and back. Unlike a prompt format it reads control tokens in text, as vLLM's routes do."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = Decoder(tokenizer)

    @property
    def json(self) -> str:
        """The whole tokenizer, as in a file `tokenizer.json`."""
        return str(self._tokenizer.to_str())

    @property
    def special_ids(self) -> frozenset[int]:
        """The ids of tokens that stand for no text."""
        added = self._tokenizer.get_added_tokens_decoder()
        return frozenset(token_id for token_id, token in added.items() if token.special)

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Return the ids; `add_special_tokens` puts a begin token in front where the model has one."""
        return list(self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text, control tokens included."""
        return self._decoder.decode(ids, skip_special_tokens=False)

    def token(self, token_id: int) -> str:
        """Return the token's own name; empty for an id without one."""
        return self._tokenizer.id_to_token(token_id) or ""
