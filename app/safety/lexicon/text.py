"""Files that people give: text, or a clear word on what they are instead."""

from pathlib import Path
from typing import Final

from app.domain.errors import InvalidInput

_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")
_LIKELY: Final = 0.8
"""The share of common Chinese characters from which on bytes are taken for Chinese text of another encoding."""


def read_text(path: Path) -> str:
    r"""Return a file's text, every line ended by `\n` alone.

    Raises InvalidInput where it is binary or not UTF-8, OSError where it cannot be read.
    """
    data = path.read_bytes()
    if data.startswith(_UTF16):
        raise InvalidInput(f"{path}: UTF-16; convert it to UTF-8 first: iconv -f UTF-16 -t UTF-8")
    if b"\0" in data:
        line = data[: data.index(b"\0")].count(b"\n") + 1
        raise InvalidInput(f"{path}:{line}: a NUL byte; this is no text file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        if _is_chinese(data):
            advice = "it looks like GBK or GB18030; convert it first: iconv -f GB18030 -t UTF-8"
            raise InvalidInput(f"{path}:{line}: not UTF-8; {advice}") from None
        raise InvalidInput(f"{path}:{line}: not UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _is_chinese(data: bytes) -> bool:
    try:
        text = data.decode("gb18030")
    except UnicodeDecodeError:
        return False
    foreign = [char for char in text if not char.isascii()]
    return sum(map(_is_common, foreign)) >= _LIKELY * len(foreign)


def _is_common(char: str) -> bool:
    """Whether a character is one of the 7,000 that came first: accents read as GBK give rare ones."""
    try:
        char.encode("gb2312")
    except UnicodeEncodeError:
        return False
    return True
