"""The outermost layers alone, around applications that misbehave."""

# ruff: noqa: ARG001 - an ASGI application takes three arguments, whatever it does with them

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.safety.replies import CategoryReplies
from app.web.body_limit import MIB, BodyLimit
from app.web.closing import Closing
from app.web.errors import Respond
from app.web.porch import Porch
from ui.forms import HtmlForms

SECRET = "what somebody wrote"
RESPOND = Respond(HtmlForms(), replies=CategoryReplies(()))


async def ask(
    app: ASGIApp, *, path: str = "/api/turns", body: Sequence[bytes] = (b"",), headers: dict[str, str] | None = None
) -> list[Message]:
    """Send a body in pieces; return what came back."""
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
    }
    pieces = iter([*body])
    sent: list[Message] = []

    async def receive() -> Message:
        piece = next(pieces, None)
        if piece is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": piece, "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def porch(app: ASGIApp, *, closing: Closing | None = None) -> Porch:
    return Porch(app, respond=RESPOND, closing=closing or Closing())


async def begin(send: Send, kind: str = "text/event-stream") -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind.encode())]})
    await send({"type": "http.response.body", "body": b"one", "more_body": True})


async def test_a_fault_is_answered_in_words_and_logged_by_kind_and_place() -> None:
    async def faulty(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError(SECRET)

    with structlog.testing.capture_logs() as logs:
        start, body = await ask(porch(faulty))
    assert start["status"] == 500
    assert b"content-security-policy" in dict(start["headers"])
    assert json.loads(body["body"])["error"]["code"] == "internal_error"
    (entry,) = logs
    assert entry["error"] == "ValueError"
    assert entry["frames"][-1].startswith("test_web_porch.py:")
    assert SECRET not in repr(logs) + repr(body)


async def test_a_fault_behind_a_link_is_logged_without_the_links_token() -> None:
    async def faulty(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError

    with structlog.testing.capture_logs() as logs:
        await ask(porch(faulty), path="/share/t0ken")
    assert logs[0]["path"] == "/share/…"


async def test_a_fault_within_a_response_breaks_it_off_and_raises_nothing() -> None:
    async def faulty(scope: Scope, receive: Receive, send: Send) -> None:
        await begin(send)
        raise ValueError(SECRET)

    sent = await ask(porch(faulty))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[-1]["more_body"]


async def started(app: Porch) -> "asyncio.Task[list[Message]]":
    task = asyncio.create_task(ask(app))
    await asyncio.sleep(0.01)
    return task


async def test_a_stream_that_does_not_listen_ends_when_the_server_goes_down() -> None:
    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await begin(send)
        await asyncio.Event().wait()

    closing = Closing()
    task = await started(porch(endless, closing=closing))
    closing.begin()
    sent = await asyncio.wait_for(task, 2)
    assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_a_request_that_is_cancelled_while_the_server_is_up_stays_cancelled() -> None:
    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    task = await started(porch(endless))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_was_not_answered_when_the_server_ends_is_told_so() -> None:
    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    closing = Closing()
    task = await started(porch(endless, closing=closing))
    closing.begin()
    task.cancel()  # as uvicorn does when its patience is over
    start, body = await task
    assert start["status"] == 503
    assert (b"retry-after", b"5") in start["headers"]
    assert json.loads(body["body"])["error"]["code"] == "server_stopping"


async def test_reading_until_the_end_of_the_server_ends_without_an_error() -> None:
    async def items() -> AsyncIterator[int]:
        yield 1
        yield 2
        await asyncio.Event().wait()

    async def read() -> list[int]:
        found = [item async for item in closing.until(items())]
        await asyncio.sleep(0)  # the task goes on as if nothing had been cancelled
        return found

    closing = Closing()
    task = asyncio.create_task(read())
    await asyncio.sleep(0.01)
    closing.begin()
    assert await asyncio.wait_for(task, 2) == [1, 2]
    assert await read() == []


async def swallowing(scope: Scope, receive: Receive, send: Send) -> None:
    """Read all, and make a 400 of whatever goes wrong, as FastAPI does."""
    status, size = 200, 0
    try:
        while piece := (await receive())["body"]:
            size += len(piece)
    except Exception:  # noqa: BLE001
        status = 400
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


async def raising(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive())["body"]:
        pass


@pytest.mark.parametrize("app", [swallowing, raising])
@pytest.mark.parametrize(("path", "mib"), [("/api/turns", 1), ("/login", 1), ("/v1/chat/completions", 8)])
async def test_a_body_beyond_the_limit_is_refused_while_it_is_read(
    app: Callable[[Scope, Receive, Send], None], path: str, mib: int
) -> None:
    limited = BodyLimit(app, respond=RESPOND)  # type: ignore[arg-type]
    start, body = await ask(limited, path=path, body=[b"x" * MIB] * mib + [b"x", b""])
    assert start["status"] == 413
    assert json.loads(body["body"])["error"]["code"] == "request_too_large"
    assert f"{mib} MiB" in json.loads(body["body"])["error"]["message"]


async def test_a_body_that_says_that_it_is_too_large_is_not_read_at_all() -> None:
    async def untouched(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError

    for length in (str(MIB + 1), "9" * 5000):
        start, _ = await ask(BodyLimit(untouched, respond=RESPOND), headers={"content-length": length})
        assert start["status"] == 413


async def test_a_body_at_the_limit_passes() -> None:
    start, body = await ask(BodyLimit(swallowing, respond=RESPOND), body=[b"x" * MIB, b""])
    assert (start["status"], body["body"]) == (200, str(MIB).encode())
