import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.services.titles import title_of


@pytest.mark.parametrize(
    ("question", "title"),
    [
        ("How do I sort a list in Python? I tried sorted().", "How do I sort a list in Python"),
        ("杭州三日游怎么安排？预算两千。", "杭州三日游怎么安排"),
        ("# Heading\nmore", "Heading"),
        ("a" * 100, "a" * 60 + "…"),
        (
            "one two three four five six seven eight nine ten eleven twelve thirteen",
            "one two three four five six seven eight nine ten eleven…",
        ),
        ("???", "???"),
    ],
)
def test_the_title_is_the_first_sentence_in_one_line(question: str, title: str) -> None:
    assert title_of(question) == title


@given(st.text(min_size=1))
def test_a_title_is_one_short_line_whatever_was_asked(question: str) -> None:
    title = title_of(question)
    assert len(title) <= 61
    assert "\n" not in title
