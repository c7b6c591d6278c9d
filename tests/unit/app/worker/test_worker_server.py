"""The worker's routes, over ASGI, with a tiny random model behind them."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import httpx
import pytest
from transformers import LlamaForCausalLM

from app.domain.generation import ChatMessage, ModelProfile, Prompt
from app.domain.models import Sampling
from app.worker.host import Host, Served
from app.worker.metrics import Metrics
from app.worker.runner import ModelRunner
from app.worker.server import create_app
from app.worker.vocabulary import Vocabulary

MakeEngine = Callable[..., Any]  # see conftest
PROFILE = ModelProfile(
    id="tiny", title="Tiny", prompt_format="chatml", context_length=512, stop_token_ids=(2,),
    defaults=Sampling(temperature=0.0, top_p=1.0, top_k=0, repetition_penalty=1.0, max_tokens=9),
)  # fmt: skip


class LinesFormat:
    """A prompt format of a line for each message."""

    name = "lines"
    stop_token_ids: tuple[int, ...] = (2,)

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def count(self, text: str) -> int:
        return len(self._vocabulary.encode(text, add_special_tokens=False))

    def build(self, messages: Sequence[ChatMessage], *, context_length: int, max_tokens: int) -> Prompt:
        text = "\n".join(f"{message.role}: {message.text}" for message in messages)
        ids = tuple(self._vocabulary.encode(text, add_special_tokens=False))
        return Prompt(ids=ids, tokens=len(ids), max_tokens=min(max_tokens, context_length - len(ids)))


def app_client(host: Host, *, token: str = "") -> httpx.AsyncClient:
    app = create_app(host, metrics=Metrics(), token=token)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://worker", timeout=30)


@pytest.fixture
def host(model: LlamaForCausalLM, vocabulary: Vocabulary, make_engine: MakeEngine) -> Host:
    host = Host()
    host.serve(
        Served(
            engine=make_engine(ModelRunner(model)).engine,
            vocabulary=vocabulary,
            vocab_size=320,
            profile=PROFILE,
            prompt_format=LinesFormat(vocabulary),
            created=1,
        )
    )
    return host


@pytest.fixture
async def client(host: Host) -> AsyncIterator[httpx.AsyncClient]:
    async with app_client(host) as client:
        yield client


async def complete(client: httpx.AsyncClient, **body: Any) -> Any:
    answer = await client.post("/v1/completions", json={"prompt": "the fox", "ignore_eos": True} | body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def stream(client: httpx.AsyncClient, path: str = "/v1/completions", **body: Any) -> list[Any]:
    answer = await client.post(path, json={"stream": True, "ignore_eos": True} | body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


async def test_a_stream_is_the_whole_answer_in_pieces(client: httpx.AsyncClient) -> None:
    whole = await complete(client, max_tokens=20)
    chunks = await stream(client, prompt="the fox", max_tokens=20, stream_options={"include_usage": True})

    assert "".join(chunk["choices"][0]["text"] for chunk in chunks[:-1]) == whole["choices"][0]["text"]
    assert chunks[-2]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"] == "length"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == whole["usage"]
    assert whole["usage"]["completion_tokens"] == 20
    assert len({chunk["id"] for chunk in chunks}) == 1


async def test_ids_and_text_are_the_same_prompt(client: httpx.AsyncClient, vocabulary: Vocabulary) -> None:
    ids = vocabulary.encode("the fox", add_special_tokens=False)
    with_text = await complete(client, max_tokens=5, return_token_ids=True)
    with_ids = await complete(client, prompt=ids, max_tokens=5, return_token_ids=True)

    assert with_text["choices"][0] == with_ids["choices"][0]
    assert with_text["choices"][0]["prompt_token_ids"] == ids
    assert len(with_text["choices"][0]["token_ids"]) == 5


async def test_streamed_token_ids_are_complete_though_text_is_held_back(client: httpx.AsyncClient) -> None:
    whole = await complete(client, max_tokens=30, return_token_ids=True)
    chunks = await stream(client, prompt="the fox", max_tokens=30, return_token_ids=True)

    ids = [token for chunk in chunks for token in chunk["choices"][0]["token_ids"]]
    assert ids == whole["choices"][0]["token_ids"]


async def test_a_stop_string_ends_the_answer_before_it(client: httpx.AsyncClient) -> None:
    text = (await complete(client, max_tokens=30))["choices"][0]["text"]
    stop = text[6:9]
    choice = (await complete(client, max_tokens=30, stop=[stop]))["choices"][0]

    assert choice["text"] == text[: text.index(stop)]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", stop)


async def test_the_models_own_end_is_no_stop_reason_but_the_requests_is(client: httpx.AsyncClient) -> None:
    forced = {"logit_bias": {"2": 100}, "max_tokens": 5}
    own = await complete(client, **forced, ignore_eos=False)
    asked = await complete(client, logit_bias={"9": 100}, stop_token_ids=[9])

    assert (own["choices"][0]["finish_reason"], own["choices"][0]["stop_reason"]) == ("stop", None)
    assert own["usage"]["completion_tokens"] == 1
    assert (asked["choices"][0]["finish_reason"], asked["choices"][0]["stop_reason"]) == ("stop", 9)


async def test_echo_with_logprobs_scores_the_prompt(client: httpx.AsyncClient, vocabulary: Vocabulary) -> None:
    n = len(vocabulary.encode("the fox", add_special_tokens=False))
    choice = (await complete(client, max_tokens=0, echo=True, logprobs=2))["choices"][0]

    assert choice["text"] == "the fox"
    assert len(choice["logprobs"]["tokens"]) == n
    assert choice["logprobs"]["token_logprobs"][0] is None
    assert all(value <= 0 for value in choice["logprobs"]["token_logprobs"][1:])
    assert choice["logprobs"]["text_offset"][:2] == [0, len(choice["logprobs"]["tokens"][0])]


async def test_a_streamed_echo_comes_first(client: httpx.AsyncClient) -> None:
    chunks = await stream(client, prompt="the fox", max_tokens=3, echo=True)

    assert chunks[0]["choices"][0]["text"] == "the fox"


async def test_a_chat_goes_through_the_prompt_format(client: httpx.AsyncClient, vocabulary: Vocabulary) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "hey"}]}]
    answer = await client.post("/v1/chat/completions", json={"messages": messages, "return_token_ids": True})
    chunks = await stream(client, "/v1/chat/completions", messages=messages, ignore_eos=False)

    body = answer.json()
    assert body["prompt_token_ids"] == vocabulary.encode("user: hey", add_special_tokens=False)
    assert body["usage"]["completion_tokens"] <= 9
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == body["choices"][0]["message"]["content"]


async def test_chat_logprobs_name_the_alternatives(client: httpx.AsyncClient) -> None:
    body = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 2, "logprobs": True, "top_logprobs": 3}
    answer = (await client.post("/v1/chat/completions", json=body)).json()

    scored = answer["choices"][0]["logprobs"]["content"]
    assert [len(token["top_logprobs"]) for token in scored] == [3] * len(scored)
    assert scored[0]["logprob"] == scored[0]["top_logprobs"][0]["logprob"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"best_of": 3}, "best_of"),
        ({"min_p": 0.1}, "min_p"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": [5, 320]}, "prompt"),
        ({"prompt": [5, -1]}, "prompt"),
        ({"max_tokens": 600}, "prompt"),
        ({"prompt": [5] * 512, "max_tokens": None}, "prompt"),
        ({"logit_bias": {"999": 1}}, "logit_bias"),
        ({"logprobs": 99}, "logprobs"),
        ({"stop": ""}, "stop"),
        ({"n": 2}, "n"),
    ],
)
async def test_what_is_wrong_is_refused_by_name(client: httpx.AsyncClient, body: dict[str, Any], param: str) -> None:
    answer = await client.post("/v1/completions", json={"prompt": "the"} | body)

    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"].startswith(param)


async def test_what_is_not_json_and_what_is_not_here_is_refused_in_the_same_form(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/completions", content=b"{")).json()["error"]["type"] == "invalid_request_error"
    assert (await client.get("/v1/embeddings")).json()["error"]["message"].startswith("no such route")
    unknown = await client.post("/v1/completions", json={"prompt": "a", "model": "gpt"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    assert (await client.post("/v1/completions", content=b" " * 9_000_000)).status_code == 413


async def test_tokenize_and_detokenize_are_each_others_reverse(client: httpx.AsyncClient) -> None:
    found = (await client.post("/tokenize", json={"prompt": "the 海", "return_token_strs": True})).json()
    back = (await client.post("/detokenize", json={"tokens": found["tokens"]})).json()

    assert back == {"prompt": "the 海"}
    assert found["count"] == len(found["tokens"]) == len(found["token_strs"])
    assert found["max_model_len"] == 512


async def test_the_card_tells_what_the_web_needs(client: httpx.AsyncClient) -> None:
    (card,) = (await client.get("/v1/models")).json()["data"]

    assert (card["id"], card["max_model_len"]) == ("tiny", 512)
    assert card["haina"]["stop_token_ids"] == [2]
    assert card["haina"]["defaults"]["max_tokens"] == 9
    assert json.loads((await client.get("/tokenizer.json")).text)["model"]["type"] == "BPE"


async def test_health_tells_how_far_the_load_is_and_nothing_else_answers_yet() -> None:
    host = Host()
    host.report("weights", 0.45)
    async with app_client(host) as client:
        health = await client.get("/health")
        early = await client.post("/v1/completions", json={"prompt": "a"})
        tokenizer = await client.get("/tokenizer.json")

    assert health.status_code == 503
    assert health.json() == {"state": "loading", "stage": "weights", "progress": 0.45}
    assert (early.status_code, early.json()["error"]["code"]) == (503, "engine_starting")
    assert tokenizer.status_code == 503


async def test_without_the_token_only_health_answers(host: Host) -> None:
    async with app_client(host, token="secret") as client:
        refused = await client.get("/v1/models")
        wrong = await client.get("/v1/models", headers={"authorization": "Bearer other"})
        right = await client.get("/v1/models", headers={"authorization": "Bearer secret"})
        health = await client.get("/health")

    assert [answer.status_code for answer in (refused, wrong, right, health)] == [401, 401, 200, 200]
    assert refused.json()["error"]["code"] == "invalid_api_key"


async def test_metrics_count_tokens_and_requests(host: Host) -> None:
    served = host.served
    assert served is not None
    metrics = Metrics()
    served.engine._metrics = metrics
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(host, metrics=metrics)), base_url="http://worker"
    ) as client:
        await complete(client, max_tokens=4)
        text = (await client.get("/metrics")).text

    assert "vllm:generation_tokens_total 4.0" in text
    assert 'vllm:request_success_total{finished_reason="length"} 1.0' in text


async def test_a_full_queue_is_429_with_a_time(
    model: LlamaForCausalLM, vocabulary: Vocabulary, make_engine: MakeEngine, host: Host
) -> None:
    served = host.served
    assert served is not None
    idle = make_engine(ModelRunner(model), slots=1, queue_limit=0, is_started=False)
    host.serve(
        Served(
            engine=idle.engine, vocabulary=vocabulary, vocab_size=320, profile=PROFILE, prompt_format=None, created=1
        )
    )
    async with app_client(host) as client:
        first = asyncio.create_task(client.post("/v1/completions", json={"prompt": "a", "max_tokens": 1}))
        while not idle.engine.waiting:  # noqa: ASYNC110 - the engine has no event for it, and one turn is enough
            await asyncio.sleep(0)
        second = await client.post("/v1/completions", json={"prompt": "a"})
        assert second.status_code == 429
        assert int(second.headers["retry-after"]) >= 1
        idle.thread.start()
        assert (await first).status_code == 200
    idle.stop()
