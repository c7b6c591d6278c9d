"""`POST /classify` over ASGI, with a scorer that needs no model."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from starlette.requests import ClientDisconnect, Request

from app.engines.model_card import read_cards
from app.worker.classifier import classification
from app.worker.classifier.batches import Batcher
from app.worker.classifier.windows import Reader
from app.worker.host import Host, ServedClassifier
from app.worker.metrics import Metrics
from app.worker.protocol import ClassifyBody
from app.worker.server import create_app
from tests.fakes.classifiers import VOCABULARY, CountingScorer, char_tokenizer

BAD = VOCABULARY.index("j")
KNOWN = VOCABULARY.index("海")


@pytest.fixture
def scorer() -> CountingScorer:
    return CountingScorer(known=KNOWN, fails_at={BAD: RuntimeError("a text")})


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def classifier(scorer: CountingScorer, metrics: Metrics) -> Iterator[ServedClassifier]:
    batcher = Batcher(scorer, metrics=metrics.classifier, queue_windows=8)
    thread = threading.Thread(target=batcher.run, daemon=True)
    thread.start()
    yield ServedClassifier(
        name="cold", batcher=batcher, reader=Reader(char_tokenizer(), length=10), labels=("offensive", "safe"),
        is_independent=False, created=3,
    )  # fmt: skip
    scorer.may_go.set()
    batcher.stop()
    thread.join(20)


@pytest.fixture
async def client(classifier: ServedClassifier, metrics: Metrics) -> AsyncIterator[httpx.AsyncClient]:
    host = Host()
    host.classify(classifier)
    host.serve(None)
    app = create_app(host, metrics=metrics)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://worker", timeout=30) as client:
        yield client


async def held(client: httpx.AsyncClient, scorer: CountingScorer) -> "asyncio.Task[httpx.Response]":
    """Return a request that is at the scorer and stays there."""
    scorer.may_go.clear()
    scorer.has_begun.clear()
    task = asyncio.create_task(client.post("/classify", json={"input": "的"}))
    assert await asyncio.to_thread(scorer.has_begun.wait, 20)
    return task


async def waiting(classifier: ServedClassifier, *, requests: int) -> None:
    while classifier.batcher.requests < requests:  # noqa: ASYNC110 - the batcher has no event for it
        await asyncio.sleep(0)


async def test_the_answer_has_vllms_shape(client: httpx.AsyncClient) -> None:
    answer = await client.post("/classify", json={"model": "cold", "input": ["海的的的", "海海海"], "request_id": "7"})

    body = answer.json()
    assert answer.status_code == 200
    assert body.pop("created") > 0
    assert body == {
        "id": "classify-7",
        "object": "list",
        "model": "cold",
        "data": [
            {"index": 0, "label": "safe", "probs": [1 / 6, 5 / 6], "num_classes": 2},
            {"index": 1, "label": "offensive", "probs": [3 / 5, 2 / 5], "num_classes": 2},
        ],
        "labels": ["offensive", "safe"],
        "usage": {"prompt_tokens": 11, "completion_tokens": 0, "total_tokens": 11},
    }


async def test_a_single_text_is_a_list_of_one(client: httpx.AsyncClient) -> None:
    body = (await client.post("/classify", json={"input": "海"})).json()

    assert [one["index"] for one in body["data"]] == [0]
    assert body["id"].startswith("classify-")


async def test_a_long_text_has_the_largest_probability_of_its_windows(client: httpx.AsyncClient) -> None:
    body = (await client.post("/classify", json={"input": "的" * 18 + "海" * 8 + "的" * 20})).json()

    assert body["data"][0]["probs"] == [pytest.approx(0.8), 1.0]


async def test_the_card_names_the_task_and_all_labels_and_is_no_model_that_answers(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/models")
    (card,) = answer.json()["data"]

    assert (card["id"], card["task"], card["max_model_len"]) == ("cold", "classify", 10)
    assert (card["labels"], card["is_multi_label"]) == (["offensive", "safe"], False)
    assert read_cards(answer.content) == ()


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 400, "input"),
        ({"input": []}, 400, "input"),
        ({"input": [1, 2]}, 400, "input"),
        ({"input": {"text": "a"}}, 400, "input"),
        ({"input": None}, 400, "input"),
        ({"input": "a", "truncate_prompt_tokens": 5}, 400, "truncate_prompt_tokens"),
        ({"input": "a", "use_activation": False}, 400, "use_activation"),
        ({"input": ["a"] * 65}, 400, "input"),
        ({"input": ["a", "海" * (256 * 1024 + 1)]}, 413, "input"),
        ({"input": "a", "model": "gpt"}, 404, "model"),
    ],
)
async def test_what_is_wrong_is_refused_by_name(
    client: httpx.AsyncClient, body: dict[str, Any], status: int, param: str
) -> None:
    answer = await client.post("/classify", json=body)

    assert answer.status_code == status
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert answer.json()["error"]["param"].startswith(param)


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"input": "\\ud83d"}', b'{"input": "\xff"}', b"null"])
async def test_what_is_no_json_is_refused_in_the_same_form(client: httpx.AsyncClient, content: bytes) -> None:
    answer = await client.post("/classify", content=content)

    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_a_body_that_is_too_large_is_413(client: httpx.AsyncClient) -> None:
    assert (await client.post("/classify", content=b" " * 9_000_000)).status_code == 413


async def test_a_text_that_fails_is_500_without_a_word_of_it_and_others_go_on(
    client: httpx.AsyncClient, scorer: CountingScorer, classifier: ServedClassifier
) -> None:
    first = await held(client, scorer)
    others = [asyncio.create_task(client.post("/classify", json={"input": text})) for text in ("海", "海j", "海海")]
    await waiting(classifier, requests=4)
    scorer.may_go.set()
    answers = await asyncio.gather(first, *others)

    assert [answer.status_code for answer in answers] == [200, 200, 500, 200]
    assert answers[2].json()["error"] == {
        "message": "RuntimeError", "type": "server_error", "param": None, "code": "internal_error",
    }  # fmt: skip


async def test_a_full_queue_is_429_at_once_with_a_time(client: httpx.AsyncClient, scorer: CountingScorer) -> None:
    first = await held(client, scorer)
    refused = await client.post("/classify", json={"input": ["海"] * 8})
    scorer.may_go.set()

    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert int(refused.headers["retry-after"]) >= 1
    assert (await first).status_code == 200


async def test_a_client_that_goes_away_is_dropped_before_its_turn(
    client: httpx.AsyncClient, scorer: CountingScorer, classifier: ServedClassifier
) -> None:
    first = await held(client, scorer)
    has_gone = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await has_gone.wait()
        return {"type": "http.disconnect"}

    request = Request({"type": "http"}, receive)
    body = ClassifyBody(input="海" * 5)
    waits = asyncio.create_task(classification.answer(request, body=body, classifier=classifier))
    await waiting(classifier, requests=2)
    has_gone.set()
    with pytest.raises(ClientDisconnect):
        await waits

    assert classifier.batcher.requests == 1
    scorer.may_go.set()
    await first
    assert [len(batch) for batch in scorer.batches] == [1]


async def test_a_stopping_worker_says_so(client: httpx.AsyncClient, classifier: ServedClassifier) -> None:
    classifier.batcher.stop()
    answer = await client.post("/classify", json={"input": "海"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_unavailable")


async def test_health_and_metrics_tell_about_it(client: httpx.AsyncClient, scorer: CountingScorer) -> None:
    first = await held(client, scorer)
    health = await client.get("/health")
    scorer.may_go.set()
    await first
    metrics = (await client.get("/metrics")).text

    assert health.status_code == 200
    assert health.json() == {"state": "ready", "classifier": {"model": "cold", "requests": 1, "windows": 1}}
    assert "haina_classifier_tokens_total 3.0" in metrics
    assert 'haina_classifier_requests_total{outcome="done"} 1.0' in metrics


async def test_without_a_language_model_its_routes_say_so(client: httpx.AsyncClient) -> None:
    for path, body in (("/v1/completions", {"prompt": "a"}), ("/tokenize", {"prompt": "a"})):
        answer = await client.post(path, json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


async def test_it_answers_while_the_language_model_loads(classifier: ServedClassifier, metrics: Metrics) -> None:
    host = Host()
    transport = httpx.ASGITransport(create_app(host, metrics=metrics))
    async with httpx.AsyncClient(transport=transport, base_url="http://worker") as client:
        early = await client.post("/classify", json={"input": "海"})
        host.classify(classifier)
        answer = await client.post("/classify", json={"input": "海"})
        health = await client.get("/health")
        host.close()
        late = await client.post("/classify", json={"input": "海"})

    assert (early.status_code, early.json()["error"]["code"]) == (503, "engine_starting")
    assert answer.status_code == 200
    assert (health.status_code, health.json()["classifier"]["model"]) == (503, "cold")
    assert (late.status_code, late.json()["error"]["code"]) == (503, "engine_unavailable")


async def test_a_worker_without_a_classifier_says_so(metrics: Metrics) -> None:
    host = Host()
    host.serve(None)
    transport = httpx.ASGITransport(create_app(host, metrics=metrics))
    async with httpx.AsyncClient(transport=transport, base_url="http://worker") as client:
        answer = await client.post("/classify", json={"input": "海"})
        health = await client.get("/health")

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert "classifier" not in health.json()
