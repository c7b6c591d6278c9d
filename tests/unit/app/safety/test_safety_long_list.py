"""A list of 100,000 entries: read, built and judged as a short one is. How long it takes, `tests.bench` measures."""

import random
from pathlib import Path

import pytest

from app.domain.errors import InvalidPolicy
from app.domain.verdicts import Action, Cut, Stage
from app.safety.filter import ContentFilter, Workshop
from app.safety.homophones import sounds
from app.safety.normalise import fold
from app.safety.phrases import phrase_id
from app.safety.policy import Policy
from app.safety.policy_file import lay_over, load_policy

_COUNT = 100_000
_POLICY = """
name = "site"
base = "builtin:general"
files = ["long.txt"]

[[rules]]
category = "house"
stages = ["input", "history", "output", "export"]
action = "refuse"
"""
_HEADER = (
    "# name: long\n# category: house\n# language: any\n# source: made up\n# date: 2026-11-28\n# reviewer: nobody\n"
)
_ALLOWED = 10
_CHARS = sorted({syllable for syllable in sounds().values() if fold(syllable) == syllable} - {sounds()["鑫"]})[:50]
"""Each sounds otherwise."""


def entry(number: int) -> str:
    """Return four or five Chinese characters, or English words; each is another one, and none holds another."""
    if number % 10 == 0:
        return f"utter nonsense no {number}x"
    digits = [number // 50**place % 50 for place in range(4)]
    return "".join(_CHARS[digit] for digit in digits) + "鑫" * (1 + number % 2)


def write(folder: Path, *, entries: list[str], marks: str = "") -> Path:
    (folder / "long.txt").write_text(_HEADER + marks + "\n".join(entries) + "\n", encoding="utf-8")
    path = folder / "policy.toml"
    path.write_text(_POLICY, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    entries = [entry(number) for number in range(_COUNT)]
    random.Random(3).shuffle(entries)
    allowed = [f"+一篇{entry(number)}文章" for number in range(1, _ALLOWED)]
    marks = "# fold: true\n# homophones: true\n"
    return load_policy(write(tmp_path_factory.mktemp("long"), entries=entries + allowed, marks=marks))


@pytest.fixture(scope="module")
def guard(policy: Policy) -> ContentFilter:
    return ContentFilter(policy)


def sample() -> list[int]:
    return random.Random(4).sample(range(_ALLOWED, _COUNT), 150)


async def rules(guard: ContentFilter, text: str) -> set[tuple[str, str, Action]]:
    decision = (await guard.check(text, stage=Stage.OUTPUT)).decision
    return {(finding.rule, finding.detector, finding.action) for finding in decision.findings}


async def test_each_entry_is_refused_by_its_own_rule(guard: ContentFilter) -> None:
    for number in sample():
        rule = f"long:{phrase_id(entry(number))}"
        assert (rule, "phrases", Action.REFUSE) in await rules(guard, f"请看 {entry(number)} 。")
        assert (rule, "phrases", Action.REFUSE) in await rules(guard, f"*{entry(number).upper()}*")


async def test_what_only_begins_like_an_entry_passes_and_is_not_held_back_for_long(guard: ContentFilter) -> None:
    for number in sample():
        gate = guard.open(stage=Stage.OUTPUT)
        beginning = entry(number)[:-1]
        events = [event for char in f"{beginning}。好" for event in await gate.feed(char)]
        assert "".join("" if isinstance(event, Cut) else event.text for event in events) == f"{beginning}。好"


async def test_what_is_allowed_excuses_the_entry_within_it(guard: ContentFilter) -> None:
    for number in range(1, _ALLOWED):
        assert await rules(guard, f"我读了一篇{entry(number)}文章。") == set()
        assert await rules(guard, f"我读了一篇{entry(number)}。") != set()


async def test_entries_are_found_in_disguise_and_by_their_sound(guard: ContentFilter) -> None:
    for number in sample():
        rule, text = f"long:{phrase_id(entry(number))}", entry(number)
        if number % 10 == 0:
            assert (rule, "folded", Action.REFUSE) in await rules(guard, text.replace("o", "0", 1))
        else:
            assert (rule, "homophones", Action.FLAG) in await rules(guard, text.replace("鑫", "心"))
            assert (rule, "markup", Action.REFUSE) in await rules(guard, f"{text[0]}<b>{text[1:]}</b>")


async def test_a_layer_over_it_adds_to_it_and_the_same_workshop_serves_both(policy: Policy) -> None:
    workshop = Workshop()
    below = ContentFilter(policy, workshop=workshop)
    text = '[[lists]]\nname = "more"\ncategory = "house"\nlanguage = "zh"\nphrases = ["另外一条"]\nallow = ["%s好"]\n'
    above = ContentFilter(lay_over(policy, text % entry(11), name="account"), workshop=workshop)
    assert await rules(below, "另外一条") == set()
    assert await rules(above, "另外一条") == {(f"more:{phrase_id('另外一条')}", "phrases", Action.REFUSE)}
    assert await rules(below, f"{entry(11)}好") != set()
    assert await rules(above, f"{entry(11)}好") == set()
    assert await rules(above, entry(12)) == await rules(below, entry(12)) != set()


def test_each_of_very_many_faults_is_told_with_its_line(tmp_path: Path) -> None:
    entries = [entry(number) for number in range(20_000)]
    with pytest.raises(InvalidPolicy) as caught:
        load_policy(write(tmp_path, entries=[*entries, *entries]))
    told = list(caught.value.faults)
    assert len(told) == len(entries)
    assert told[0] == "long.txt:20007: list long, entry 20001: the same as entry 1"
    assert told[-1] == "long.txt:40006: list long, entry 40000: the same as entry 20000"
