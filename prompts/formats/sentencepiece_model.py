"""Baichuan's `tokenizer.model` (SentencePiece BPE) as a `tokenizers` tokenizer with the same ids.

A `tokenizer.model` is a protocol buffer. The few fields that matter are read here by hand, because the `sentencepiece`
package does not say which pieces are user-defined. How ids become text again is in `decoder`. Both are proven against
SentencePiece itself: `test_prompts_sentencepiece.py`.

Source of the field numbers: sentencepiece_model.proto of google/sentencepiece.
"""

import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from app.domain.errors import InvalidInput

_SPACE = "▁"  # SentencePiece's letter for a space
_BPE = 2

_PLAIN_SYMBOL = re.compile(
    r"""
      .                                                        # one character: a new line, ％, ０
    | [^\w<>\[\]|]+                                            # punctuation: ..., ```, ---
    | <!-- | --> | <!DOCTYPE>
    | </?(?:b|br|h[1-6]|img|li|p|strong|table|tbody|td|tr)/?>  # HTML, as text has it
    """,
    re.VERBOSE | re.DOTALL,
)


class _Kind(IntEnum):
    """`ModelProto.SentencePiece.Type`."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class _Piece:
    text: str
    score: float
    kind: _Kind


def is_plain_symbol(text: str) -> bool:
    """Whether a token of the vocabulary's own list is text that anybody may type; all others steer the model."""
    return _PLAIN_SYMBOL.fullmatch(text) is not None


def convert(path: Path) -> Tokenizer:
    """Return the tokenizer of a `tokenizer.model`; it can be saved as `tokenizer.json`. 1 s for Baichuan2's.

    Control tokens, the reserved ones included, are marked as special: they stand for no text in an answer.
    A `▁` in a text becomes a space, as with SentencePiece. The first generation puts a space before every text
    (add_dummy_prefix); `prompts.formats.tokenizer` sees to the texts that begin with a space or a symbol.
    Raises InvalidInput where the file cannot be read, or is of a kind whose ids would not come out the same.
    """
    try:
        pieces, has_prefix = _read(path.read_bytes())
    except OSError as error:
        raise InvalidInput(f"{path.name} cannot be read: {error.strerror}") from error
    except (IndexError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise InvalidInput(f"{path.name} is not a SentencePiece model") from error
    vocabulary = {piece.text: token_id for token_id, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, _merges(pieces, vocabulary), byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", _SPACE)
    decoding: list[Any] = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if has_prefix:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="first", split=False)
        decoding.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(decoding)
    tokenizer.add_tokens(
        [
            AddedToken(piece.text, normalized=False, special=not is_plain_symbol(piece.text))
            for piece in pieces
            if piece.kind in {_Kind.UNKNOWN, _Kind.CONTROL, _Kind.USER_DEFINED}
        ]
    )
    return tokenizer


def _merges(pieces: list[_Piece], vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """Return every way to put a piece together from two others, best first.

    SentencePiece merges the neighbours whose sum has the highest score; a list of merges in that order does the same.
    """
    mergeable = {piece.text for piece in pieces if piece.kind is _Kind.NORMAL}
    ranked = []
    for piece in pieces:
        if piece.kind is not _Kind.NORMAL:
            continue
        halves = ((piece.text[:cut], piece.text[cut:]) for cut in range(1, len(piece.text)))
        ways = [(left, right) for left, right in halves if left in mergeable and right in mergeable]
        ways.sort(key=lambda way: (vocabulary[way[0]], vocabulary[way[1]]))
        ranked += [(-piece.score, way) for way in ways]
    ranked.sort(key=lambda one: one[0])
    return [way for _, way in ranked]


def take_prefix(tokenizer: Tokenizer) -> str:
    """Return what the tokenizer puts before every text, and stop it from doing so; empty where it does not."""
    first = tokenizer.pre_tokenizer
    if not isinstance(first, pre_tokenizers.Metaspace) or first.prepend_scheme != "first" or first.split:
        return ""
    first.prepend_scheme = "never"
    return " "


def give_prefix(tokenizer: Tokenizer) -> None:
    """Undo `take_prefix`."""
    tokenizer.pre_tokenizer.prepend_scheme = "first"


def _read(data: bytes) -> tuple[list[_Piece], bool]:
    """Read the pieces, in the order of their ids, and whether a space is put before every text.

    Raises InvalidInput where the settings are not Baichuan's.
    """
    trainer: dict[int, Any] = {}
    normalizer: dict[int, Any] = {}
    pieces: list[_Piece] = []
    for field, value in _fields(data):
        if field == 1:
            one = dict(_fields(value))
            (score,) = struct.unpack("<f", one.get(2, b"\0\0\0\0"))
            pieces.append(_Piece(one[1].decode(), score, _Kind(one.get(3, _Kind.NORMAL))))
        elif field == 2:  # noqa: PLR2004 - trainer_spec
            trainer = dict(_fields(value))
        elif field == 3:  # noqa: PLR2004 - normalizer_spec
            normalizer = dict(_fields(value))
    if not pieces or any(math.isnan(piece.score) for piece in pieces):
        raise ValueError("no pieces")
    is_ours = (
        trainer.get(3) == _BPE
        and trainer.get(35)  # byte_fallback
        and not normalizer.get(2)  # no table of replacements
        and not normalizer.get(4, True)  # remove_extra_whitespaces
        and normalizer.get(5, True)  # escape_whitespaces
    )
    if not is_ours:
        raise InvalidInput("this SentencePiece model is not of Baichuan's kind (BPE, bytes, text taken as it is)")
    return pieces, bool(normalizer.get(3, True))  # add_dummy_prefix


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Yield the number and value of each field: an int for a varint, bytes for everything else."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if kind == 2:  # noqa: PLR2004 - a length comes first
            length, at = _varint(message, at)
        else:
            length = {1: 8, 5: 4}[kind]
        if at + length > len(message):
            raise ValueError("cut off")
        yield key >> 3, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, and where the next field begins."""
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:  # noqa: PLR2004 - the top bit says that more comes
            return value, at
