"""The worker's own route for tokens answers as the official code did."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from app.worker.host import Host
from app.worker.loading import ModelChoice
from app.worker.metrics import Metrics
from app.worker.server import create_app
from app.worker.serving import load_served
from tests.fakes.checkpoints import NAMES, converted, folder_of, golden


@pytest.fixture(params=[(name, is_converted) for name in NAMES for is_converted in (False, True)], ids=str)
async def served(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[str, httpx.AsyncClient]]:
    """A checkpoint's name and a client of a worker that serves it."""
    name, is_converted = request.param
    folder = folder_of(name, tmp_path)
    if is_converted:
        folder = converted(folder)
    metrics = Metrics()
    served = load_served(
        ModelChoice(path=str(folder), dtype="float32", data_dir=tmp_path),
        slots=2, queue_limit=8, metrics=metrics, report=lambda _, __: None,
    )  # fmt: skip
    thread = threading.Thread(target=served.engine.run)
    thread.start()
    host = Host()
    host.serve(served)
    transport = httpx.ASGITransport(create_app(host, metrics=metrics))
    async with httpx.AsyncClient(transport=transport, base_url="http://worker", timeout=30) as client:
        yield name, client
    host.close()
    thread.join(timeout=20)


async def complete(client: httpx.AsyncClient, **body: Any) -> Any:
    answer = await client.post("/v1/completions", json={"temperature": 0} | body)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]


async def test_tokens_and_logprobs_are_those_of_the_official_code(served: tuple[str, httpx.AsyncClient]) -> None:
    name, client = served
    for one in golden(name).values():
        ids = one.ids[0].tolist()
        choice = await complete(
            client, prompt=ids, max_tokens=16, logprobs=5, echo=True, return_token_ids=True, ignore_eos=True
        )
        assert choice["prompt_token_ids"] == ids
        if one.answer is not None:
            assert choice["token_ids"] == one.answer[:16]
        # Each token of the prompt is scored by the position before it, the answer's first one by the prompt's last.
        expected = one.logits.log_softmax(dim=-1)
        places = range(len(ids) - len(one.logits) + 1, len(ids))
        following = torch.tensor([*(ids[at] for at in places), choice["token_ids"][0]])
        official = expected[torch.arange(len(following)), following]
        given = torch.tensor(choice["logprobs"]["token_logprobs"][len(ids) + 1 - len(following) : len(ids) + 1])
        assert (given - official).abs().max() < 1e-3
        best = expected[-1].topk(5).values
        # By text, as OpenAI has it: two tokens of one text are one entry.
        top = torch.tensor(list(choice["logprobs"]["top_logprobs"][len(ids)].values()))
        assert (top[:, None] - best).abs().min(dim=1).values.max() < 1e-3
        assert abs(top.max() - best[0]) < 1e-3


async def test_it_stops_where_the_official_code_had_an_end_or_a_role(served: tuple[str, httpx.AsyncClient]) -> None:
    name, client = served
    for one in golden(name).values():
        if one.answer is None:
            continue
        choice = await complete(client, prompt=one.ids[0].tolist(), max_tokens=24, return_token_ids=True)
        ends = [at for at, token in enumerate(one.answer) if token in {2, 195, 196}]
        assert choice["token_ids"] == one.answer[: ends[0] + 1 if ends else None]
        assert choice["finish_reason"] == ("stop" if ends else "length")


async def test_answers_side_by_side_are_those_of_each_alone(served: tuple[str, httpx.AsyncClient]) -> None:
    name, client = served
    ones = list(golden(name).values()) * 2  # more than there are slots
    asked = {"max_tokens": 24, "return_token_ids": True, "ignore_eos": True}
    choices = await asyncio.gather(*(complete(client, prompt=one.ids[0].tolist(), **asked) for one in ones))
    for one, choice in zip(ones, choices, strict=True):
        assert one.answer is None or choice["token_ids"] == one.answer


async def test_a_question_is_answered(served: tuple[str, httpx.AsyncClient]) -> None:
    _, client = served
    messages = [{"role": "user", "content": "hello"}]
    answer = await client.post("/v1/chat/completions", json={"messages": messages, "max_tokens": 5, "temperature": 0})
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["role"] == "assistant"


async def test_who_asks_for_no_sampling_gets_the_models_own(served: tuple[str, httpx.AsyncClient]) -> None:
    _, client = served
    card = (await client.get("/v1/models")).json()["data"][0]
    official = {"temperature": 0.3, "top_k": 5, "top_p": 0.85, "repetition_penalty": 1.05}
    assert card["haina"]["defaults"] == official | {"max_tokens": 256}  # 2,048 in the file; the context is 512
    question = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 40, "ignore_eos": True}

    async def answers(**sampling: float) -> list[Any]:
        made = [
            await client.post(
                "/v1/chat/completions", json=question | {"seed": seed, "return_token_ids": True} | sampling
            )
            for seed in range(3)
        ]
        return [one.json()["choices"][0]["token_ids"] for one in made]

    own = await answers()
    assert await answers(**official) == own
    for name, other in {"temperature": 1.3, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.5}.items():
        assert await answers(**official | {name: other}) != own, f"{name} makes no difference: the test tells nothing"
