"""HTTP and server-sent events towards one engine; the only place here that knows aiohttp's errors.

A stream is handed on as the events of one network read at a time, and the more streams there are, the longer the next
read is put off: one step for several events is what keeps the cost of a crowd small. Who is alone waits a millisecond.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
import orjson

from app.domain.errors import EngineDied, EngineRefused, EngineStarting, EngineUnavailable, GenerationTimeout
from app.engines.refusals import refusal

CONNECT_TIMEOUT_S = 5.0
MAX_EVENT_BYTES = 1 << 20
GATHER_S = 0.1
"""How long a read is put off at most."""
GATHER_S_A_STREAM = 0.001
"""So much for each stream that runs: about a thousand steps a second then, however many read."""
_MAX_ERROR_BYTES = 1 << 16
_READ_BYTES = 1 << 16
_OK = 200


class EventParser:
    """Cuts bytes into the data of server-sent events, however the bytes were cut before.

    Source: https://html.spec.whatwg.org/multipage/server-sent-events.html; a lone CR as a line's end, which no engine
    sends, is not taken for one.
    """

    def __init__(self) -> None:
        self._line: list[bytes] = []
        self._line_bytes = 0
        self._data: list[bytes] = []

    def feed(self, received: bytes) -> list[bytes]:
        """Return the data of each event that is now whole. Raises EngineRefused for an event beyond a mebibyte."""
        first, *others = received.split(b"\n")
        self._line.append(first)
        self._line_bytes += len(first)
        if self._line_bytes > MAX_EVENT_BYTES:
            raise EngineRefused("the engine sent a line that is too long", engine_status=_OK)
        if not others:
            return []
        lines = [b"".join(self._line), *others[:-1]]
        self._line, self._line_bytes = [others[-1]], len(others[-1])
        return [event for line in lines if (event := self._take(line)) is not None]

    def _take(self, line: bytes) -> bytes | None:
        if line.endswith(b"\r"):
            line = line[:-1]
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            if sum(map(len, self._data)) > MAX_EVENT_BYTES:
                raise EngineRefused("the engine sent an event that is too long", engine_status=_OK)
        elif not line and self._data:
            event, self._data = b"\n".join(self._data), []
            return event
        return None


class _Pause:
    """Sleeps while a stream's next events gather; its end is not slept through."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content
        self._sleeper: asyncio.Future[None] | None = None
        content.on_eof(self._wake)

    async def sleep(self, seconds: float) -> None:
        if self._content.is_eof():
            return
        loop = asyncio.get_running_loop()
        self._sleeper = loop.create_future()
        alarm = loop.call_later(seconds, self._wake)
        try:
            await self._sleeper
        finally:
            alarm.cancel()

    def _wake(self) -> None:
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)


@dataclass(frozen=True, slots=True)
class Reply:
    """A short answer of an engine."""

    status: int
    body: bytes


class SseClient:
    """Speaks to one engine. Make it anywhere; its session is opened by the first call, inside the event loop."""

    def __init__(self, url: str, *, api_key: str = "", timeout_s: float = 60.0, is_local: bool = False) -> None:
        """`url` is the API's base, as `http://127.0.0.1:8001/v1`; `timeout_s` bounds the wait for each next event.

        With `is_local` a refused connection means that our own worker is still starting.
        """
        base = url.rstrip("/")
        if urlsplit(base).path == "":
            base += "/v1"
        self._base = base
        self._root = base.removesuffix("/v1")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout_s = timeout_s
        self._is_local = is_local
        self._session: aiohttp.ClientSession | None = None
        self._streams = 0

    async def get(self, path: str, *, timeout_s: float, is_at_root: bool = False) -> Reply:
        """Fetch a path of the API, or of the server that it is on.

        Raises EngineStarting or EngineUnavailable where nobody listens, EngineDied, GenerationTimeout, EngineRefused.
        """
        url = f"{self._root if is_at_root else self._base}/{path}"
        with self._translated(timeout_s):
            async with (
                asyncio.timeout(timeout_s),
                self._opened().get(url, headers=self._headers, allow_redirects=False) as response,
            ):
                return Reply(response.status, await response.read())

    async def events(
        self, path: str, payload: Mapping[str, object], *, request_id: str
    ) -> AsyncGenerator[list[bytes], None]:
        """Post a request and yield the data of its events, those of one network read at a time; the first at once.

        Closing the generator closes the connection at once. Raises what `refusals` makes of an error answer, and what
        `get` raises.
        """
        response = await self._post(path, payload, request_id=request_id)
        parser = EventParser()
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._timeout_s
        pause = _Pause(response.content)
        self._streams += 1
        try:
            with self._translated(self._timeout_s):
                # Silence is the session's to notice, once for each read: cheaper than a timeout of our own around it.
                while received := await response.content.readany():
                    if events := parser.feed(received):
                        yield events
                        await pause.sleep(min(GATHER_S, self._streams * GATHER_S_A_STREAM))
                        deadline = clock() + self._timeout_s
                    elif clock() > deadline:  # comments that keep a connection alive are no tokens
                        raise GenerationTimeout("the engine sends no tokens", after_s=self._timeout_s)
        finally:
            self._streams -= 1
            response.close()

    async def close(self) -> None:
        """Close all connections; a later call opens a new session."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def _post(self, path: str, payload: Mapping[str, object], *, request_id: str) -> aiohttp.ClientResponse:
        headers = {**self._headers, "Content-Type": "application/json", "X-Request-Id": request_id}
        with self._translated(self._timeout_s):
            async with asyncio.timeout(self._timeout_s):
                response = await self._opened().post(
                    f"{self._base}/{path}", data=orjson.dumps(payload), headers=headers, allow_redirects=False
                )
                if response.status == _OK and response.content_type == "text/event-stream":
                    return response
                try:
                    body = await response.content.read(_MAX_ERROR_BYTES)
                finally:
                    response.close()
        if response.status == _OK:
            raise EngineRefused("the engine did not answer with a stream", engine_status=_OK)
        raise refusal(response.status, body, retry_after=response.headers.get("Retry-After"))

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            # No connection is used twice: uvicorn drops an idle one after five seconds, and a request that meets such
            # a connection would look like an engine that died. A new one costs far less than a prefill.
            connector = aiohttp.TCPConnector(limit=0, force_close=True)
            timeout = aiohttp.ClientTimeout(
                total=None, connect=CONNECT_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S, sock_read=self._timeout_s
            )
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=_READ_BYTES)
        return self._session

    @contextmanager
    def _translated(self, timeout_s: float) -> Iterator[None]:
        try:
            yield
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            if self._is_local:
                raise EngineStarting("the worker does not listen yet") from error
            raise EngineUnavailable("no connection to the engine") from error
        except TimeoutError as error:
            raise GenerationTimeout("the engine is silent", after_s=timeout_s) from error
        except (aiohttp.ServerConnectionError, aiohttp.ClientPayloadError, OSError) as error:
            raise EngineDied("the engine closed the connection") from error
        except (aiohttp.ClientError, ValueError) as error:  # ValueError: a URL that is none, a line beyond all bounds
            raise EngineRefused("the engine does not speak HTTP as we know it") from error
