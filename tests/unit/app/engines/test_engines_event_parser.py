import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.errors import EngineRefused
from app.engines.sse_client import MAX_EVENT_BYTES, EventParser

DATA = st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=["Cs"]), min_size=1).map(str.encode)


def feed_all(pieces: list[bytes]) -> list[bytes]:
    parser = EventParser()
    return [event for piece in pieces for event in parser.feed(piece)]


@settings(max_examples=100)
@given(events=st.lists(DATA), ending=st.sampled_from([b"\n", b"\r\n"]), data=st.data())
def test_events_come_out_the_same_wherever_the_bytes_were_cut(
    events: list[bytes], ending: bytes, data: st.DataObject
) -> None:
    stream = b"".join(b"data: " + event + ending * 2 for event in events)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert feed_all(pieces) == events


def test_comments_ids_and_names_are_left_out_and_lines_of_one_event_joined() -> None:
    stream = b": alive\n\nevent: x\nid: 1\ndata:a\ndata: b\n\nretry: 5\n\n"
    assert feed_all([stream]) == [b"a\nb"]


def test_an_event_without_its_empty_line_is_not_an_event_yet() -> None:
    assert feed_all([b"data: a\n"]) == []


@pytest.mark.parametrize("piece", [b"x" * 100_000, b"data: " + b"x" * 100_000 + b"\n"])
def test_an_event_beyond_all_bounds_is_refused_before_it_is_whole(piece: bytes) -> None:
    with pytest.raises(EngineRefused):
        feed_all([piece] * (2 * MAX_EVENT_BYTES // len(piece)))
