"""The HTTP clients in front of servers that hang, break off, or talk rubbish."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from app.domain.errors import (
    ChatError,
    ContextLengthExceeded,
    EngineBusy,
    EngineDied,
    EngineRefused,
    EngineStarting,
    EngineUnavailable,
    GenerationTimeout,
    InvalidInput,
)
from app.domain.generation import ChatMessage, Delta, EngineState, Finish, GenerationRequest, Prompt
from app.domain.models import Sampling
from app.engines import sse_client
from app.engines.completions import CompletionsEngine

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
MODELS = b'{"object":"list","data":[{"id":"org/Model-7B","object":"model","max_model_len":2048}]}'
CARD = {
    "id": "haina-model",
    "max_model_len": 4096,
    "haina": {
        "title": "A model",
        "prompt_format": "chatml",
        "stop_token_ids": [2],
        "defaults": {"temperature": 0.3, "top_k": 5},
        "revision": "r1",
        "is_embedded": True,
    },
}
REQUEST = GenerationRequest(
    id="turn-1", owner="ann", prompt_ids=(1, 2, 3), sampling=Sampling(max_tokens=16, top_k=0), stop_token_ids=(2,)
)

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class RawServer:
    """Answers the two status routes as told; on the third hands the connection to `talk`."""

    health: tuple[int, bytes] = (200, b"")
    models: tuple[int, bytes] = (200, MODELS)
    tokenizer: tuple[int, bytes] = (200, b'{"version": "1.0"}')
    talk: Talk | None = None
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the client hung up on `talk`."""
    url: str = ""

    def count(self, path: str) -> int:
        return sum(each[0] == path for each in self.requests)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            path = head[0].split()[1]
            self.requests.append((path, headers, body))
            fixed = {"/health": self.health, "/v1/models": self.models, "/tokenizer.json": self.tokenizer}
            if path in fixed:
                status, content = fixed[path]
                writer.write(answer(status, content))
            elif self.talk is not None:
                await self.talk(reader, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            self.gone.set()
        finally:
            writer.close()


@asynccontextmanager
async def serving(raw: RawServer) -> AsyncIterator[RawServer]:
    server = await asyncio.start_server(raw, "127.0.0.1", 0)
    async with server:
        raw.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        yield raw


@asynccontextmanager
async def client(raw: RawServer, **options: object) -> AsyncIterator[CompletionsEngine]:
    engine = CompletionsEngine(raw.url, **{"formats": FakeFormat, "timeout_s": 5.0, **options})  # type: ignore[arg-type]
    try:
        yield engine
    finally:
        await engine.close()


class FakeFormat:
    """A prompt format that knows what it was made of."""

    made = 0

    def __init__(self, name: str | None, tokenizer: str) -> None:
        self.name = name or "guessed"
        self.tokenizer = tokenizer
        self.stop_token_ids: tuple[int, ...] = ()
        FakeFormat.made += 1

    def count(self, text: str) -> int:
        return len(text)

    def build(self, messages: object, *, context_length: int, max_tokens: int) -> Prompt:
        raise NotImplementedError


def answer(status: int, content: bytes, *extra: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Reason", "Content-Type: application/json", f"Content-Length: {len(content)}", *extra]
    return ("\r\n".join(lines) + "\r\nConnection: close\r\n\r\n").encode() + content


def event(content: object) -> bytes:
    return b"data: " + json.dumps(content, ensure_ascii=False).encode() + b"\n\n"


def chunk(text: str, reason: str | None = None, **more: object) -> bytes:
    return event({"choices": [{"index": 0, "text": text, "finish_reason": reason}], **more})


def says(*pieces: bytes) -> Talk:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()

    return talk


async def ask(raw: RawServer, **options: object) -> list[Delta | Finish]:
    async with serving(raw), client(raw, **options) as engine:
        return [item async for item in engine.generate(REQUEST)]


def text_of(items: list[Delta | Finish]) -> str:
    return "".join(item.text for item in items if isinstance(item, Delta))


class TestAnswers:
    async def test_a_character_cut_between_two_reads_arrives_whole(self) -> None:
        whole = HEAD + chunk("海🙂", "stop") + b"data: [DONE]\n\n"

        async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for byte in whole:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0)  # lets the client read, so that the cuts are real

        assert text_of(await ask(RawServer(talk=talk))) == "海🙂"

    async def test_the_usage_of_every_event_counts_tokens(self) -> None:
        stream = [
            chunk("ab", usage={"prompt_tokens": 3, "completion_tokens": 2}),
            chunk("c", "length", usage={"prompt_tokens": 3, "completion_tokens": 3}),
            event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 3}}),
        ]
        items = await ask(RawServer(talk=says(HEAD, *stream, b"data: [DONE]\n\n")))
        assert sum(item.tokens for item in items if isinstance(item, Delta)) == 3
        assert isinstance(items[-1], Finish)
        assert (items[-1].prompt_tokens, items[-1].completion_tokens) == (3, 3)

    async def test_a_stream_without_a_last_word_is_whole_where_a_reason_was_given(self) -> None:
        items = await ask(RawServer(talk=says(HEAD, chunk("a", "stop"))))
        assert isinstance(items[-1], Finish)

    async def test_the_request_carries_ids_sampling_key_and_the_first_listed_model(self) -> None:
        raw = RawServer(talk=says(HEAD, chunk("a", "stop"), b"data: [DONE]\n\n"))
        await ask(raw, api_key="secret")
        path, headers, body = raw.requests[-1]
        sent = json.loads(body)
        assert path == "/v1/completions"
        assert headers["authorization"] == "Bearer secret"
        assert headers["x-request-id"] == "turn-1"
        assert sent["model"] == "org/Model-7B"
        assert sent["prompt"] == [1, 2, 3]
        assert sent["max_tokens"] == 16
        assert sent["top_k"] == -1
        assert sent["stop_token_ids"] == [2]
        assert "temperature" not in sent

    async def test_messages_are_refused_before_anything_is_sent(self) -> None:
        raw = RawServer()
        async with serving(raw), client(raw) as engine:
            with pytest.raises(InvalidInput):
                await anext(engine.generate(GenerationRequest(id="t", owner="a", messages=(ChatMessage("user", "x"),))))  # type: ignore[arg-type]
        assert raw.requests == []


