"""How messages are fitted into a model's context: the one place for all formats.

A conversation is a system message and rounds. A round begins at each question. What does not fit goes in whole rounds,
oldest first; the system message and the newest round always stay.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from app.domain.errors import ContextLengthExceeded, InvalidInput
from app.domain.generation import ChatMessage, Prompt
from app.domain.models import Role

MIN_ANSWER = 16
"""Tokens. An answer's room never shrinks below it, unless less was wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What fits."""

    rounds: int
    """How many of the older rounds, counted from the newest."""
    max_tokens: int
    """Room for the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """A conversation in its parts."""

    system: ChatMessage | None
    rounds: tuple[tuple[ChatMessage, ...], ...]
    """Oldest first; at least one. The oldest may lack a question: a greeting."""

    @property
    def is_continued(self) -> bool:
        """Whether the model goes on with the last message instead of answering it."""
        return self.rounds[-1][-1].role is Role.ASSISTANT


def fit(fixed: int, older: Iterable[int], *, context_length: int, max_tokens: int) -> Fit:
    """Plan the context; all numbers are tokens.

    `fixed` is what always stays: system message, newest round, marks around them. `older` are the other rounds, newest
    first; it is read only as far as needed. The answer's room shrinks only where `fixed` leaves no other way.
    Raises ContextLengthExceeded where `fixed` and the least answer do not fit, InvalidInput where no answer is wanted.
    """
    if max_tokens < 1:
        raise InvalidInput("max_tokens must be at least 1", param="max_tokens")
    least = fixed + min(MIN_ANSWER, max_tokens)
    if least > context_length:
        raise ContextLengthExceeded(limit=context_length, length=least)
    max_tokens = min(max_tokens, context_length - fixed)
    room = context_length - max_tokens - fixed
    rounds = 0
    for size in older:
        if size > room:
            break
        room -= size
        rounds += 1
    return Fit(rounds=rounds, max_tokens=max_tokens)


def split(messages: Sequence[ChatMessage]) -> Thread:
    """Return the parts of a conversation; system messages at its beginning become one.

    Raises InvalidInput where there is nothing to answer, or a system message further on: no format here has a place
    for it.
    """
    begin = next((at for at, one in enumerate(messages) if one.role is not Role.SYSTEM), len(messages))
    rounds: list[list[ChatMessage]] = []
    for message in messages[begin:]:
        if message.role is Role.SYSTEM:
            raise InvalidInput("a system message must come first", param="messages")
        if message.role is Role.USER or not rounds:
            rounds.append([])
        rounds[-1].append(message)
    if not rounds:
        raise InvalidInput("there is no message to answer", param="messages")
    system = "\n\n".join(one.text for one in messages[:begin])
    return Thread(
        system=ChatMessage(Role.SYSTEM, system) if begin else None,
        rounds=tuple(tuple(one) for one in rounds),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What a model family puts around messages."""

    open: Callable[[ChatMessage], Sequence[int]]
    """A message's beginning and its text."""
    close: Sequence[int] = ()
    """A message's end."""
    close_answer: Sequence[int] | None = None
    """An answer's end, where it is another."""
    answer: Sequence[int]
    """What makes the model answer."""


def assemble(thread: Thread, *, system: Sequence[int], marks: Marks, context_length: int, max_tokens: int) -> Prompt:
    """Return the prompt: the system message as `system`, the rounds that fit, the sign to answer.

    A last message of the assistant stays open instead, and the model goes on with it.
    Raises ContextLengthExceeded, InvalidInput.
    """

    def end_of(message: ChatMessage) -> Sequence[int]:
        is_answer = message.role is Role.ASSISTANT
        return marks.close_answer if is_answer and marks.close_answer is not None else marks.close

    def ids_of(round_: Iterable[ChatMessage]) -> list[int]:
        return [token for message in round_ for token in (*marks.open(message), *end_of(message))]

    newest = ids_of(thread.rounds[-1])
    if thread.is_continued:
        newest = newest[: len(newest) - len(end_of(thread.rounds[-1][-1]))]
    else:
        newest += marks.answer
    older: list[list[int]] = []

    def sizes() -> Iterator[int]:
        for round_ in reversed(thread.rounds[:-1]):
            older.append(ids_of(round_))
            yield len(older[-1])

    fitted = fit(len(system) + len(newest), sizes(), context_length=context_length, max_tokens=max_tokens)
    kept = (token for round_ in reversed(older[: fitted.rounds]) for token in round_)
    ids = (*system, *kept, *newest)
    gone = thread.rounds[: len(thread.rounds) - 1 - fitted.rounds]
    return Prompt(ids=ids, tokens=len(ids), dropped=sum(map(len, gone)), max_tokens=fitted.max_tokens)
