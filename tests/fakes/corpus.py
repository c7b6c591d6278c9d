"""Strings of many kinds to try a tokenizer with.

Nothing of it is stored: it is made of a vocabulary, of chance from a fixed seed, of Python's own library (code and
English) and of this project's Chinese files.
"""

import argparse
import ast
import inspect
import random
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
CONTROL_WORDS = ("<unk>", "<s>", "</s>")
SPACES = (" ", "  ", " " * 29, "\n", "\n\n", "\r\n", "\r", "\t", "\t\t", "\v", "\f", "\x00", "\x1b", "\x7f", "\x85",
          "\xa0", "\xad", "\u2003", "\u2028", "\u200b", "\u200d", "\u202e", "\u3000", "\ufeff", "▁")  # fmt: skip
EMOJI = ("🙂", "👍🏽", "👨‍👩‍👧", "🇨🇳", "❤️", "1️⃣", "😂😂", "☺", "\ufe0f")
CODE: tuple[ModuleType, ...] = (argparse, ast, inspect, typing)

Pieces = Sequence[str]
"""A vocabulary: its pieces as text."""


def corpus(pieces: Pieces, symbols: Pieces, *, seed: int = 1) -> dict[str, list[str]]:
    """Return the strings by their kind; `symbols` are pieces that a text's characters never become part of."""
    chance = random.Random(seed)
    return {kind: list(make(pieces, symbols, chance)) for kind, make in _KINDS.items()}


def _vocabulary(pieces: Pieces, _: Pieces, __: random.Random) -> Iterator[str]:
    yield from pieces


def _symbols(_: Pieces, symbols: Pieces, __: random.Random) -> Iterator[str]:
    """Each symbol alone, twice, inside of a text, and not quite."""
    for one in symbols:
        yield from (
            one,
            one + one,
            f"天{one}x",
            f" {one} ",
            one[1:],
            one[:-1],
            f"<{one}>",
            one.upper(),
            f"{one[:-1]} >",
        )


def _characters(_: Pieces, __: Pieces, chance: random.Random) -> Iterator[str]:
    """Each character up to U+3400 and many of the others: control characters, every script, private and unassigned."""
    some = [*range(0x3400), *(chance.randrange(0x3400, 0x110000) for _ in range(4000))]
    for one in (chr(at) for at in some if not 0xD800 <= at < 0xE000):
        yield one
        yield f"a{one}{one}百"


def _spaces(_: Pieces, __: Pieces, chance: random.Random) -> Iterator[str]:
    yield from (" " * at + "x" for at in range(70))
    yield from _joined([*SPACES, "the", "hello", "百川", "0", "."], chance, count=3000, length=12)


def _chinese(pieces: Pieces, _: Pieces, chance: random.Random) -> Iterator[str]:
    """Lines of this project's files; words and characters in any order."""
    for file in sorted([*ROOT.glob("prompts/templates/*-zh.toml"), ROOT / "app/domain/words.py", ROOT / "ui/words.py"]):
        yield from file.read_text(encoding="utf-8").splitlines()
    words = [piece for piece in pieces if all("\u4e00" <= one <= "\u9fff" for one in piece)]
    yield from _joined([*words, "，", "。", "！", "《", "》", "、"], chance, count=3000, length=40)
    yield from _joined([chr(at) for at in range(0x4E00, 0x9FA6)], chance, count=2000, length=20)


def _code(_: Pieces, __: Pieces, ___: random.Random) -> Iterator[str]:
    """Lines and whole paragraphs: code and English."""
    for module in CODE:
        text = inspect.getsource(module)
        yield from text.splitlines(keepends=True)
        yield from text.split("\n\n")


def _emoji(_: Pieces, __: Pieces, chance: random.Random) -> Iterator[str]:
    yield from _joined([*EMOJI, "好", "ok ", " "], chance, count=1000, length=10)


def _broken(__: Pieces, ___: Pieces, chance: random.Random) -> Iterator[str]:
    """Bytes as they come, and UTF-8 with a byte gone wrong."""
    for _ in range(2500):
        yield chance.randbytes(chance.randint(1, 40)).decode(errors="replace")
        damaged = bytearray("百川 hello é🙂\n".encode())
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        yield damaged.decode(errors="replace")


def _mixtures(pieces: Pieces, symbols: Pieces, chance: random.Random) -> Iterator[str]:
    several = [*SPACES, *EMOJI, *symbols, *CONTROL_WORDS, "<0x0A>", "<reserved_", "106>", "<", ">", "/", "＜"]
    for _ in range(6000):
        yield "".join(chance.choice(chance.choice((several, pieces))) for _ in range(chance.randint(1, 16)))


def _joined(parts: Sequence[str], chance: random.Random, *, count: int, length: int) -> Iterator[str]:
    for _ in range(count):
        yield "".join(chance.choices(parts, k=chance.randint(1, length)))


_KINDS: Mapping[str, Callable[[Pieces, Pieces, random.Random], Iterator[str]]] = {
    "vocabulary": _vocabulary,
    "symbols": _symbols,
    "characters": _characters,
    "spaces": _spaces,
    "Chinese": _chinese,
    "code": _code,
    "emoji": _emoji,
    "broken": _broken,
    "mixtures": _mixtures,
}
