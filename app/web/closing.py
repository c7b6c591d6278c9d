"""The end of the process, for those who wait for long: streams end, answers that are waited for are refused."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")

_OTHERS_END_AFTER_S = 0.3
"""Streams that do not listen to us, Gradio's, are ended a moment after ours, which end by themselves."""


class Closing:
    """Told once that the server goes down. Tasks that wait here are cancelled then, so a token costs nothing more."""

    def __init__(self) -> None:
        """The server is up."""
        self._has_begun = asyncio.Event()
        self._waiting: set[asyncio.Task[object]] = set()
        self._streaming: set[asyncio.Task[object]] = set()

    @property
    def has_begun(self) -> bool:
        """Whether the server goes down."""
        return self._has_begun.is_set()

    def begin(self) -> None:
        """End what waits."""
        self._has_begun.set()
        _cancel(self._waiting)
        asyncio.get_running_loop().call_later(_OTHERS_END_AFTER_S, _cancel, self._streaming)

    async def until(self, items: AsyncIterator[Item]) -> AsyncIterator[Item]:
        """Yield the items to their end, or until the server goes down. All of it is read by one task."""
        task = _current()
        if self._has_begun.is_set():
            return
        self._waiting.add(task)
        try:
            async for item in items:
                yield item
        except asyncio.CancelledError:
            if not self._has_begun.is_set():
                raise
            task.uncancel()
        finally:
            self._waiting.discard(task)

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """Have the present task cancelled where the server goes down meanwhile and it does not end by itself."""
        task = _current()
        self._streaming.add(task)
        try:
            yield
        finally:
            self._streaming.discard(task)


def _current() -> "asyncio.Task[object]":
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("not in a task")
    return task


def _cancel(tasks: "set[asyncio.Task[object]]") -> None:
    for task in list(tasks):
        task.cancel()
