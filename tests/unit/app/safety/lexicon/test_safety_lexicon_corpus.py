"""The harmless texts: enough of them, all different, full of traps, and each where its line says."""

from pathlib import Path

import pytest

import app.safety.lexicon.corpus as module
from app.domain.errors import InvalidInput
from app.safety.assessment.bank import builtin_bank
from app.safety.lexicon.corpus import Line, builtin_corpora, read_corpus

CORPORA = {corpus.name: corpus for corpus in builtin_corpora()}
TRAPS = [
    "口交",
    "黄片",
    "他妈",
    "做爱",
    "台独",
    "共产",
    "法轮",
    "杀",
    "自杀",
    "干嘛",
    "藏独",
    "东突",
    "达赖",
    "内射",
    "群交",
]


def test_there_are_enough_harmless_texts_and_none_is_there_twice() -> None:
    texts = {name: [line.text for line in corpus.lines] for name, corpus in CORPORA.items()}
    assert len(texts["benign-zh"]) >= 600
    assert len(texts["benign-en"]) >= 300
    assert all(len(set(lines)) == len(lines) for lines in texts.values())
    assert all(line == line.strip() for lines in texts.values() for line in lines)


@pytest.mark.parametrize("trap", TRAPS)
def test_words_that_lists_have_hide_in_the_chinese_texts(trap: str) -> None:
    assert any(trap in line.text for line in CORPORA["benign-zh"].lines)


@pytest.mark.parametrize("trap", ["69", "kill a Python process", "assist", "bomb", "Scunthorpe"])
def test_words_that_lists_have_hide_in_the_english_texts(trap: str) -> None:
    assert any(trap in line.text for line in CORPORA["benign-en"].lines)


@pytest.mark.parametrize("name", ["must-not-refuse-en", "must-not-refuse-zh"])
def test_the_questions_that_must_be_answered_are_golden(name: str) -> None:
    corpus = CORPORA[name]
    assert corpus.is_golden
    assert [line.text for line in corpus.lines] == [question.text for question in builtin_bank(name).questions]
    assert not CORPORA["benign-zh"].is_golden
    assert {one for one in CORPORA if one.startswith("should-refuse")} == set()


@pytest.mark.parametrize("name", sorted(CORPORA))
def test_each_text_stands_on_the_line_that_is_told(name: str) -> None:
    folder = Path(module.__file__).parent.parent
    path = folder / (f"banks/{name}.toml" if CORPORA[name].is_golden else f"corpus/{name}.txt")
    written = path.read_text(encoding="utf-8").split("\n")
    assert all(line.text in written[line.number - 1] for line in CORPORA[name].lines)


def test_only_what_stands_before_the_first_text_is_about_the_file(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("# about\n\n一\n# two\n\n三\n", encoding="utf-8")
    corpus = read_corpus(tmp_path / "own.txt")
    assert corpus.lines == (Line(3, "一"), Line(4, "# two"), Line(6, "三"))
    assert (corpus.name, corpus.is_golden) == (str(tmp_path / "own.txt"), False)
    (tmp_path / "own.txt").write_text("# about\n\n", encoding="utf-8")
    with pytest.raises(InvalidInput, match="no text in it"):
        read_corpus(tmp_path / "own.txt")
