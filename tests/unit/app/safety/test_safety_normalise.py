import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.safety.normalise import FOLDED, MASK, Kind, Memo, classify, fold, plain
from tests.fakes.invariants import invariant


def test_folding_twice_changes_nothing_for_any_code_point() -> None:
    for code in range(sys.maxunicode + 1):
        folded = fold(chr(code))
        assert "".join(map(fold, folded)) == folded, hex(code)


@pytest.mark.parametrize(
    ("written", "folded"),
    [
        ("Ａ", "a"),
        ("é", "e"),
        ("ﬁ", "fi"),
        ("ẞ", "ss"),
        ("①", "1"),
        ("㍿", "株式会社"),
        ("\u3000", " "),
        ("\n", " "),
        ("\u2028", " "),
        ("海", "海"),
    ],
)
def test_spellings_of_the_same_character_fold_to_the_same(written: str, folded: str) -> None:
    assert fold(written) == folded


@pytest.mark.parametrize(
    "char",
    [
        "\u200b",
        "\u200d",
        "\u0301",
        "\u202e",
        "\ufe0f",
        "\U000e0041",
        "\U000e0101",
        "\ue000",
        "\ud800",
        "\x00",
        "\u20dd",
    ],
)
def test_what_nobody_sees_folds_to_nothing(char: str) -> None:
    assert fold(char) == ""


# Default_Ignorable_Code_Point of Unicode's DerivedCoreProperties.txt, in full
DEFAULT_IGNORABLE = (
    (0x00AD, 0x00AD), (0x034F, 0x034F), (0x061C, 0x061C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F),
    (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
)  # fmt: skip


def test_every_character_that_unicode_calls_ignorable_folds_to_nothing() -> None:
    seen = [hex(code) for first, last in DEFAULT_IGNORABLE for code in range(first, last + 1) if fold(chr(code))]
    assert seen == []


@invariant
@given(st.lists(st.sampled_from(DEFAULT_IGNORABLE).flatmap(lambda span: st.integers(*span)), min_size=1, max_size=40))
def test_no_ignorable_character_hides_a_phrase(codes: list[int]) -> None:
    phrase = "haina-blocked-test-phrase"
    noise = [*map(chr, codes)]
    hidden = "".join(char + noise[place % len(noise)] for place, char in enumerate(phrase))
    assert "".join(map(fold, hidden)) == phrase


def test_remembered_and_fresh_folds_agree() -> None:
    assert all(FOLDED[chr(code)] == fold(chr(code)) for code in range(0x3000))


def test_a_memo_stops_growing_and_still_answers() -> None:
    memo = Memo(fold, limit=10)
    assert [memo[chr(code)] for code in range(65, 91)] == [chr(code + 32) for code in range(65, 91)]
    assert len(memo) == 10


def test_characters_have_the_kind_that_matching_needs() -> None:
    kinds = {char: classify(char) for char in "海あㄅa1я *~-，★。!?"}
    assert [char for char, kind in kinds.items() if kind is Kind.CJK] == ["海", "あ", "ㄅ"]
    assert [char for char, kind in kinds.items() if kind is Kind.SEPARATOR] == ["-", "，", "★"]
    assert [char for char, kind in kinds.items() if kind is Kind.MARKUP] == ["*", "~"]
    assert [char for char, kind in kinds.items() if kind is Kind.OTHER] == ["。", "!", "?"]
    assert all(classify(char) is Kind.CJK for char in fold("가"))


def test_a_mask_is_a_word_of_its_own_so_that_no_phrase_reaches_over_it() -> None:
    assert {classify(char) for char in MASK} == {Kind.WORD}
    assert "".join(map(fold, MASK)) == MASK


@pytest.mark.parametrize(
    ("written", "folded"),
    [("怎麼製作炸彈", "怎么制作炸弹"), ("毒品製造", "毒品制造"), ("薴", "苎"), ("海納", "海纳"), ("龍國", "龙国")],
)
def test_traditional_characters_count_as_simplified_ones(written: str, folded: str) -> None:
    assert "".join(map(fold, written)) == folded


def test_keys_keep_the_characters_that_they_have() -> None:
    assert plain("國") == "國"