class TestGathering:
    async def test_the_first_piece_comes_at_once_the_next_together_and_the_end_is_not_slept_through(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sse_client, "GATHER_S", 1000.0)
        monkeypatch.setattr(sse_client, "GATHER_S_A_STREAM", 1000.0)
        is_read = asyncio.Event()

        async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(HEAD + chunk("a"))
            await is_read.wait()
            for piece in (chunk("b"), chunk("c", "stop"), b"data: [DONE]\n\n"):
                writer.write(piece)
                await writer.drain()

        texts = []
        async with serving(RawServer(talk=talk)) as raw, client(raw) as engine:
            async for item in engine.generate(REQUEST):
                is_read.set()
                texts.append(item.text if isinstance(item, Delta) else item)
        assert texts[:-1] == ["a", "bc"]

    async def test_the_more_streams_run_the_longer_a_read_is_put_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pauses: asyncio.Queue[float] = asyncio.Queue()

        async def sleep(_: sse_client._Pause, seconds: float) -> None:
            await pauses.put(seconds)

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(HEAD + chunk("a"))
            await reader.read()

        async def pause(answer: AsyncGenerator[Delta | Finish, None]) -> float:
            reading = asyncio.ensure_future(anext(answer))
            seconds = await pauses.get()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            return seconds

        monkeypatch.setattr(sse_client._Pause, "sleep", sleep)
        async with serving(RawServer(talk=talk)) as raw, client(raw) as engine:
            answers = [engine.generate(REQUEST) for _ in range(3)]
            for answer in answers:
                await anext(answer)
            assert [await pause(answer) for answer in answers] == [0.003, 0.002, 0.001]


