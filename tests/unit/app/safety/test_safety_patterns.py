import random
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.safety.detector import Match
from app.safety.patterns import TEST_NUMBER, IdNumberScan, is_id_number

Span = tuple[int, int]


def spans(*pieces: str) -> list[Span]:
    scan = IdNumberScan()
    found: list[Match] = []
    for piece in pieces:
        scan.feed(piece)
        found += scan.take()
    scan.finish()
    found += scan.take()
    return [(match.start, match.end) for match in found]


def some_number(seed: int) -> str:
    """ISO 7064 as its definition has it: the weights are powers of two modulo 11, and the sum is congruent to 1."""
    choose = random.Random(seed)
    day = date(1900, 1, 1) + timedelta(days=choose.randrange(45000))
    digits = f"{choose.randrange(110000, 700000)}{day:%Y%m%d}{choose.randrange(1000):03}"
    total = sum(int(digit) * pow(2, 17 - place, 11) for place, digit in enumerate(digits))
    check = (1 - total) % 11
    return digits + ("X" if check == 10 else str(check))


def test_the_test_number_is_one() -> None:
    assert is_id_number(TEST_NUMBER.casefold())


def test_numbers_by_the_definition_of_the_check_digit_are_found_and_no_other() -> None:
    for seed in range(300):
        number = some_number(seed)
        assert spans(f"号{number}。") == [(1, 19)]
        wrong = "0" if number[-1] != "0" else "1"
        assert not spans(f"号{number[:-1]}{wrong}。")


@pytest.mark.parametrize(
    "text",
    [
        "11010519490229002X",  # no such day
        "110105194912310020",
        "1110105194912310021",
        "11010519491231002",
        "01010519491231002X",
        "110105 19491231 002X",
        "2024年12月31日",
    ],
)
def test_what_only_looks_like_a_number_is_left_alone(text: str) -> None:
    assert spans(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "11010519491231002X",
        "11010519491231002x",
        "１１０１０５１９４９１２３１００２Ｘ",
        "\u200b".join("11010519491231002X"),
        "身份证11010519491231002X号",
        "id11010519491231002Xab",
        "1. 11010519491231002X",
    ],
)
def test_a_number_is_found_however_it_is_written(text: str) -> None:
    assert len(spans(text)) == 1


@settings(deadline=None)
@given(st.lists(st.sampled_from([TEST_NUMBER, "1", "x", "11010519491231002", "字", " ", "\u200b", "⑩"]), max_size=8))
def test_the_cut_changes_nothing_and_no_more_than_a_number_is_held(parts: list[str]) -> None:
    text = "".join(parts)
    scan = IdNumberScan()
    found = []
    for fed, char in enumerate(text, 1):
        scan.feed(char)
        found += [(match.start, match.end) for match in scan.take()]
        assert fed - scan.safe_upto <= 18 + text.count("\u200b")
    scan.finish()
    found += [(match.start, match.end) for match in scan.take()]
    assert found == spans(text)
    assert scan.safe_upto == len(text)


def test_a_flood_within_a_number_is_not_held_for_ever() -> None:
    scan = IdNumberScan()
    scan.feed("1101" + "\u0301" * 2000)
    assert scan.safe_upto == 2004
