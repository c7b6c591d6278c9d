"""Lists that others have made are read as what they are. The words here are fruit."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import InvalidInput
from app.safety.lexicon.foreign import FORMATS, Foreign, Format, Word, _guess, read_foreign


def read(folder: Path, text: str, *, name: str = "words.txt", as_format: Format = "auto") -> Foreign:
    (folder / name).write_bytes(text.encode())
    return read_foreign(folder / name, as_format=as_format)


def unreadable(*lines: str) -> str:
    return "".join(base64.b64encode(f"{line}\n".encode()).decode() + ",\n" for line in lines)


@pytest.mark.parametrize(
    ("name", "text", "read_as", "words"),
    [
        ("w.txt", "苹果派\n\n  香蕉船  \r\n", "plain", [("苹果派", 1), ("香蕉船", 3)]),
        ("w.txt", "苹果派,\n香蕉船\n梨\n", "plain", [("苹果派", 1), ("香蕉船", 2), ("梨", 3)]),
        ("w.txt", "苹果派\t12\n香蕉船 3\n梨膏糖,44\n", "plain", [("苹果派", 1), ("香蕉船", 2), ("梨膏糖", 3)]),
        ("w.txt", "route 66\nplums\n", "plain", [("route 66", 1), ("plums", 2)]),
        ("en", "apple pie\n2 plums\n", "plain", [("apple pie", 1), ("2 plums", 2)]),
        (
            "w.txt",
            "苹果派,\r\n香蕉船,\r\n梨|李子干,\r\n",
            "fwwdn",
            [("苹果派", 1), ("香蕉船", 2), ("梨", 3), ("李子干", 3)],
        ),
        ("w.txt", "苹果派，香蕉船,梨", "fwwdn", [("苹果派", 1), ("香蕉船", 1), ("梨", 1)]),
        ("w.txt", "苹果派\n梨|李子干\n", "fwwdn", [("苹果派", 1), ("梨", 2), ("李子干", 2)]),
        ("w.txt", "苹果派 水果,甜\n香蕉船 水果\n", "houbb", [("苹果派", 1), ("香蕉船", 2)]),
        ("w.txt", "苹果派\n苹果+香蕉\n", "konsheng", [("苹果派", 1), ("苹果+香蕉", 2)]),
        ("w.json", '{"words": ["苹果派",\n "香蕉船"]}', "json", [("苹果派", 1), ("香蕉船", 2)]),
        ("w.json", '["plum",\n\n"pear",\n"plum"]', "json", [("plum", 1), ("pear", 3), ("plum", 4)]),
        ("w.csv", 'id,敏感词\n1,"苹果,派"\n\n2,\n3,香蕉船\n', "csv", [("苹果,派", 2), ("香蕉船", 5)]),
        ("w.txt", unreadable("苹果派", "plum"), "plain, base64", [("苹果派", 1), ("plum", 2)]),
        ("w.txt", "cGx1bQ==\ncGVhcg==\n", "plain", [("cGx1bQ==", 1), ("cGVhcg==", 2)]),
        ("w.txt", "bomb\nplum\nkiwi\n", "plain", [("bomb", 1), ("plum", 2), ("kiwi", 3)]),
    ],
)
def test_a_format_is_known_by_its_look(
    tmp_path: Path, name: str, text: str, read_as: str, words: list[tuple[str, int]]
) -> None:
    foreign = read(tmp_path, text, name=name)
    assert foreign.read_as == read_as
    assert [(word.text, word.line) for word in foreign.words] == words


def test_what_a_format_says_besides_is_kept(tmp_path: Path) -> None:
    (tagged, _) = read(tmp_path, "苹果派 水果,甜\n梨 水果\n").words
    assert tagged == Word(text="苹果派", line=1, note="tags: 水果,甜")
    (row,) = read(tmp_path, "text,class,note\n苹果派,A3.e,ripe\n", name="w.csv").words
    assert row == Word(text="苹果派", line=2, safety_class="A3.e", note="ripe")


def test_words_that_must_all_be_there_cannot_be_taken(tmp_path: Path) -> None:
    (joined,) = read(tmp_path, "苹果+香蕉+梨").words
    assert "must all be there" in joined.refusal
    (plain,) = read(tmp_path, "苹果+香蕉+梨", as_format="plain").words
    assert (plain.text, plain.refusal) == ("苹果+香蕉+梨", "")
    assert [word.refusal for word in read(tmp_path, "c++\na+ level\n", as_format="konsheng").words] == ["", ""]


def test_what_nobody_sees_is_dropped(tmp_path: Path) -> None:
    words = read(tmp_path, "苹\u200b果\x07派\n\u200b\u2060\n").words
    assert [(word.text, word.refusal) for word in words] == [("苹果派", ""), ("", "nothing of it can be seen")]


def test_a_format_that_is_named_holds_whatever_the_look(tmp_path: Path) -> None:
    assert [word.text for word in read(tmp_path, "apple pie\nplum\n", as_format="ldnoobw").words] == [
        "apple pie",
        "plum",
    ]
    assert [word.text for word in read(tmp_path, "苹果,梨\n", as_format="fwwdn").words] == ["苹果", "梨"]
    assert [word.text for word in read(tmp_path, "apple pie\nplum\n", as_format="houbb").words] == ["apple pie", "plum"]
    assert read(tmp_path, '{"words": ["梨"]}', name="w.json", as_format="konsheng").read_as == "konsheng, json"


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("w.txt", " \n\n", "the file is empty"),
        ("w.txt", ",,\n,\n", "there is no word in it"),
        ("w.csv", "a,b\n1,2\n", ":1: no column is named text"),
        ("w.csv", "word\n苹果,梨\n", ":2: more fields than the header has"),
        ("w.csv", 'word\n"苹果\n', "not CSV: unexpected end of data"),
        ("w.csv", "word\n" + "x" * 200_000, "not CSV: field larger than"),
        ("w.json", '{"words": ["梨"', "not JSON"),
        ("w.json", '{"list": ["梨"]}', "neither a JSON list"),
        ("w.json", "[1, 2]", "neither a JSON list"),
        ("w.json", "[" * 200_000, "not JSON"),
    ],
)
def test_a_file_that_is_no_list_is_refused_with_the_reason(tmp_path: Path, name: str, text: str, reason: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(tmp_path, text, name=name)
    assert reason in str(caught.value.detail)
    assert str(caught.value.detail).startswith(str(tmp_path / name))


@given(st.lists(st.text(max_size=20).filter(lambda line: line.strip()), min_size=1, max_size=5))
def test_every_text_has_some_format(lines: list[str]) -> None:
    assert _guess([line.strip() for line in lines]) in FORMATS


def test_a_long_list_is_read_in_the_time_of_its_length(tmp_path: Path) -> None:
    words = [f"苹果{number}派" for number in range(60_000)]
    foreign = read(tmp_path, json.dumps(words, ensure_ascii=False, indent=0), name="w.json")
    assert (len(foreign.words), foreign.words[-1].line) == (60_000, 60_001)
