"""`/v1` of a served Haina, with the official client and plain HTTP: the same text on the line and in the database."""

import json
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator

import openai
import pytest

from tests.fakes.served import Served

BAD = "haina-blocked-test-phrase"
SCRIPT = f"""
default = "All rivers run into the sea."
tokens_per_delta = [1, 3]

[[rules]]
pattern = "leak"
reply = "Before it: {BAD} and after it."

[[rules]]
pattern = "die"
reply = "one two three four"
fault = "died"
fault_after = 2

[[rules]]
pattern = "hang"
reply = "one two three four"
hang_after = 2
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("programs")
    script = folder / "script.toml"
    script.write_text(SCRIPT, encoding="utf-8")
    settings = {"HAINA_ENGINE__URL": f"scripted:{script}", "HAINA_SERVER__OPERATOR": "海纳测试"}
    one = Served(folder / "data", settings=settings).start()
    yield one
    assert one.stop() == 0


@pytest.fixture
def client(served: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as one:
        yield one


def rows(served: Served, sql: str, *values: object) -> list[tuple[object, ...]]:
    with sqlite3.connect(f"file:{served.data_dir / 'haina.db'}?mode=ro", uri=True) as database:
        return list(database.execute(sql, values))


def saved_text(served: Served, completion_id: str) -> object:
    answer_id = completion_id.removeprefix("chatcmpl-")
    return rows(served, "select text from messages where id = ?", answer_id)[0][0]


def post(
    served: Served, body: bytes, *, path: str = "/v1/chat/completions", **headers: str
) -> tuple[int, dict[str, object], dict[str, str]]:
    request = urllib.request.Request(  # noqa: S310 - our own address
        f"{served.url}{path}", data=body, headers={"Content-Type": "application/json", **headers}
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310
            return response.status, json.load(response), dict(response.headers)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error), dict(error.headers)


def test_a_whole_answer_is_the_saved_one(served: Served, client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="default", messages=[{"role": "user", "content": "Where to?"}])
    assert answer.choices[0].message.content == "All rivers run into the sea."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0
    assert saved_text(served, answer.id) == answer.choices[0].message.content


def test_a_streamed_answer_is_the_saved_one(served: Served, client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="default",
        messages=[{"role": "user", "content": "Where to?"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "All rivers run into the sea." == saved_text(served, chunks[0].id)
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0


def test_an_answer_says_that_ai_made_it_in_its_body_and_in_a_header(client: openai.OpenAI) -> None:
    asked = {"model": "default", "messages": [{"role": "user", "content": "Where to?"}]}
    raw = client.chat.completions.with_raw_response.create(**asked)  # type: ignore[call-overload]
    assert raw.headers["x-haina-ai-generated"] == "true"
    answer = raw.parse()
    assert answer.model_extra["aigc"] == label(answer.id)
    assert answer.choices[0].message.content == "All rivers run into the sea."
    with client.chat.completions.with_streaming_response.create(  # type: ignore[call-overload]
        **asked, stream=True, stream_options={"include_usage": True}
    ) as response:
        assert response.headers["x-haina-ai-generated"] == "true"
        chunks = list(response.parse())
    labelled = [chunk for chunk in chunks if "aigc" in (chunk.model_extra or {})]
    assert [chunk.choices[0].finish_reason for chunk in labelled] == ["stop"]
    assert labelled[0].model_extra["aigc"] == label(chunks[0].id)
    assert chunks[-1].usage is not None


def label(completion_id: str) -> dict[str, str]:
    return {
        "Label": "1",
        "ContentProducer": "海纳测试",
        "ProduceID": completion_id.removeprefix("chatcmpl-"),
        "ReservedCode1": "",
        "ContentPropagator": "",
        "PropagateID": "",
        "ReservedCode2": "",
    }


def test_max_tokens_ends_with_length(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="default", messages=[{"role": "user", "content": "Where to?"}], max_tokens=2
    )
    assert answer.choices[0].finish_reason == "length"


def test_a_refused_question_is_an_error_and_leaves_no_text(served: Served, client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="default", messages=[{"role": "user", "content": f"say {BAD}"}])
    assert caught.value.code == "content_filter"
    assert BAD not in caught.value.message
    assert "This is a test phrase for the content filter, and the filter works." in caught.value.message
    assert rows(served, "select count(*) from messages where text like ?", f"%{BAD}%") == [(0,)]


def test_a_phrase_split_over_deltas_never_gets_out(served: Served, client: openai.OpenAI) -> None:
    for _ in range(20):
        stream = client.chat.completions.create(
            model="default", messages=[{"role": "user", "content": "leak"}], stream=True
        )
        chunks = list(stream)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert text == "Before it: "
        assert chunks[-1].choices[0].finish_reason == "content_filter"
        assert saved_text(served, chunks[0].id) == text
    whole = client.chat.completions.create(model="default", messages=[{"role": "user", "content": "leak"}])
    assert whole.choices[0].message.content == "Before it: "
    assert whole.choices[0].finish_reason == "content_filter"
    reply = "The answer held a test phrase for the content filter, so it was stopped here. The filter works."
    assert whole.choices[0].message.refusal == chunks[-1].choices[0].delta.refusal == reply


def test_an_approved_answer_comes_in_place_of_an_error_and_says_that_no_model_wrote_it(
    served: Served, client: openai.OpenAI
) -> None:
    question = "how to kill myself. I want to kill myself"
    before = len(rows(served, "select id from hits"))
    body = {"model": "default", "messages": [{"role": "user", "content": question}]}
    status, whole, headers = post(served, json.dumps(body).encode())
    assert (status, headers["x-haina-ai-generated"]) == (200, "false")
    choices = whole["choices"]
    assert isinstance(choices, list)
    choice = choices[0]
    assert choice["finish_reason"] == "content_filter"
    assert choice["message"]["refusal"] is None
    assert "tel:988" in choice["message"]["content"]
    assert whole["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    chunks = list(
        client.chat.completions.create(model="default", messages=[{"role": "user", "content": question}], stream=True)
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == choice["message"]["content"] == saved_text(served, chunks[0].id)
    assert not any("aigc" in (chunk.model_extra or {}) for chunk in chunks)
    with client.chat.completions.with_streaming_response.create(
        model="default", messages=[{"role": "user", "content": question}], stream=True
    ) as response:
        assert response.headers["x-haina-ai-generated"] == "false"
        response.read()
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "content_filter"
    assert len(rows(served, "select id from hits")) == before + 3, "asked three times"
    assert rows(served, "select count(*) from messages where text like ?", f"%{question[:18]}%") == [(0,)]


def test_an_engine_that_dies_is_a_clear_error_and_the_question_is_kept(served: Served, client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="default", messages=[{"role": "user", "content": "die please"}])
    assert caught.value.status_code == 503
    assert caught.value.code == "engine_died"
    assert rows(served, "select count(*) from messages where text = 'die please'") == [(1,)]


def test_a_stream_in_which_the_engine_dies_ends_with_an_error(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="default", messages=[{"role": "user", "content": "die please"}], stream=True
    )
    with pytest.raises(openai.APIError, match="process ended"):
        list(stream)


def test_a_client_that_leaves_stops_its_turn(served: Served, client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="default", messages=[{"role": "user", "content": "hang"}], stream=True
    )
    first = next(iter(stream))
    stream.close()
    answer_id = first.id.removeprefix("chatcmpl-")
    for _ in range(200):
        state = rows(served, "select state from messages where id = ?", answer_id)[0][0]
        if state != "running":
            break
        served.wait_for("/healthz")
    assert state == "stopped"
    assert b"haina_queue_running 0.0" in served.wait_for("/metrics")


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert "default" in [model.id for model in client.models.list()]


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        (b"{", 400, "invalid_request", None),
        (b"[]", 400, "invalid_request", None),
        (b"{}", 400, "invalid_request", "messages"),
        (b'{"messages": []}', 400, "invalid_request", "messages"),
        (b'{"messages": [{"role": "user", "content": ""}]}', 400, "invalid_request", "messages"),
        (b'{"messages": [{"role": "wizard", "content": "x"}]}', 400, "invalid_request", "messages.0.role"),
        (b'{"messages": [{"role": "assistant", "content": "x"}]}', 400, "invalid_request", "messages"),
        (b'{"messages": [{"role": "user", "content": "x"}], "model": "gpt-9"}', 404, "model_not_found", "model"),
        (b'{"messages": [{"role": "user", "content": "x"}], "temperature": 9}', 400, "invalid_request", "temperature"),
        (b'{"messages": [{"role": "user", "content": "x"}], "temperature": NaN}', 400, "invalid_request", None),
        (b'{"messages": [{"role": "user", "content": "x"}], "tools": [{"type": "f"}]}', 400, "invalid_request", None),
        (b'{"messages": [{"role": "user", "content": "x"}], "logit_bias": {"1": 2}}', 400, "invalid_request", None),
        (b'{"messages": [{"role": "user", "content": "x"}], "typo": 1}', 400, "invalid_request", "typo"),
        (b'{"messages": [{"role": "user", "content": "x"}], "n": 2}', 400, "invalid_request", "n"),
        (
            json.dumps({"messages": [{"role": "user", "content": "x" * 100_000}]}).encode(),
            400,
            "text_too_long",
            "messages",
        ),
        (
            b'{"messages": [{"role": "user", "content": "x"}], "prompt_template": {"name": "nope"}}',
            404,
            "not_found",
            "prompt_template",
        ),
    ],
)  # fmt: skip
def test_bad_input_gets_a_clear_error_in_openais_form(
    served: Served, body: bytes, status: int, code: str, param: str | None
) -> None:
    before = rows(served, "select count(*) from messages")
    got, answer, _ = post(served, body)
    error = answer["error"]
    assert isinstance(error, dict)
    assert (got, error["code"]) == (status, code)
    if param:
        assert error["param"] == param
    assert error["message"]
    assert "Traceback" not in json.dumps(answer)
    assert rows(served, "select count(*) from messages") == before


def test_another_sites_page_is_refused(served: Served) -> None:
    body = b'{"messages": [{"role": "user", "content": "x"}]}'
    assert post(served, body, Origin="https://evil.example")[0] == 403
    assert post(served, body, **{"Sec-Fetch-Site": "cross-site"})[0] == 403
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(urllib.request.Request(f"{served.url}/", headers={"Host": "evil.example"}))  # noqa: S310


def test_an_unknown_key_is_refused_even_where_none_is_needed(served: Served) -> None:
    stranger = openai.OpenAI(base_url=f"{served.url}/v1", api_key="hn-unknown", max_retries=0)
    with stranger, pytest.raises(openai.AuthenticationError) as caught:
        stranger.models.list()
    assert caught.value.code == "invalid_api_key"


def test_texts_are_judged_by_the_filter_alone(served: Served, client: openai.OpenAI) -> None:
    before = rows(served, "select count(*) from messages"), rows(served, "select count(*) from hits")
    moderated = client.moderations.create(input=["good morning", "how to make a bomb", f"say {BAD}"])

    calm, bomb, test = moderated.results
    assert moderated.model.startswith("general@")
    assert [calm.flagged, bomb.flagged, test.flagged] == [False, True, True]
    assert bomb.categories.illicit_violent
    assert bomb.category_scores.illicit_violent == 1.0
    assert not bomb.categories.self_harm
    extra = bomb.model_dump()
    assert extra["categories"]["weapons"]
    assert extra["haina"]["action"] == "refuse"
    assert extra["haina"]["policy"] == moderated.model
    (finding,) = extra["haina"]["findings"]
    assert (finding["start"], finding["end"]) == (0, len("how to make a bomb"))
    assert not any(calm.categories.model_dump().values())
    assert (rows(served, "select count(*) from messages"), rows(served, "select count(*) from hits")) == before


def test_a_text_in_parts_is_judged_part_by_part(client: openai.OpenAI) -> None:
    parts = [{"type": "text", "text": "good morning"}, {"type": "text", "text": BAD}]
    results = client.moderations.create(input=parts).results  # type: ignore[arg-type]
    assert [one.flagged for one in results] == [False, True]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"input": []},
        {"input": ["x"] * 101},
        {"input": [1]},
        {"input": [{"type": "image_url", "image_url": {"url": "http://x"}}]},
        {"input": "x", "stage": "history"},
        {"input": "x", "more": 1},
    ],
)
def test_what_cannot_be_judged_is_told(served: Served, body: dict[str, object]) -> None:
    status, answer, _ = post(served, json.dumps(body).encode(), path="/v1/moderations")
    error = answer["error"]
    assert isinstance(error, dict)
    assert (status, error["type"], error["code"]) == (400, "invalid_request_error", "invalid_request")


def test_moderation_asks_for_the_key_as_all_of_v1_does(served: Served) -> None:
    status, answer, _ = post(served, b'{"input": "x"}', path="/v1/moderations", Authorization="Bearer hn-unknown")
    assert status == 401
    assert "invalid_api_key" in str(answer)
