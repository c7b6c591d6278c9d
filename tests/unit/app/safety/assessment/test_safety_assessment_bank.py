"""Our own banks keep what they promise; a bank that is wrong is one line."""

from pathlib import Path

import pytest

from app.domain.errors import InvalidInput
from app.safety.assessment.bank import (
    ANSWER_KINDS,
    BUILTIN,
    REFUSE_KINDS,
    Bank,
    Expectation,
    Question,
    builtin_bank,
    read_own_bank,
)
from app.safety.normalise import fold

BANK = """\
name = "small"
expect = "answer"
language = "en"
source = "written for a test"
date = 2026-11-24
licence = "Apache-2.0"
reviewer = "nobody"

[questions]
culture = [
    "What is a haiku?",
    "Who was Hokusai?",
]
history = ["When was that?"]
"""


def bank_file(folder: Path, text: str) -> Path:
    file = folder / "small.toml"
    file.write_text(text, encoding="utf-8")
    return file


def counts(bank: Bank) -> dict[str, int]:
    kinds = [question.kind for question in bank.questions]
    return {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}


def letters(text: str) -> str:
    return "".join(char for original in text for char in fold(original) if char.isalnum())


def test_four_banks_come_with_the_program() -> None:
    assert BUILTIN == ("must-not-refuse-en", "must-not-refuse-zh", "should-refuse-en", "should-refuse-zh")
    assert [builtin_bank(name).name for name in BUILTIN] == list(BUILTIN)
    assert {builtin_bank(name).source for name in BUILTIN} == {"written for Haina"}


@pytest.mark.parametrize(
    ("name", "kinds", "least", "least_of_a_kind", "expected"),
    [
        ("must-not-refuse-zh", ANSWER_KINDS, 500, 20, Expectation.ANSWER),
        ("should-refuse-zh", REFUSE_KINDS, 500, 20, Expectation.REFUSE),
        ("must-not-refuse-en", ANSWER_KINDS, 150, 10, Expectation.ANSWER),
        ("should-refuse-en", (), 100, 10, Expectation.REFUSE),
    ],
)
def test_a_bank_of_ours_has_as_many_questions_of_each_kind_as_the_standard_asks_for(
    name: str, kinds: dict[str, str], least: int, least_of_a_kind: int, expected: Expectation
) -> None:
    bank = builtin_bank(name)
    number = counts(bank)
    assert sum(number[kind] for kind in kinds or number) >= least
    assert set(kinds) <= set(number)
    assert min(number.values()) >= least_of_a_kind
    assert {question.expected for question in bank.questions} == {expected}


def test_no_question_is_asked_twice_in_any_of_our_banks_however_it_is_spelled() -> None:
    questions = [question for name in BUILTIN for question in builtin_bank(name).questions]
    seen: dict[str, str] = {}
    for question in questions:
        assert seen.setdefault(letters(question.text), question.text) is question.text
    assert len(seen) == len(questions)


def test_the_words_that_alarm_are_in_both_languages() -> None:
    for name in ("must-not-refuse-zh", "must-not-refuse-en"):
        assert counts(builtin_bank(name))["alarming_words"] >= 40


def test_a_bank_is_read_as_it_is_written(tmp_path: Path) -> None:
    bank = read_own_bank(bank_file(tmp_path, BANK))
    assert bank.questions == (
        Question("What is a haiku?", "culture", Expectation.ANSWER),
        Question("Who was Hokusai?", "culture", Expectation.ANSWER),
        Question("When was that?", "history", Expectation.ANSWER),
    )
    assert not bank.is_made


@pytest.mark.parametrize(
    ("before", "after", "line", "named"),
    [
        ('"Who was Hokusai?"', '"What is a haiku?"', 12, "twice"),
        ('"When was that?"', '"What is a haiku?"', 14, "twice"),
        ('"When was that?"', "7", 14, "history"),
        ('"When was that?"', '""', 14, "history"),
        ('expect = "answer"', 'expect = "maybe"', 2, "expect"),
        ('reviewer = "nobody"', 'author = "me"', 7, "author"),
        ("date = 2026-11-24", "date = 2026-11-34", None, "line 5"),
        ("[questions]", "[questions", None, "line 9"),
    ],
)
def test_what_is_wrong_in_a_bank_is_one_line_that_says_where(
    tmp_path: Path, before: str, after: str, line: int | None, named: str
) -> None:
    file = bank_file(tmp_path, BANK.replace(before, after))
    with pytest.raises(InvalidInput) as caught:
        read_own_bank(file)
    message = caught.value.detail
    assert message.startswith(f"{file}:{line}: " if line else f"{file}: ")
    assert named in message
    assert "\n" not in message


def test_a_bank_without_a_question_is_refused(tmp_path: Path) -> None:
    for questions in ("[questions]\n", "[questions]\nculture = []\n"):
        with pytest.raises(InvalidInput, match=r"no question|questions"):
            read_own_bank(bank_file(tmp_path, BANK.partition("[questions]")[0] + questions))


def test_the_digest_changes_with_any_question_kind_or_expectation() -> None:
    def digest(*questions: Question) -> str:
        return Bank(name="x", questions=questions).digest

    first = Question("a", "b", Expectation.ANSWER)
    assert digest(first) == Bank(name="y", questions=(first,), source="elsewhere").digest
    others = [
        digest(first, first),
        digest(Question("b", "b", Expectation.ANSWER)),
        digest(Question("a", "c", Expectation.ANSWER)),
        digest(Question("a", "b", Expectation.REFUSE)),
        digest(Question("\ud800", "b", Expectation.REFUSE)),
    ]
    assert len({digest(first), *others}) == 6


def test_a_drawn_bank_is_always_the_same_and_in_order() -> None:
    bank = builtin_bank("must-not-refuse-zh")
    drawn = bank.drawn(50)
    places = [bank.questions.index(question) for question in drawn.questions]
    assert len(places) == 50
    assert places == sorted(set(places))
    assert bank.drawn(50) == drawn
    assert bank.drawn(5000) == bank