class TestFaults:
    @pytest.mark.parametrize(
        ("pieces", "error"),
        [
            pytest.param([HEAD, chunk("a")], EngineDied, id="ends before the answer does"),
            pytest.param([HEAD, chunk("a"), b'data: {"choi'], EngineDied, id="half a line"),
            pytest.param([HEAD, chunk("a"), b"data: [DONE]\n\n"], EngineDied, id="done without a reason"),
            pytest.param([HEAD[:20]], EngineDied, id="half a head"),
            pytest.param([], EngineDied, id="nothing at all"),
            pytest.param([b"SSH-2.0-OpenSSH_9.2\r\n\r\n"], EngineRefused, id="another protocol"),
            pytest.param([answer(200, b"<html>Hello</html>")], EngineRefused, id="a page"),
            pytest.param([HEAD, b"<html>\n\n", b"data: <html>\n\n"], EngineRefused, id="a page as an event"),
            pytest.param([HEAD, b"data: [1, 2]\n\n"], EngineRefused, id="a list"),
            pytest.param([HEAD, b"data: {}\n\n"], EngineRefused, id="an empty object"),
            pytest.param([HEAD, b'data: {"choices": 5}\n\n'], EngineRefused, id="choices of another type"),
            pytest.param([HEAD, b'data: {"choices": [5]}\n\n'], EngineRefused, id="a choice of another type"),
            pytest.param([HEAD, b'data: {"choices": [{"text": 5}]}\n\n'], EngineRefused, id="a text of another type"),
            pytest.param([HEAD, chunk("a", usage=[1])], EngineRefused, id="usage of another type"),
            pytest.param([HEAD, chunk("a", "abort")], EngineRefused, id="broken off by the engine"),
            pytest.param([HEAD, b"data: \xff\xfe\n\n"], EngineRefused, id="no UTF-8"),
            pytest.param([HEAD, b"data: " + b"x" * 10_000_000], EngineRefused, id="ten megabytes in a line"),
            pytest.param([HEAD, event({"error": {"message": "x", "code": 500}})], EngineRefused, id="an error event"),
            pytest.param([HEAD, event({"error": "x"})], EngineRefused, id="an error event of another type"),
            pytest.param([answer(500, b"oops")], EngineRefused, id="500"),
            pytest.param([answer(401, b"{}")], EngineRefused, id="401"),
            pytest.param([answer(307, b"", "Location: http://127.0.0.1:1/")], EngineRefused, id="sent elsewhere"),
            pytest.param([answer(503, b"")], EngineUnavailable, id="503"),
            pytest.param(
                [answer(503, json.dumps({"error": {"code": "engine_starting", "stage": "weights"}}).encode())],
                EngineStarting,
                id="503, starting",
            ),
            pytest.param([answer(429, b"", "Retry-After: 7")], EngineBusy, id="429"),
            pytest.param([answer(400, b'{"error": {"code": "x", "param": "top_k"}}')], InvalidInput, id="400"),
            pytest.param(
                [answer(400, b'{"object": "error", "message": "This model\'s maximum context length is 4096"}')],
                ContextLengthExceeded,
                id="400 in vLLM's words",
            ),
        ],
    )
    async def test_becomes_an_error_of_ours(self, pieces: list[bytes], error: type[ChatError]) -> None:
        with pytest.raises(error) as caught:
            await ask(RawServer(talk=says(*pieces)))
        assert type(caught.value) is error

    async def test_the_engines_own_words_are_not_passed_on(self) -> None:
        body = json.dumps({"error": {"message": "bad prompt: my secret", "type": "my secret", "code": 400}}).encode()
        with pytest.raises(InvalidInput) as caught:
            await ask(RawServer(talk=says(answer(400, body))))
        assert "secret" not in f"{caught.value} {caught.value.data}"

    async def test_the_wait_that_the_engine_asks_for_is_passed_on(self) -> None:
        with pytest.raises(EngineBusy) as caught:
            await ask(RawServer(talk=says(answer(429, b"", "Retry-After: 7"))))
        assert caught.value.retry_after_s == 7.0

    async def test_a_reset_in_the_middle_is_a_death(self) -> None:
        received = asyncio.Event()

        async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(HEAD + chunk("a"))
            await received.wait()
            writer.transport.abort()

        raw = RawServer(talk=talk)
        async with serving(raw), client(raw) as engine:
            items = engine.generate(REQUEST)
            assert await anext(items) == Delta("a", 0)
            received.set()
            with pytest.raises(EngineDied):
                await anext(items)

    @pytest.mark.parametrize("first", [b"", HEAD, HEAD + b": alive\n\n", HEAD + chunk("a")])
    async def test_silence_is_a_timeout_and_ends_the_connection(self, first: bytes) -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(first)
            await reader.read()
            raise ConnectionError

        raw = RawServer(talk=talk)
        async with serving(raw), client(raw, timeout_s=0.1) as engine:
            with pytest.raises(GenerationTimeout) as caught:
                [item async for item in engine.generate(REQUEST)]
            assert caught.value.data == {"after_s": 0.1}
            async with asyncio.timeout(5):
                await raw.gone.wait()

    async def test_comments_do_not_hide_that_no_token_comes(self) -> None:
        async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(HEAD)
            while True:
                writer.write(b": alive\n\n")
                await writer.drain()
                await asyncio.sleep(0.02)

        with pytest.raises(GenerationTimeout):
            await ask(RawServer(talk=talk), timeout_s=0.5)

    @pytest.mark.parametrize("first", [b"", HEAD])
    async def test_giving_up_before_the_first_token_hangs_up_at_once(self, first: bytes) -> None:
        asked = asyncio.Event()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(first)
            asked.set()
            await reader.read()
            raise ConnectionError

        raw = RawServer(talk=talk)
        async with serving(raw), client(raw) as engine:
            items = engine.generate(REQUEST)
            reader = asyncio.ensure_future(anext(items))
            await asked.wait()
            reader.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reader
            async with asyncio.timeout(1):
                await raw.gone.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class TestStatus:
    async def test_two_hundred_polls_within_a_second_are_one_request(self) -> None:
        raw = RawServer()
        async with serving(raw), client(raw, clock=lambda: 0.0) as engine:
            states = await asyncio.gather(*(engine.status() for _ in range(200)))
        assert {status.state for status in states} == {EngineState.READY}
        assert (raw.count("/health"), raw.count("/v1/models")) == (1, 1)

    async def test_is_asked_again_after_a_second(self) -> None:
        raw, times = RawServer(), [0.0]
        async with serving(raw), client(raw, clock=lambda: times[0]) as engine:
            await engine.status()
            times[0] = 1.1
            raw.health = (503, b'{"state": "loading", "stage": "weights", "progress": 0.25, "slots": 3}')
            status = await engine.status()
        assert (status.state, status.stage, status.progress, status.slots) == (EngineState.LOADING, "weights", 0.25, 3)

    async def test_a_card_without_our_part_is_filled_in(self) -> None:
        raw = RawServer()
        async with serving(raw), client(raw) as engine:
            status = await engine.status()
        assert status.slots == 4
        assert status.profile is not None
        assert (status.profile.id, status.profile.title) == ("org/Model-7B", "Model-7B")
        assert (status.profile.context_length, status.profile.prompt_format) == (2048, None)

    async def test_a_card_of_our_worker_is_read_whole(self) -> None:
        raw = RawServer(models=(200, json.dumps({"data": [CARD, {"id": "adapter"}]}).encode()))
        raw.health = (200, b'{"state": "ready", "slots": 8, "running": 2, "waiting": 1}')
        async with serving(raw), client(raw) as engine:
            status = await engine.status()
        assert (status.slots, status.running, status.waiting) == (8, 2, 1)
        assert status.models == ("haina-model", "adapter")
        assert status.profile is not None
        assert status.profile.prompt_format == "chatml"
        assert status.profile.stop_token_ids == (2,)
        assert status.profile.defaults == Sampling(temperature=0.3, top_k=5)
        assert status.profile.is_embedded

    async def test_a_refused_connection_means_starting_for_our_own_worker_and_down_for_others(self) -> None:
        raw = RawServer(url=f"http://127.0.0.1:{free_port()}/v1")
        for is_local, state, error in [
            (True, EngineState.STARTING, EngineStarting),
            (False, EngineState.DOWN, EngineUnavailable),
        ]:
            async with client(raw, is_local=is_local) as engine:
                assert (await engine.status()).state is state
                with pytest.raises(error) as caught:
                    await anext(engine.generate(REQUEST))
                assert type(caught.value) is error

    @pytest.mark.parametrize(
        ("health", "models"),
        [
            ((500, b"oops"), (200, MODELS)),
            ((200, b'{"state": "down", "detail": "no weights"}'), (200, MODELS)),
            ((200, b""), (401, b"{}")),
            ((200, b""), (200, b"<html>")),
            ((200, b""), (200, b'{"data": [{"id": 5}]}')),
            ((200, b""), (200, b'{"data": []}')),
        ],
    )
    async def test_an_engine_that_cannot_be_used_is_down_and_says_why(
        self, health: tuple[int, bytes], models: tuple[int, bytes]
    ) -> None:
        raw = RawServer(health=health, models=models)
        async with serving(raw), client(raw) as engine:
            status = await engine.status()
        assert status.state is EngineState.DOWN
        assert status.detail

    async def test_a_hosted_api_without_a_health_route_is_ready(self) -> None:
        raw = RawServer(health=(404, b"{}"))
        async with serving(raw), client(raw) as engine:
            assert (await engine.status()).state is EngineState.READY


