"""Policies with lists as long as one likes, made up with a seed: nobody's list is shipped.

Nine phrases of ten are Chinese, of 2 to 8 characters: words of pypinyin's dictionary, so that prose begins them as
often as it does those of real lists, and made-up ones, most of which go on from the beginning of another phrase. The
tenth is English, 2 to 5 words that the texts use too. None is found in the texts that are to be read, or sounds like a
part of them. One in ten belongs to a list with `fold` and `homophones`.
"""

import random
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from pypinyin.phrases_dict import phrases_dict

from app.safety.homophones import sounds
from app.safety.phrases import squeeze

_LONGEST: Final = 8
_SHARE_OF_LENGTHS: Final = (20, 25, 25, 12, 8, 6, 4)
_RULES: Final = """
[[rules]]
category = "house"
stages = ["input", "history", "output", "export"]
action = "refuse"
"""


def write_policy(folder: Path, *, count: int, chinese: str, english: str) -> Path:
    """Write a policy over the shipped one, with so many phrases more; return its file. The texts hold none of them."""
    phrases = _phrases(count, chinese=squeeze(chinese), english=squeeze(english))
    for name, part, marks in (
        ("plain", phrases[count // 10 :], ""),
        ("disguised", phrases[: count // 10], "# fold: true\n# homophones: true\n"),
    ):
        header = f"# name: {name}\n# category: house\n# language: any\n# source: made up\n# date: 2026-11-28\n"
        text = f"{header}# reviewer: nobody\n{marks}" + "".join(f"{phrase}\n" for phrase in part)
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    path = folder / f"{count}.toml"
    head = 'name = "made-up"\nbase = "builtin:general"\nfiles = ["plain.txt", "disguised.txt"]\n'
    path.write_text(head + _RULES, encoding="utf-8")
    return path


def _phrases(count: int, *, chinese: str, english: str) -> list[str]:
    chance = random.Random(5)
    made_up, spoken = _made_up(chinese, chance=chance), _parts(_spoken(chinese))
    words = sorted({word for word in english.split() if word.isalpha() and word.isascii()})
    found: set[str] = set()
    while len(found) < count:
        if chance.random() < 0.1:
            phrase = " ".join(chance.choices(words, k=chance.randint(2, 5)))
            is_there = phrase in english
        else:
            phrase = squeeze(next(made_up))
            is_there = len(phrase) < 2 or _spoken(phrase) in spoken
        if not is_there:
            found.add(phrase)
    phrases = sorted(found)
    chance.shuffle(phrases)
    return phrases


def _made_up(text: str, *, chance: random.Random) -> Iterator[str]:
    """Yield Chinese phrases without end; some come twice."""
    words = [word for word in phrases_dict if len(word) <= _LONGEST and all(char in sounds() for char in word)]
    chance.shuffle(words)
    common = [char for char in text if char in sounds()]
    every = sorted(sounds())[:6000]
    known = [words.pop()]
    while True:
        if words and chance.random() < 0.45:
            known.append(words.pop())
        else:
            head = chance.choice(known)[: chance.randint(1, 3)] if chance.random() < 0.8 else ""
            length = chance.choices(range(2, _LONGEST + 1), _SHARE_OF_LENGTHS)[0]
            rest = (chance.choice(common if chance.random() < 0.7 else every) for _ in range(length))
            known.append((head + "".join(rest))[: max(length, len(head) + 1)])
        yield known[-1]


def _spoken(text: str) -> str:
    return "".join(sounds().get(char, char) for char in text)


def _parts(text: str) -> Collection[str]:
    return {text[start : start + size] for size in range(2, _LONGEST + 1) for start in range(len(text))}
