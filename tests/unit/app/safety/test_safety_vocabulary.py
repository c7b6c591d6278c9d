import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.safety.vocabulary import Vocabulary

words = st.lists(st.text(alphabet="海纳ab", min_size=1, max_size=4), max_size=6, unique=True).map(tuple)


@given(lists=st.lists(words, max_size=4))
def test_each_beginning_names_the_lists_that_have_a_word_with_it(lists: list[tuple[str, ...]]) -> None:
    vocabulary = Vocabulary()
    bits = {words: vocabulary.add(words).bit for words in lists}
    every = {word[:end] for words in lists for word in words for end in range(1, len(word) + 1)}
    assert vocabulary.begun.keys() == every
    for words, bit in bits.items():
        has = {text for text in every if vocabulary.begun[text] & bit}
        assert has == {word[:end] for word in words for end in range(1, len(word) + 1)}
        assert {text for text, found in vocabulary.whole.items() if found & bit} == set(words)


def test_the_same_words_are_kept_once() -> None:
    vocabulary = Vocabulary()
    first = vocabulary.add(("海纳", "ab"))
    assert vocabulary.add(("海纳", "ab")) is first
    assert vocabulary.add(("海纳",)).bit not in {0, first.bit}


def test_a_spelled_word_leads_back_to_all_words_that_are_spelled_so() -> None:
    vocabulary = Vocabulary(lambda word: word.replace("l", "i") if word.isascii() else "")
    shelved = vocabulary.add(("bill", "biil", "海纳"))
    assert vocabulary.whole == {"biii": shelved.bit}
    assert list(shelved.words("biii")) == ["bill", "biil"]
    assert vocabulary.add(("海纳",)).bit == 0


def test_an_empty_word_is_refused() -> None:
    with pytest.raises(ValueError, match="without letters"):
        Vocabulary().add(("海纳", ""))
