"""JSON over HTTP towards one guard; the only place here that knows aiohttp's errors. Budgets are the caller's."""

import ssl
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import orjson

from app.safety.guards.verdict import GuardFailure

_CONNECT_TIMEOUT_S: Final = 5.0
_KEEP_ALIVE_S: Final = 2.0
"""Less than the five seconds after which uvicorn, and so vLLM, drops an idle connection."""
_MAX_REPLY_BYTES: Final = 1 << 20
_OK: Final = 200
_NOT_FOUND: Final = 404
BLAMES_REQUEST: Final = (400, 413, 422)


class GuardRefused(GuardFailure):
    """The guard answered with an HTTP error."""

    def __init__(self, status: int) -> None:
        """`status` is HTTP's."""
        super().__init__("request" if status in BLAMES_REQUEST else "status")
        self.status = status


class GuardClient:
    """Speaks to one guard. Make it anywhere; its session is opened by the first call, inside the event loop."""

    def __init__(self, url: str, *, api_key: str = "", model: str = "default") -> None:
        """`url` is the API's base, as `http://127.0.0.1:8002/v1`; a bare host gets the `/v1`."""
        base = url.rstrip("/")
        if urlsplit(base).path == "":
            base += "/v1"
        self._base = base
        self._root = base.removesuffix("/v1")
        self._headers = {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {api_key}"} if api_key else {}
        )
        self._model = model
        self._listed = ""
        self._session: aiohttp.ClientSession | None = None

    async def model(self) -> str:
        """Return the name of the model to ask: the one that is set, or the first that the guard lists, remembered."""
        if self._model != "default":
            return self._model
        if not self._listed:
            reply = await self._send("GET", f"{self._base}/models", None)
            models = reply.get("data")
            first = models[0] if isinstance(models, list) and models else None
            name = first.get("id") if isinstance(first, dict) else None
            if not isinstance(name, str) or not name:
                raise GuardFailure("reply")
            self._listed = name
        return self._listed

    @property
    def chosen_model(self) -> Mapping[str, str]:
        """The field `model` where one is set; nothing leaves the choice to the guard."""
        return {} if self._model == "default" else {"model": self._model}

    async def post(self, path: str, payload: Mapping[str, object], *, is_at_root: bool = False) -> dict[str, object]:
        """Post to a path of the API, or of the server that it is on; return the JSON object that comes back.

        Raises GuardFailure: nobody there, an HTTP error (GuardRefused), anything but a JSON object.
        """
        try:
            return await self._send("POST", f"{self._root if is_at_root else self._base}/{path}", payload)
        except GuardRefused as refused:
            if refused.status == _NOT_FOUND:
                self._listed = ""  # another model may be served there now
            raise

    async def close(self) -> None:
        """Close all connections; a later call opens a new session."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def _send(self, method: str, url: str, payload: Mapping[str, object] | None) -> dict[str, object]:
        data = None if payload is None else orjson.dumps(payload)
        try:
            try:
                status, body = await self._exchange(method, url, data)
            except aiohttp.ServerDisconnectedError:  # a kept connection that the other side has just dropped: once more
                status, body = await self._exchange(method, url, data)
        except TimeoutError as error:
            raise GuardFailure("timeout") from error
        except (aiohttp.ClientError, OSError, ssl.SSLError, ValueError) as error:  # ValueError: a URL that is none
            raise GuardFailure("unreachable") from error
        if status != _OK:
            raise GuardRefused(status)
        try:
            reply = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise GuardFailure("reply") from None
        if not isinstance(reply, dict):
            raise GuardFailure("reply")
        return reply

    async def _exchange(self, method: str, url: str, data: bytes | None) -> tuple[int, bytes]:
        async with self._opened().request(
            method, url, data=data, headers=self._headers, allow_redirects=False
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > _MAX_REPLY_BYTES:
                    raise GuardFailure("reply")
            return response.status, bytes(body)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S)
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        return self._session


def chat_reply(reply: Mapping[str, object]) -> tuple[str, Mapping[str, object]]:
    """Return the text of a chat completion, and its whole choice. Raises GuardFailure."""
    choice = _first_choice(reply)
    message = choice.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, str):
        raise GuardFailure("reply")
    return content, choice


def completion_reply(reply: Mapping[str, object]) -> str:
    """Return the text of a completion. Raises GuardFailure."""
    text = _first_choice(reply).get("text")
    if not isinstance(text, str):
        raise GuardFailure("reply")
    return text


def _first_choice(reply: Mapping[str, object]) -> Mapping[str, object]:
    choices = reply.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise GuardFailure("reply")
    return choices[0]
