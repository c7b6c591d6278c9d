import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.errors import ChatError, EngineBusy, EngineDied, EngineRefused, InvalidInput
from app.engines.refusals import refusal, refusal_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["error", "code", "type", "limit", "x"]), inner),
)


@settings(max_examples=100)
@given(content=JSON, status=st.integers(400, 599))
def test_whatever_an_engine_says_becomes_an_error_of_ours(content: object, status: int) -> None:
    assert isinstance(refusal_of(content, status=status), ChatError)


@settings(max_examples=50)
@given(body=st.binary(), status=st.integers(100, 599))
def test_whatever_bytes_an_engine_sends_become_an_error_of_ours(body: bytes, status: int) -> None:
    assert isinstance(refusal(status, body), ChatError)


@pytest.mark.parametrize("header", ["Wed, 21 Oct 2026 07:28:00 GMT", "-1", "inf", "nan", "1e9", None])
def test_a_wait_that_makes_no_sense_is_replaced(header: str | None) -> None:
    error = refusal(429, b"", retry_after=header)
    assert isinstance(error, EngineBusy)
    assert error.retry_after_s == 2.0


def test_a_status_in_the_body_wins_as_in_an_event_of_a_stream() -> None:
    assert isinstance(refusal_of({"error": {"code": 400}}), InvalidInput)


def test_an_unknown_status_is_kept_as_data() -> None:
    error = refusal(418, b"{}")
    assert isinstance(error, EngineRefused)
    assert error.data == {"engine_status": 418}


def test_a_worker_that_stops_in_the_middle_has_died() -> None:
    assert isinstance(refusal_of({"error": {"type": "server_error", "code": "engine_stopped"}}), EngineDied)
