import random
import re
from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.verdicts import Stage
from app.safety.detector import Match
from app.safety.personal_data import (
    MAX_RUN,
    TEST_NUMBER,
    UNSURE,
    PersonalDataDetector,
    PersonalDataScan,
    is_card_number,
    is_id_number,
)
from tests.fakes.invariants import invariant
from tests.fakes.scans import read_slowly

Span = tuple[int, int]


def matches(*pieces: str, stage: Stage = Stage.INPUT) -> list[Match]:
    scan = PersonalDataDetector().open(stage=stage)
    found: list[Match] = []
    for piece in pieces:
        scan.feed(piece)
        found += scan.take()
    scan.finish()
    return [*found, *scan.take()]


def spans(*pieces: str) -> list[Span]:
    return [(match.start, match.end) for match in matches(*pieces) if match.rule.startswith("id-number")]


def sure(text: str, *, stage: Stage = Stage.INPUT) -> list[tuple[str, str]]:
    """Return rule and text of what would be masked."""
    found = matches(text, stage=stage)
    return [(match.rule, text[match.start : match.end]) for match in found if match.score > UNSURE]


def some_number(seed: int) -> str:
    """ISO 7064 as its definition has it: the weights are powers of two modulo 11, and the sum is congruent to 1."""
    choose = random.Random(seed)
    day = date(1900, 1, 1) + timedelta(days=choose.randrange(45000))
    digits = f"{choose.randrange(110000, 700000)}{day:%Y%m%d}{choose.randrange(1000):03}"
    total = sum(int(digit) * pow(2, 17 - place, 11) for place, digit in enumerate(digits))
    check = (1 - total) % 11
    return digits + ("X" if check == 10 else str(check))


def test_the_test_number_is_one() -> None:
    assert is_id_number(TEST_NUMBER)


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


_JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
_PEM = (
    "-----BEGIN RSA PRIVATE KEY-----\n"
    + "MIIEpAIBAAKCAQEA7bq3pL/5n+Y8rQ2d1vX9sT4uW6yZ0aBcDeFgHiJkLmNoPqRs\n" * 3
    + "Q9sT4uW=\n-----END RSA PRIVATE KEY-----"
)


@pytest.mark.parametrize(
    ("text", "rule", "found"),
    [
        ("打13800138000找我", "mobile:cn", "13800138000"),
        ("+86 138 0013 8000.", "mobile:cn", "+86 138 0013 8000"),
        ("0086-138-0013-8000", "mobile:cn", "0086-138-0013-8000"),
        ("8613800138000", "mobile:cn", "8613800138000"),
        ("tel13800138000", "mobile:cn", "13800138000"),
        ("电话１３８００１３８０００。", "mobile:cn", "１３８００１３８０００"),
        ("**13800138000**", "mobile:cn", "13800138000"),
        ("13800138000ba", "mobile:cn", "13800138000"),
        ("my card is 4111 1111 1111 1111", "bank-card", "4111 1111 1111 1111"),
        ("银行卡号：6222021234567890128", "bank-card", "6222021234567890128"),
        ("visa 4111-1111-1111-1111,", "bank-card", "4111-1111-1111-1111"),
        ("护照号码E12345678", "passport:cn", "E12345678"),
        ("Passport no. EA1234567.", "passport:cn", "EA1234567"),
        ("mail bob.li+x@mail.corp.com.cn.", "email", "bob.li+x@mail.corp.com.cn"),
        ("发给wang@qq.com吧", "email", "wang@qq.com"),
        ("<123456789@163.com>", "email", "123456789@163.com"),
        ("sk-proj-Ab3dEf6hIj9kLmN2pQrS5tUv", "key:openai", "sk-proj-Ab3dEf6hIj9kLmN2pQrS5tUv"),
        ("ghp_" + "a1B2" * 9, "key:github", "ghp_" + "a1B2" * 9),
        ("github_pat_" + "a1B2" * 9, "key:github", "github_pat_" + "a1B2" * 9),
        ("AKIAQ3EGV2N5X7YZAB4C", "key:aws", "AKIAQ3EGV2N5X7YZAB4C"),
        ("hf_" + "AbCdEfGhIj" * 3 + "KlMn", "key:huggingface", "hf_" + "AbCdEfGhIj" * 3 + "KlMn"),
        ("AIza" + "Sy1-_" * 7, "key:google", "AIza" + "Sy1-_" * 7),
        ("glpat-" + "x1Y2z" * 4, "key:gitlab", "glpat-" + "x1Y2z" * 4),
        ("LTAI" + "5tA1" * 4, "key:aliyun", "LTAI" + "5tA1" * 4),
        ("sk_live_" + "a1B2" * 6, "key:stripe", "sk_live_" + "a1B2" * 6),
        ("xoxb-" + "123456789012-a1B2c3D4e5F6", "key:slack", "xoxb-123456789012-a1B2c3D4e5F6"),
        (_JWT, "token:jwt", _JWT),
    ],
)
def test_each_kind_is_found(text: str, rule: str, found: str) -> None:
    assert sure(text) == [(rule, found)]
    assert sure(f"如下：{text}，好") == [(rule, found)]


