"""Names of files in headers, and how many shared pages are shown in a minute."""

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import QuotaExceeded
from app.domain.words import describe
from app.web.share_page import Pace
from app.web.sharing import attachment


@given(name=st.text(st.characters(categories=["L", "N"]), max_size=20))
def test_a_files_name_of_any_script_survives_the_header(name: str) -> None:
    header = attachment(f"haina-{name}.md")
    assert header.isascii()
    assert header.isprintable()
    assert unquote(header.split("filename*=UTF-8''")[1]) == f"haina-{name}.md"


def test_there_is_a_name_for_those_who_know_ascii_only() -> None:
    assert attachment("haina-去杭州.md").startswith('attachment; filename="haina.md"; ')
    assert attachment("haina-a-杭-b.md").startswith('attachment; filename="haina-a-b.md"; ')
    assert attachment('haina-".md').startswith('attachment; filename="haina.md"; ')


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_address_gets_so_many_pages_a_minute_and_others_are_not_affected() -> None:
    clock = Clock()
    pace = Pace(each=2, total=100, clock=clock)
    pace.count("a")
    clock.now = 50
    pace.count("a")
    with pytest.raises(QuotaExceeded) as caught:
        pace.count("a")
    assert caught.value.retry_after_s == 10
    assert "10 s" in describe(caught.value, "en")
    assert "10 秒" in describe(caught.value, "zh")
    assert "model" not in describe(caught.value, "en")
    pace.count("b")
    clock.now = 60
    pace.count("a")


def test_all_addresses_together_get_so_many_pages_a_minute() -> None:
    pace = Pace(each=2, total=3, clock=Clock())
    for address in ("a", "b", "c"):
        pace.count(address)
    with pytest.raises(QuotaExceeded):
        pace.count("d")
