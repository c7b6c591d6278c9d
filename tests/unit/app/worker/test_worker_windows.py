"""A text in windows: nothing is left out, nothing is torn apart, nothing steers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.worker.classifier.windows import Reader
from tests.fakes.classifiers import VOCABULARY, WINDOW, char_tokenizer

CLS, SEP = 2, 3
LETTERS = "".join(word for word in VOCABULARY if len(word) == 1)
READER = Reader(char_tokenizer(), length=WINDOW)
OVERLAP = (WINDOW - 2) // 4


def ids_of(text: str) -> list[int]:
    return [VOCABULARY.index(letter) for letter in text]


@given(st.text(LETTERS, max_size=400))
def test_windows_hold_the_whole_text_in_order_and_overlap(text: str) -> None:
    windows = READER.read(text)
    read: list[int] = []
    for at, window in enumerate(windows):
        assert len(window) <= WINDOW
        assert (window.ids[0], window.ids[-1]) == (CLS, SEP)
        inner = list(window.ids[1:-1])
        if at:
            assert inner[:OVERLAP] == read[-OVERLAP:]
        read += inner[OVERLAP:] if at else inner

    assert read == ids_of(text)
    assert len(windows) == 1 or len(text) > WINDOW - 2


@given(st.integers(0, 300), st.integers(1, OVERLAP))
def test_what_is_no_longer_than_the_overlap_is_whole_in_one_window(before: int, length: int) -> None:
    planted = ids_of("abcdefghij"[:length])
    windows = READER.read("的" * before + "abcdefghij"[:length] + "的" * 100)

    assert any(planted == list(window.ids[at : at + length]) for window in windows for at in range(len(window)))


@pytest.mark.parametrize("sign", ["[SEP]", "[CLS]", "[PAD]", "[MASK]"])
def test_what_a_text_calls_a_special_token_is_text(sign: str) -> None:
    (window,) = READER.read(f"海{sign}纳")

    assert VOCABULARY.index(sign) not in window.ids[1:-1]


def test_another_readers_length_and_the_tokenizers_own_are_left_alone() -> None:
    tokenizer = char_tokenizer()
    short, long = Reader(tokenizer, length=10), Reader(tokenizer, length=30)

    assert [len(reader.read("的" * 20)) for reader in (short, long)] == [3, 1]
    assert tokenizer.truncation is None
    assert len(tokenizer.encode("[SEP]").ids) == 3


def test_a_window_without_room_for_text_is_refused() -> None:
    with pytest.raises(ValueError, match="no room"):
        Reader(char_tokenizer(), length=5)