@pytest.mark.parametrize(
    "text",
    [
        "订单号 13912345678",
        "Order no. 13912345678 was shipped",
        "运单编号：13912345678",
        "138001380001",  # twelve digits
        "20240115134501",
        "1700000000000",  # milliseconds
        "1700000000",
        "18873261792*249**(1/3) + 13478400000*I",
        "3.14159265358979",
        "π is about 3.14159265358",
        "0.13812345678",
        "550e8400-e29b-41d4-a716-446655440000",
        "550e8400-e29b-41d4-a716-a13812345678",
        "d41d8cd98f00b204e9813800138000ecf8427e",
        "a13800138000b",
        "DE89 3704 0044 0532 0130 00",
        "GB29 NWBK 6016 1331 9268 19",
        "978-7-111-54742-6",
        "9787111547426",
        "4111 1111 1111 1112",  # a card's form, another check digit
        "4111111111111111",  # no word says card
        "4111111111111111.50",
        "v1.38.0013-8000",
        "pip install torch==2.13.0",
        "npm i react@18.2.0-rc.final",
        "lodash@4.17.21",
        "someone@example.com",
        "user@mail.example.org",
        "root@localhost",
        "git@github.com:org/repo.git",
        "x = A@B.transpose()",
        "a @ b",
        "@app.route",
        "see @someone",
        "sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "sk-fading-circle-with-many-dots-and-words",
        "hf_hub_download",
        "ghp_xxx",
        "eyJ",
        "E12345678",  # no word says passport
        "型号E12345678",
        "1998 1999 2000 2001 2002 2003 2004",
        "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14",
        "for i in range(1000000): total += i * 16180339887",
        "https://example.com/a/1234567",
        "192.168.100.200:8080",
        "2024-01-15T13:45:01.123456789Z",
        "SHA-256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0bd7f5b0a1d6d5c0f00a08",
        "-----BEGIN CERTIFICATE-----",
        "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA7bq3pL",
        "1.1.1.1 and 8.8.8.8",
        "10086 and 95588 and 400-800-8888",
    ],
)
def test_what_only_looks_like_personal_data_is_not_masked(text: str) -> None:
    for stage in Stage:
        assert sure(text, stage=stage) == []
        assert sure(f"看 {text} 吧", stage=stage) == []


def test_what_may_be_it_is_a_hint() -> None:
    for text in ("订单号13912345678", "4111111111111111", "E12345678", "3.14159265358"):
        assert [match.score for match in matches(text)] == [UNSURE]


def test_a_private_key_is_masked_line_by_line_to_its_end() -> None:
    for text in (f"here:\n{_PEM}\nThe end.", f'key = "{_PEM}"'.replace("\n", "\\n") + "\nThe end."):
        found = matches(text)
        assert {match.rule for match in found} == {"key:private"}
        shown = text
        for match in reversed(found):
            shown = shown[: match.start] + "█" + shown[match.end :]
        assert "MII" not in shown
        assert "Q9sT" not in shown
        assert shown.endswith("The end.")
        assert len(shown) < 80


def test_talk_about_the_header_of_a_key_goes_on() -> None:
    text = "A file begins with -----BEGIN PRIVATE KEY----- and then follow letters."
    assert [text[m.start : m.end] for m in matches(text)] == ["-----BEGIN PRIVATE KEY-----"]


@pytest.mark.parametrize("length", [200, 300, 1000, 5000])
def test_a_token_longer_than_a_run_is_masked_whole(length: int) -> None:
    body = "".join(random.Random(length).choices("abcXYZ019_-", k=length))
    for token in (f"eyJ{body}.eyJ{body}.{body}", f"sk-{body}"):
        text = f"It is {token}, yes"
        found = matches(text)
        assert found[0].start == 6
        assert found[-1].end == 6 + len(token)
        assert all(first.end == second.start for first, second in pairwise(found))


