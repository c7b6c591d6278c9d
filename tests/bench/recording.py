"""HTTP answers as they came: each piece with its moment. What is in them is looked at when all is over.

So the load generator costs a callback a piece, and not a parser, a task and a queue: with a real HTTP client it would
need as much of the processor as the server that it measures.
"""

import asyncio
from collections.abc import Mapping
from time import monotonic

import httptools


class Recording(asyncio.Protocol):
    """All that came back on one connection."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.pieces: list[tuple[float, bytes]] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.pieces.append((monotonic(), data))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        self.ended.set_result(None)

    def read(self) -> "Answer":
        """Return what it was, without HTTP around it."""
        answer = Answer()
        parser = httptools.HttpResponseParser(answer)
        for at, data in self.pieces:
            answer.now = at
            parser.feed_data(data)
        answer.status = parser.get_status_code() if self.pieces else 0
        return answer


class Answer:
    """A status, headers, and pieces of a body with their moments; httptools calls it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.status = 0
        self.headers: dict[str, str] = {}
        self.pieces: list[tuple[float, bytes]] = []

    @property
    def body(self) -> bytes:
        return b"".join(data for _, data in self.pieces)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self.pieces.append((self.now, body))


async def record(
    port: int, method: str, path: str, *, headers: Mapping[str, str], body: bytes = b"", timeout_s: float = 60.0
) -> Recording:
    """Send a request on a connection of its own, and wait until the server closes it."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    request = "\r\n".join([*lines, "", ""]).encode() + body
    transport, recording = await asyncio.get_running_loop().create_connection(Recording, "127.0.0.1", port)
    transport.write(request)
    await asyncio.wait({recording.ended}, timeout=timeout_s)
    transport.abort()  # after the time-out, what came until then is the result
    return recording
