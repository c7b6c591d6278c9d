"""What is kept of a text: the same for every spelling that the filter sees through, other on other days."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.verdicts import SealedText
from app.safety.tracing import HmacTracer, language_of
from tests.fakes.invariants import invariant

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
TRACER = HmacTracer("a secret of the server")


def digest(text: str, *, at: datetime = AT, tracer: HmacTracer = TRACER) -> str:
    return tracer.trace(SealedText(text), at=at).digest


@pytest.mark.parametrize(
    "spelled",
    ["HELLO world", "ｈｅｌｌｏ　world", "hel\u200blo wo\u0301rld", "  hello\n\tworld ", "\U0001d421ello world"],
)
def test_spellings_of_one_text_have_one_digest(spelled: str) -> None:
    assert digest(spelled) == digest("hello world")


def test_a_digest_is_known_again_on_its_day_only_and_with_its_secret_only() -> None:
    evening = AT.replace(hour=23, minute=59)
    assert digest("海纳百川", at=evening) == digest("海纳百川")
    assert digest("海纳百川", at=evening + timedelta(minutes=1)) != digest("海纳百川")
    assert digest("海纳百川", at=evening.astimezone(timezone(timedelta(hours=8)))) == digest("海纳百川")
    assert digest("海纳百川", tracer=HmacTracer("another secret")) != digest("海纳百川")
    assert digest("海纳") != digest("海纳百川")


@invariant
@given(st.text(alphabet=st.characters(codec=None), max_size=40))
def test_any_text_has_a_trace_that_does_not_hold_it(text: str) -> None:
    trace = TRACER.trace(SealedText(text), at=AT)
    assert len(trace.digest) == 32
    assert set(trace.digest) <= set("0123456789abcdef")
    assert trace.length == len(text)
    assert trace.language in {"zh", "en", "other"}


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("怎么做红烧肉", "zh"),
        ("怎么做 apple pie", "zh"),
        ("α粒子的质量是多少", "zh"),
        ("臺灣的面積有多大？", "zh"),
        ("What does 道 mean in the Tao Te Ching?", "en"),
        ("Où est la gare ?", "en"),
        ("これは日本語のテキストです", "other"),
        ("Как дела?", "other"),
        ("12 + 30 = ?", "other"),
        ("", "other"),
    ],
)
def test_the_language_is_guessed_by_the_scripts(text: str, language: str) -> None:
    assert language_of(text) == language