def test_an_address_at_the_end_of_a_long_run_is_found() -> None:
    text = "x" * 500 + "%%" + "bob@corp.com"
    assert [text[m.start : m.end].endswith("bob@corp.com") for m in matches(text)] == [True]


def test_check_digits_of_cards() -> None:
    assert is_card_number("4111111111111111")
    assert is_card_number("79927398713")
    assert not is_card_number("79927398714")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("write to bob@corp.cn", "bob@corp.cn"),
        ("邮箱是bob@corp.cn", "bob@corp.cn"),
        ("Email: bob@corp.cn", "bob@corp.cn"),
        ("联系人：bob@corp.cn", "bob@corp.cn"),
        ("ask bob.li@corp.cn", ".li@corp.cn"),
        ("ask bob7@corp.cn", "7@corp.cn"),
        ("ask bob@corp.cn", "@corp.cn"),
        ("ask 7bob@corp.cn", "7bob@corp.cn"),
        ("key AKIAQ3EGV2N5X7YZAB4C", "AKIAQ3EGV2N5X7YZAB4C"),
        (f"token {_JWT}", _JWT),
    ],
)
def test_in_an_answer_a_word_that_nothing_announces_is_not_held_back(text: str, masked: str) -> None:
    found = matches(text, stage=Stage.OUTPUT)
    assert [text[match.start : match.end] for match in found] == [masked]
    assert found == matches(*text, stage=Stage.OUTPUT)


def test_prose_is_not_held_back_in_an_answer() -> None:
    scan = PersonalDataDetector().open(stage=Stage.OUTPUT)
    for fed, char in enumerate("The quick brown fox, 敏捷的狐狸, jumps over lazy dogs", 1):
        scan.feed(char)
        assert scan.safe_upto == fed


def test_a_word_without_end_is_not_held_back_in_an_answer() -> None:
    scan = PersonalDataDetector().open(stage=Stage.OUTPUT)
    for fed in range(1, 700):
        scan.feed("x")
        assert scan.safe_upto == fed
    scan.feed("@corp.com ")
    assert [(match.start, match.end) for match in scan.take()] == [(699, 708)]


_PARTS = st.sampled_from(
    [
        *(
            TEST_NUMBER,
            "13800138000",
            "4111 1111 1111 1111",
            "E12345678",
            "bob@corp.com",
            "ghp_" + "a1B2" * 9,
            _JWT,
            _PEM,
        ),
        *(
            "1",
            "x",
            "11010519491231002",
            "字",
            " ",
            "  ",
            "\n",
            "\u200b",
            "⑩",
            "@",
            ".",
            "-",
            "+86",
            "ａ",
            "eyJ",
            "sk-",
        ),
        *(
            "card ",
            "护照",
            "订单号",
            "mail",
            "to ",
            "(",
            "-----BEGIN",
            " PRIVATE KEY-----",
            "-----END",
            "abc" * 50,
            "A1" * 90,
        ),
        *("AKIA", "2024 ", "é", "/", "=", "=="),
    ]
)


@invariant
@given(parts=st.lists(_PARTS, max_size=12), stage=st.sampled_from([Stage.INPUT, Stage.OUTPUT]), data=st.data())
def test_the_cut_changes_nothing_what_is_safe_never_falls_and_little_is_held(
    parts: list[str], stage: Stage, data: st.DataObject
) -> None:
    text = "".join(parts)
    scan = PersonalDataDetector().open(stage=stage)
    found = read_slowly(scan, text, most_held=MAX_RUN + text.count("\u200b"))
    assert found == matches(text, stage=stage)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    pieces = [text[a:b] for a, b in pairwise([0, *cuts, len(text)])]
    assert found == matches(*pieces, stage=stage)
    if not found:
        assert TEST_NUMBER not in text or re.search(rf"[0-9⑩\u200b]{TEST_NUMBER}|{TEST_NUMBER}[\u200b]", text)


def test_a_flood_within_a_number_is_not_held_for_ever() -> None:
    scan = PersonalDataScan()
    scan.feed("1101" + "\u0301" * 2000)
    assert scan.safe_upto == 2004
