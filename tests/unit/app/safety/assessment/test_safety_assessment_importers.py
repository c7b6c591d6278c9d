"""Sets that others have made are known by their columns, and read where they lie."""

from pathlib import Path

import pytest

from app.domain.errors import InvalidInput
from app.safety.assessment.bank import Bank, Expectation, Question
from app.safety.assessment.importers import Columns, read_bank, read_banks
from app.safety.policy import make_policy

A, R, U = Expectation.ANSWER, Expectation.REFUSE, Expectation.UNKNOWN


def read(folder: Path, text: str | bytes, *, name: str = "set.csv", columns: Columns | None = None) -> Bank:
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_bank(file, columns)


@pytest.mark.parametrize(
    ("name", "text", "source", "questions"),
    [
        (
            "xstest.csv",
            "id,prompt,type,label,focus,note\n1,How?,homonyms,safe,kill,\n2,Why?,contrast_homonyms,unsafe,kill,\n",
            "XSTest",
            (Question("How?", "homonyms", A), Question("Why?", "contrast_homonyms", R)),
        ),
        (
            "cold.csv",
            "\ufeffindex,topic,label,fine-grained-label,TEXT\n0,gender,0,3,一\n1,race,1,1,二\n",
            "COLD",
            (Question("一", "comments on gender", A), Question("二", "comments on race", R)),
        ),
        (
            "flames.jsonl",
            '{"dimension": "Safety", "subcomponent": "Mental harm", "prompt": "三"}\n\n',
            "Flames",
            (Question("三", "Mental harm", U),),
        ),
        (
            "cvalues.jsonl",
            '{"id_": 1, "prompt": "四", "domain_en": "law", "domain_zh": "法理学"}',
            "CValues",
            (Question("四", "law", U),),
        ),
    ],
)
def test_a_set_is_known_by_its_columns(
    tmp_path: Path, name: str, text: str, source: str, questions: tuple[Question, ...]
) -> None:
    bank = read(tmp_path, text, name=name)
    assert (bank.name, bank.source, bank.questions) == (name.partition(".")[0], source, questions)


def test_columns_say_what_is_what_in_any_other_set(tmp_path: Path) -> None:
    columns = Columns(text="q", kind="k", label="bad", refuse=frozenset({"1", "true"}))
    csv = 'q,k,bad,more\n"one,\ntwo",x,1,\nthree,y,0\n'
    assert read(tmp_path, csv, columns=columns).questions == (
        Question("one,\ntwo", "x", R),
        Question("three", "y", A),
    )
    lines = '{"q": "four", "k": 7, "bad": true}\n{"q": "five", "k": "z", "bad": false}\n'
    assert read(tmp_path, lines, name="set.jsonl", columns=columns).questions == (
        Question("four", "7", R),
        Question("five", "z", A),
    )
    assert read(tmp_path, "q\nsix\n", columns=Columns(text="q", expected=R)).questions == (Question("six", "all", R),)


def test_a_line_of_another_alphabet_s_kind_does_not_end_a_row(tmp_path: Path) -> None:
    assert read(tmp_path, "q\none\u2028two\n", columns=Columns(text="q")).questions[0].text == "one\u2028two"


@pytest.mark.parametrize(
    ("name", "text", "columns", "line", "named"),
    [
        ("set.csv", "q,l\nhello,x\n", None, 2, "q, l"),
        ("set.csv", "q\nhello\n", Columns(text="question"), 2, "question"),
        ("set.csv", "q\nhello\n\nyou\n", Columns(text="q", kind="k"), 2, "no column k"),
        ("set.csv", 'q,l\n"two\nlines",x\n,y\n', Columns(text="q"), 4, "q is empty"),
        ("set.csv", "q\none,two\n", Columns(text="q"), 2, "2 fields"),
        ("set.csv", "q,,q,\none,a,two,b\n", Columns(text="q"), 1, "two columns"),
        ("set.csv", 'q\none\n"two\n', Columns(text="q"), 3, "not CSV"),
        ("set.csv", b"q\none\n\xff\n", Columns(text="q"), 3, "UTF-8"),
        ("set.csv", "prompt,type,label,focus\nHow?,x,maybe,y\n", None, 2, "maybe"),
        ("set.jsonl", '{"q": "a"}\n{"q": \n', Columns(text="q"), 2, "not JSON"),
        ("set.jsonl", '{"q": "a"}\n\n["q"]\n', Columns(text="q"), 3, "object"),
        ("set.jsonl", '{"q": null}\n', Columns(text="q"), 1, "empty"),
        ("set.jsonl", "[" * 100_000, Columns(text="q"), 1, "not JSON"),
    ],
)
def test_what_is_wrong_in_a_set_is_one_line_that_says_where(
    tmp_path: Path, name: str, text: str | bytes, columns: Columns | None, *, line: int, named: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(tmp_path, text, name=name, columns=columns)
    message = caught.value.detail
    assert message.startswith(f"{tmp_path / name}:{line}: ")
    assert named in message
    assert "\n" not in message


@pytest.mark.parametrize(("name", "text"), [("set.csv", ""), ("set.csv", "q,l\n"), ("set.jsonl", "\n\n")])
def test_a_set_without_a_question_is_refused(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(InvalidInput, match="no question"):
        read(tmp_path, text, name=name)


def test_what_is_neither_a_file_of_these_nor_a_bank_of_ours_is_told_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"must-not-refuse-zh, .*, obfuscated"):
        read_bank(tmp_path / "must-not-refuse-fr")
    with pytest.raises(FileNotFoundError):
        read_bank(tmp_path / "nowhere.csv")


def test_banks_are_found_by_name_and_none_comes_twice(tmp_path: Path) -> None:
    policy = make_policy("bare")
    (tmp_path / "set.csv").write_text("q\none\n", encoding="utf-8")
    names = ["should-refuse-en", "obfuscated", str(tmp_path / "set.csv")]
    banks = read_banks(names, policy=policy, columns=Columns(text="q"))
    assert [bank.name for bank in banks] == ["should-refuse-en", "obfuscated", "set"]
    with pytest.raises(InvalidInput, match="set already"):
        read_banks([*names, str(tmp_path / "set.csv")], policy=policy, columns=Columns(text="q"))


def test_names_of_columns_are_not_for_a_bank_in_toml(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="TOML"):
        read(tmp_path, "", name="set.toml", columns=Columns(text="q"))
