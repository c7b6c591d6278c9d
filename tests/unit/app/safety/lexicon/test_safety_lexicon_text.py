"""What is no UTF-8 text is named for what it is, with its line."""

from pathlib import Path

import pytest

from app.domain.errors import InvalidInput
from app.safety.lexicon.text import read_text


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("香蕉买卖\n葡萄批发".encode("gbk"), "list.txt:1: not UTF-8; it looks like GBK or GB18030; convert it first"),
        (b"plain\n" + "香蕉，买卖。".encode("gb18030"), "list.txt:2: not UTF-8; it looks like GBK"),
        ("香蕉".encode("utf-16"), "list.txt: UTF-16; convert it to UTF-8 first"),
        ("香蕉\n苹\0果".encode(), "list.txt:2: a NUL byte; this is no text file"),
        (bytes(range(1, 256)) * 20, "list.txt:2: not UTF-8"),
        (b"caf\xe9\n", "list.txt:1: not UTF-8"),
        (b"plain\ncaf\xe9s d\xe9jas\n", "list.txt:2: not UTF-8"),
    ],
)
def test_a_file_that_is_no_text_is_told_for_what_it_is(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "list.txt").write_bytes(data)
    with pytest.raises(InvalidInput) as caught:
        read_text(tmp_path / "list.txt")
    assert str(caught.value.detail).startswith(f"{tmp_path}/{reason}")
    assert ("GBK" in str(caught.value.detail)) == ("GBK" in reason)


def test_a_mark_at_the_beginning_and_kinds_of_line_ends_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes("\ufeff一\r\n二\r三\n".encode())
    assert read_text(tmp_path / "list.txt") == "一\n二\n三\n"
