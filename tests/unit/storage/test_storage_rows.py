from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Dialect
from sqlalchemy.dialects import postgresql, sqlite

from app.domain.errors import StorageCorrupt
from app.domain.models import MessageState
from storage.rows import Choice, UtcTime, storable

DIALECTS: list[Dialect] = [sqlite.dialect(), postgresql.dialect()]  # type: ignore[no-untyped-call]


@settings(max_examples=100)
@given(st.text())
def test_storable_text_is_utf_8_without_nul_and_as_long_as_before(text: str) -> None:
    kept = storable(text)
    kept.encode()
    assert "\0" not in kept
    assert storable(kept) == kept


@settings(max_examples=100)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_text_that_every_database_can_hold_is_not_changed(text: str) -> None:
    assert storable(text) == text


def test_what_cannot_be_held_is_replaced() -> None:
    assert storable("a\0b\ud800c") == "a\ufffdb\ufffdc"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_time_is_kept_in_utc_and_given_back_aware(dialect: Dialect) -> None:
    at = datetime(2026, 1, 1, 3, tzinfo=timezone(timedelta(hours=8)))
    kept = UtcTime().process_bind_param(at, dialect)
    back = UtcTime().process_result_value(kept, dialect)
    assert back == at
    assert back is not None
    assert back.tzinfo is UTC


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_time_without_a_zone_is_refused(dialect: Dialect) -> None:
    with pytest.raises(ValueError, match="zone"):
        UtcTime().process_bind_param(datetime(2026, 1, 1), dialect)  # noqa: DTZ001 - that is the point


def test_a_state_that_is_unknown_is_a_damaged_row() -> None:
    choice = Choice(MessageState)
    assert choice.process_result_value("running", DIALECTS[0]) is MessageState.RUNNING
    with pytest.raises(StorageCorrupt):
        choice.process_result_value("paused", DIALECTS[0])
