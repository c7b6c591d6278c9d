"""What every Engine promises, asked of the scripted one itself and of both HTTP clients in front of it."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

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
    OutOfMemory,
)
from app.domain.generation import ChatMessage, Delta, EngineState, Finish, FinishReason, GenerationRequest
from app.domain.models import Role, Sampling
from app.domain.ports import Engine, PromptFormat
from app.engines.chat_completions import ChatCompletionsEngine
from app.engines.completions import CompletionsEngine
from app.engines.scripted import Fault, Rule, Script, ScriptedEngine
from app.engines.scripted_server import serve_scripted

REPLY = "海纳百川，有容乃大。\n\n🙂 A reply of *several* tokens, with two  spaces."


def no_formats(_name: str | None, _tokenizer: str) -> PromptFormat:
    raise InvalidInput("these tests build no prompts")


@dataclass(frozen=True)
class Bench:
    engine: Engine
    scripted: ScriptedEngine
    """The one that answers in the end."""
    takes_ids: bool

    def request(self, request_id: str = "turn-1", **sampling: object) -> GenerationRequest:
        values = Sampling(**{"max_tokens": 100, **sampling})  # type: ignore[arg-type]
        if self.takes_ids:
            return GenerationRequest(id=request_id, owner="ann", prompt_ids=(1, 2, 3), sampling=values)
        messages = (ChatMessage(Role.USER, "a question"),)
        return GenerationRequest(id=request_id, owner="ann", messages=messages, sampling=values)


Build = Callable[..., Awaitable[Bench]]


@pytest.fixture(params=["scripted", "completions", "chat"])
async def build(request: pytest.FixtureRequest) -> AsyncIterator[object]:
    async with AsyncExitStack() as stack:

        async def make(script: Script, *, slots: int = 8) -> Bench:
            scripted = ScriptedEngine(script, slots=slots)
            if request.param == "scripted":
                return Bench(scripted, scripted, takes_ids=False)
            url = await stack.enter_async_context(serve_scripted(scripted))
            engine: Engine
            if request.param == "chat":
                engine = ChatCompletionsEngine(url, timeout_s=5)
            else:
                engine = CompletionsEngine(url, formats=no_formats, timeout_s=5)
            stack.push_async_callback(engine.close)
            return Bench(engine, scripted, takes_ids=request.param == "completions")

        yield make


def always(reply: str = REPLY, **rule: object) -> Script:
    return Script(rules=(Rule(pattern=re.compile(""), reply=reply, **rule),))  # type: ignore[arg-type]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - a count behind a socket has no event to wait for
            await asyncio.sleep(0.001)


async def collect(answer: AsyncIterator[Delta | Finish], *, into: list[Delta | Finish]) -> None:
    async for item in answer:
        into.append(item)  # noqa: PERF401 - what came before an error counts


class TestEveryEngine:
    async def test_yields_the_whole_text_and_one_finish_at_the_end(self, build: Build) -> None:
        bench = await build(always())
        items = [item async for item in bench.engine.generate(bench.request())]
        *deltas, finish = items
        assert "".join(item.text for item in deltas if isinstance(item, Delta)) == REPLY
        assert isinstance(finish, Finish)
        assert finish.reason is FinishReason.STOP
        assert finish.prompt_tokens > 0
        assert finish.completion_tokens > 5
        assert sum(isinstance(item, Finish) for item in items) == 1

    async def test_counts_tokens_alike_in_deltas_and_finish_where_it_counts_them(self, build: Build) -> None:
        bench = await build(always())
        items = [item async for item in bench.engine.generate(bench.request())]
        counted = sum(item.tokens for item in items if isinstance(item, Delta))
        finish = items[-1]
        assert isinstance(finish, Finish)
        assert counted in {0, finish.completion_tokens}

    async def test_says_that_the_length_ended_an_answer(self, build: Build) -> None:
        bench = await build(always())
        items = [item async for item in bench.engine.generate(bench.request(max_tokens=3))]
        finish = items[-1]
        assert isinstance(finish, Finish)
        assert (finish.reason, finish.completion_tokens) == (FinishReason.LENGTH, 3)

    async def test_stops_before_a_stop_text(self, build: Build) -> None:
        bench = await build(always("one two STOP three"))
        items = [item async for item in bench.engine.generate(bench.request(stop=("STOP",)))]
        assert "".join(item.text for item in items if isinstance(item, Delta)) == "one two "

    async def test_closing_in_the_middle_ends_the_work_at_once(self, build: Build) -> None:
        bench = await build(always(hang_after=2))
        answer = bench.engine.generate(bench.request("turn-7"))
        await anext(answer)
        assert bench.scripted.running == 1
        await answer.aclose()
        await until(lambda: bench.scripted.running == 0)
        assert bench.scripted.cancelled == ["turn-7"]

    async def test_cancelling_the_reader_before_the_first_item_ends_the_work_at_once(self, build: Build) -> None:
        bench = await build(always(hang_after=0))
        answer = bench.engine.generate(bench.request("turn-8"))
        reader = asyncio.ensure_future(anext(answer))
        await until(lambda: bench.scripted.running == 1)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        await answer.aclose()
        await until(lambda: bench.scripted.running == 0)
        assert bench.scripted.cancelled == ["turn-8"]

    async def test_closing_one_that_was_never_read_asks_nothing(self, build: Build) -> None:
        bench = await build(always())
        await bench.engine.generate(bench.request()).aclose()
        assert bench.scripted.requests == []

    async def test_an_answer_read_to_its_finish_counts_as_no_cancellation(self, build: Build) -> None:
        bench = await build(always())
        answer = bench.engine.generate(bench.request())
        while not isinstance(await anext(answer), Finish):
            pass
        await answer.aclose()
        await until(lambda: bench.scripted.running == 0)
        assert bench.scripted.cancelled == []

    @pytest.mark.parametrize("after", [0, 3])
    @pytest.mark.parametrize(
        ("fault", "error"),
        [
            (Fault.BUSY, EngineBusy),
            (Fault.STARTING, EngineStarting),
            (Fault.UNAVAILABLE, EngineUnavailable),
            (Fault.REFUSED, EngineRefused),
            (Fault.INVALID, InvalidInput),
            (Fault.TOO_LONG, ContextLengthExceeded),
            (Fault.OUT_OF_MEMORY, OutOfMemory),
            (Fault.TIMEOUT, GenerationTimeout),
            (Fault.DIED, EngineDied),
        ],
    )
    async def test_a_fault_keeps_its_kind_at_the_start_and_in_the_middle(
        self, build: Build, fault: Fault, error: type[ChatError], after: int
    ) -> None:
        bench = await build(always(fault=fault, fault_after=after))
        items: list[Delta | Finish] = []
        with pytest.raises(error) as caught:
            await collect(bench.engine.generate(bench.request()), into=items)
        assert type(caught.value) is error
        if fault is not Fault.DIED:  # what was on its way when the connection broke may be lost
            assert "".join(item.text for item in items if isinstance(item, Delta)) == "海纳百"[:after]
        if fault is Fault.BUSY:
            assert caught.value.data["retry_after_s"] == 3.0
        if fault is Fault.TOO_LONG:
            assert caught.value.data == {"limit": 4096, "length": 4097}

    async def test_is_ready_with_a_profile_and_its_slots(self, build: Build) -> None:
        bench = await build(always(), slots=5)
        status = await bench.engine.status()
        assert status.state is EngineState.READY
        assert status.slots == 5
        assert status.models == ("scripted",)
        assert status.profile is not None
        assert status.profile.context_length == 4096
        assert status.profile.prompt_format is None

    async def test_while_it_loads_it_says_so_and_generates_nothing(self, build: Build) -> None:
        bench = await build(always())
        bench.scripted.ready.clear()
        status = await bench.engine.status()
        assert (status.state, status.stage, status.progress) == (EngineState.LOADING, "weights", 0.5)
        assert status.profile is None
        with pytest.raises(EngineStarting):
            await bench.engine.prompt_format()
        with pytest.raises(EngineStarting):
            await anext(bench.engine.generate(bench.request()))

    async def test_answers_many_at_once(self, build: Build) -> None:
        bench = await build(always(), slots=3)

        async def whole(n: int) -> str:
            items = [item async for item in bench.engine.generate(bench.request(f"turn-{n}"))]
            return "".join(item.text for item in items if isinstance(item, Delta))

        assert await asyncio.gather(*(whole(n) for n in range(20))) == [REPLY] * 20
