"""The context is never exceeded, and what must stay stays."""

from collections.abc import Iterator

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.domain.errors import ContextLengthExceeded, InvalidInput
from app.domain.generation import ChatMessage
from app.domain.models import Role
from prompts.formats.budget import MIN_ANSWER, Marks, Thread, assemble, fit, split

sizes = st.integers(0, 60)
system_or_none = st.none() | sizes
rounds_of_messages = st.lists(st.lists(sizes, min_size=1, max_size=3), min_size=1, max_size=6)

END, ASK = -1, -2


def thread_of(rounds: list[list[int]]) -> Thread:
    """A round is a question and answers; each message is a number of letters that says where it stands."""
    built = tuple(
        tuple(
            ChatMessage(Role.ASSISTANT if at else Role.USER, chr(1000 + 10 * number + at) * size)
            for at, size in enumerate(one)
        )
        for number, one in enumerate(rounds)
    )
    return Thread(system=None, rounds=built)


def marks(*, has_end: bool) -> Marks:
    return Marks(open=lambda message: (0, *map(ord, message.text)), close=(END, END) if has_end else (), answer=(ASK,))


@settings(deadline=None)
@given(
    system=sizes,
    rounds=rounds_of_messages,
    context_length=st.integers(1, 600),
    max_tokens=st.integers(1, 600),
    has_end=st.booleans(),
)
def test_the_context_is_never_exceeded_and_whole_rounds_go_oldest_first(
    system: int, rounds: list[list[int]], context_length: int, max_tokens: int, *, has_end: bool
) -> None:
    thread, style = thread_of(rounds), marks(has_end=has_end)
    head = [-3] * system

    def whole(some: tuple[tuple[ChatMessage, ...], ...]) -> tuple[int, ...]:
        closed = [one for round_ in some for message in round_ for one in (*style.open(message), *style.close)]
        if not thread.is_continued:
            return (*head, *closed, *style.answer)
        return (*head, *closed[: len(closed) - len(style.close)])

    least = len(whole(thread.rounds[-1:])) + min(MIN_ANSWER, max_tokens)
    if least > context_length:
        with pytest.raises(ContextLengthExceeded) as caught:
            assemble(thread, system=head, marks=style, context_length=context_length, max_tokens=max_tokens)
        assert caught.value.data == {"limit": context_length, "length": least}
        return
    prompt = assemble(thread, system=head, marks=style, context_length=context_length, max_tokens=max_tokens)
    kept = next(number for number in range(len(rounds)) if whole(thread.rounds[number:]) == prompt.ids)
    assert prompt.tokens == len(prompt.ids)
    assert prompt.tokens + prompt.max_tokens <= context_length
    assert prompt.dropped == sum(len(one) for one in rounds[:kept])
    assert min(MIN_ANSWER, max_tokens) <= prompt.max_tokens <= max_tokens
    if kept:  # one round more would not have fitted
        assert len(whole(thread.rounds[kept - 1 :])) + prompt.max_tokens > context_length
    if kept < len(rounds) - 1:  # the answer's room did not shrink for the sake of history
        assert prompt.max_tokens == max_tokens


@settings(deadline=None)
@given(
    fixed=sizes,
    older=st.lists(sizes, max_size=8),
    context_length=st.integers(1, 300),
    max_tokens=st.integers(1, 300),
    more=st.integers(0, 100),
)
def test_more_context_or_a_shorter_answer_never_drops_more(
    fixed: int, older: list[int], context_length: int, max_tokens: int, more: int
) -> None:
    assume(fixed + min(MIN_ANSWER, max_tokens) <= context_length)
    before = fit(fixed, older, context_length=context_length, max_tokens=max_tokens)
    assert fit(fixed, older, context_length=context_length + more, max_tokens=max_tokens).rounds >= before.rounds
    shorter = max(1, max_tokens - more)
    assert fit(fixed, older, context_length=context_length, max_tokens=shorter).rounds >= before.rounds


def test_old_rounds_are_read_only_as_far_as_the_context_reaches() -> None:
    read = []

    def older() -> Iterator[int]:
        for number in range(1000):
            read.append(number)
            yield 10

    assert fit(20, older(), context_length=100, max_tokens=30).rounds == 5
    assert len(read) == 6


def test_the_answer_shrinks_to_sixteen_tokens_and_no_further() -> None:
    assert fit(84, [], context_length=100, max_tokens=50).max_tokens == 16
    with pytest.raises(ContextLengthExceeded):
        fit(85, [], context_length=100, max_tokens=50)


def test_an_answer_that_was_wanted_shorter_than_that_stays_so_short() -> None:
    assert fit(97, [], context_length=100, max_tokens=3).max_tokens == 3


@pytest.mark.parametrize("max_tokens", [0, -1, -5000])
def test_an_answer_of_no_tokens_is_refused(max_tokens: int) -> None:
    with pytest.raises(InvalidInput):
        fit(1, [], context_length=100, max_tokens=max_tokens)


def test_a_context_without_room_is_refused() -> None:
    for context_length in (0, -10):
        with pytest.raises(ContextLengthExceeded):
            fit(0, [], context_length=context_length, max_tokens=10)


def test_a_greeting_is_a_round_of_its_own_and_the_first_to_go() -> None:
    hello, question = ChatMessage(Role.ASSISTANT, "hello"), ChatMessage(Role.USER, "x")
    thread = split([hello, question])
    assert thread.rounds == ((hello,), (question,))
    prompt = assemble(thread, system=(), marks=marks(has_end=False), context_length=12, max_tokens=8)
    assert (prompt.ids, prompt.dropped) == ((0, ord("x"), ASK), 1)


def test_questions_without_answers_are_rounds_too() -> None:
    first, second = ChatMessage(Role.USER, "a"), ChatMessage(Role.USER, "b")
    assert split([first, second]).rounds == ((first,), (second,))