class TestPromptFormat:
    async def test_is_built_once_from_the_engines_tokenizer_and_names_itself(self) -> None:
        raw, before = RawServer(), FakeFormat.made
        async with serving(raw), client(raw) as engine:
            first, second = await asyncio.gather(engine.prompt_format(), engine.prompt_format())
            status = await engine.status()
        assert first is second
        assert isinstance(first, FakeFormat)
        assert first.tokenizer == '{"version": "1.0"}'
        assert FakeFormat.made == before + 1
        assert status.profile is not None
        assert status.profile.prompt_format == "guessed"

    async def test_stays_after_a_restart_with_the_same_card_and_is_made_anew_for_another(self) -> None:
        raw, times = RawServer(), [0.0]
        async with serving(raw), client(raw, clock=lambda: times[0]) as engine:
            first = await engine.prompt_format()
            times[0], raw.health = 2.0, (503, b'{"state": "loading"}')
            with pytest.raises(EngineStarting):
                await engine.prompt_format()
            times[0], raw.health = 4.0, (200, b"")
            assert await engine.prompt_format() is first
            times[0], raw.models = 6.0, (200, json.dumps({"data": [CARD]}).encode())
            second = await engine.prompt_format()
        assert second is not first
        assert second.name == "chatml"
        assert raw.count("/tokenizer.json") == 2

    @pytest.mark.parametrize("name", ["", "tokenizer.json"])
    async def test_a_local_tokenizer_is_preferred(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "tokenizer.json").write_text('{"local": true}', encoding="utf-8")
        raw = RawServer()
        async with serving(raw), client(raw, tokenizer_path=tmp_path / name) as engine:
            built = await engine.prompt_format()
        assert isinstance(built, FakeFormat)
        assert built.tokenizer == '{"local": true}'
        assert raw.count("/tokenizer.json") == 0

    async def test_an_engine_without_a_tokenizer_is_told_with_the_setting_that_helps(self, tmp_path: Path) -> None:
        raw = RawServer(tokenizer=(404, b""))
        async with serving(raw), client(raw) as engine:
            with pytest.raises(EngineRefused, match="HAINA_MODEL__TOKENIZER"):
                await engine.prompt_format()
        async with serving(raw), client(raw, tokenizer_path=tmp_path / "none") as engine:
            with pytest.raises(EngineRefused, match="HAINA_MODEL__TOKENIZER"):
                await engine.prompt_format()
