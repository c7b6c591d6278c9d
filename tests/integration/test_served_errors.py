"""What a served Haina says to requests that are wrong, unknown, too large, or open when it goes down."""

import http.client
import json
import re
import signal
import socket
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.served import Served

SCRIPT = """
default = "All rivers run into the sea."

[[rules]]
pattern = "hang"
reply = "one two three four"
hang_after = 2
"""
LATIN = re.compile(r"[A-Za-z]{2,}")


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def error(self) -> dict[str, Any]:
        error = json.loads(self.text)["error"]
        assert isinstance(error, dict)
        return error


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    one = start(tmp_path_factory.mktemp("errors"))
    yield one
    assert one.stop() == 0
    assert "Traceback" not in "".join(one.output)


def start(folder: Path) -> Served:
    script = folder / "script.toml"
    script.write_text(SCRIPT, encoding="utf-8")
    return Served(folder / "data", settings={"HAINA_ENGINE__URL": f"scripted:{script}"}).start()


def ask(served: Served, method: str, path: str, body: bytes | Iterator[bytes] | None = None, **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(method, path, body=body, headers=given, encode_chunked=not isinstance(body, bytes | None))
        response = connection.getresponse()
        return Answer(response.status, {n.lower(): v for n, v in response.headers.items()}, response.read().decode())
    finally:
        connection.close()


def post(served: Served, path: str, body: bytes, **headers: str) -> Answer:
    return ask(served, "POST", path, body, Content_Type="application/json", **headers)


def guest(served: Served) -> str:
    return ask(served, "GET", "/api/me").headers["set-cookie"].split(";")[0]


def completion(**fields: object) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": "x"}], **fields}).encode()


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nope", 404, "not_found"),
        ("GET", "/api/nope", 404, "not_found"),
        ("GET", "/assets/nope.js", 404, "not_found"),
        ("GET", "/assets/chat/nope.js", 404, "not_found"),
        ("GET", "/monitoring", 404, "not_found"),
        ("GET", "/user", 404, "not_found"),
        ("GET", "/gradio_api/deep_link", 404, "not_found"),
        ("POST", "/gradio_api/queue/join", 404, "not_found"),
        ("GET", "/api/conversations/%00", 404, "not_found"),
        ("PUT", "/api/turns", 405, "method_not_allowed"),
        ("GET", "/logout", 405, "method_not_allowed"),
        ("DELETE", "/healthz", 405, "method_not_allowed"),
    ],
)
def test_what_there_is_not_is_said_in_the_readers_language(
    served: Served, method: str, path: str, status: int, code: str
) -> None:
    answer = ask(served, method, path, Accept_Language="zh-CN")
    assert (answer.status, answer.error["code"]) == (status, code)
    assert not LATIN.search(answer.error["message"].replace(answer.headers.get("allow", "–"), ""))
    assert "content-security-policy" in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/nope", 404), ("GET", "/v1/chat/completions", 405), ("GET", "/v1", 404)]
)
def test_what_there_is_not_has_openais_form_on_v1(served: Served, method: str, path: str, status: int) -> None:
    answer = ask(served, method, path, Accept_Language="zh", Accept="text/html")
    assert answer.status == status
    assert answer.error.keys() == {"message", "type", "param", "code"}


def test_a_405_names_the_methods_that_there_are(served: Served) -> None:
    assert ask(served, "PUT", "/login").headers["allow"] == "GET, POST"


@pytest.mark.parametrize("path", ["/nope", "/logout", "/api/nope", "/assets/nope.js", "/setup/again"])
def test_a_browser_gets_a_page_with_a_way_to_the_chat(served: Served, path: str) -> None:
    answer = ask(served, "GET", path, Accept="text/html,*/*", Accept_Language="zh")
    assert answer.status in {404, 405}
    assert answer.headers["content-type"].startswith("text/html")
    assert '<a href="/">前往对话</a>' in answer.text


def test_another_host_is_refused_in_the_documented_form(served: Served) -> None:
    answer = ask(served, "GET", "/api/me", Host="evil.example")
    assert (answer.status, answer.error["code"]) == (400, "invalid_request")
    assert ask(served, "GET", "/api/me", Host=f"LOCALHOST:{served.port}").status == 200


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": "\ud800"}, "model"),
        ({"model": "x" * 1000}, "model"),
        ({"stop": "\ud800"}, "stop"),
        ({"stop": ["a", "\x00"]}, "stop"),
        ({"top_k": 10**30}, "top_k"),
        ({"repetition_penalty": 1e-300}, "repetition_penalty"),
        ({"max_tokens": 10**30}, "max_tokens"),
        ({"max_completion_tokens": 2**63}, "max_completion_tokens"),
        ({"seed": 10**30}, "seed"),
        ({"prompt_template": {"name": "\ud800"}}, "prompt_template.name"),
        ({"prompt_template": {"name": "x", "version": 2**63}}, "prompt_template.version"),
        ({"prompt_template": {"name": "x", "variables": {"a": "\ud800"}}}, "prompt_template.variables.a"),
        ({"messages": [{"role": "user", "content": "x", "name": "\ud800"}]}, "messages.0.name"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages"),
        ({"\ud800": 1}, None),
        ({"x" * 5000: 1}, "x" * 100),
    ],
)
def test_no_value_of_a_field_is_more_than_a_400_on_v1(
    served: Served, fields: dict[str, object], param: str | None
) -> None:
    answer = post(served, "/v1/chat/completions", completion(**fields))
    assert (answer.status, answer.error["code"]) == (400, "invalid_request")
    assert answer.error["param"] == param


@pytest.mark.parametrize(
    "body",
    [
        {"text": "x", "conversation_id": "\ud800"},
        {"text": "x", "conversation_id": "\x00"},
        {"text": "x", "parent_id": "\ud800"},
        {"text": "x", "template": {"name": "\ud800"}},
        {"text": "x", "template": {"name": "x", "variables": {"\ud800": ""}}},
        {"text": "\ud800\x00"},
        {"text": 10**30},
        {"text": None},
        {"\ud800": 1},
        {"x" * 5000: 1},
        {"text": "x", "extra": 1},
        {},
        [],
        "x",
    ],
)
def test_no_value_of_a_field_is_more_than_a_400_for_the_page(served: Served, body: object) -> None:
    answer = post(served, "/api/turns", json.dumps(body).encode(), Cookie=guest(served), Accept_Language="zh")
    assert (answer.status, answer.error["code"]) == (400, "invalid_request")
    assert not LATIN.search(re.sub("“.*?”|JSON|UTF-8", "", answer.error["message"]))


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/turns"])
@pytest.mark.parametrize(
    "body", [b"{", b'{"text": "\xff"}', b'{"x":' + b"[" * 100_000, b'{"text": ' + b"9" * 5000 + b"}"]
)
def test_a_body_that_is_no_json_is_a_400_in_the_documented_form(served: Served, path: str, body: bytes) -> None:
    answer = post(served, path, body, Accept_Language="zh")
    assert (answer.status, answer.error["code"]) == (400, "invalid_request")
    assert ("正文" in answer.error["message"]) == (path == "/api/turns")


@pytest.mark.parametrize(
    "query",
    ["before=0001-01-01T00:00:00%2B14:00", "before=9999-12-31T23:00:00-14:00", "before=2024-01-01T00:00:00",
     "before=x", "query=%00", "query=" + "x" * 201],
)  # fmt: skip
def test_no_filter_of_the_list_is_more_than_a_400(served: Served, query: str) -> None:
    answer = ask(served, "GET", f"/api/conversations?{query}", Cookie=guest(served))
    assert answer.status == 400
    assert f"“{query.partition('=')[0]}”" in answer.error["message"]


@pytest.mark.parametrize("last", ["9" * 5000, "-1", "x", "٣"])
def test_a_place_that_is_none_begins_a_stream_anew(served: Served, last: str) -> None:
    cookie = guest(served)
    asked = post(served, "/api/turns", b'{"text": "Where to?"}', Cookie=cookie)
    path = f"/turns/{json.loads(asked.text)['turn_id']}/events"
    by_header = ask(served, "GET", path, Cookie=cookie, Last_Event_ID=last.encode().decode("latin-1"))
    by_query = ask(served, "GET", f"{path}?{urllib.parse.urlencode({'after': last})}", Cookie=cookie)
    for answer in (by_header, by_query):
        assert answer.status == 200
        assert "All rivers" in answer.text


@pytest.mark.parametrize(("path", "mib"), [("/api/turns", 1), ("/v1/chat/completions", 8), ("/login", 1)])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_large_body_is_refused_also_in_chunks(served: Served, path: str, mib: int, *, is_chunked: bool) -> None:
    size = (mib << 20) + 1
    body = iter([b"x" * 65536] * (size // 65536 + 1)) if is_chunked else b"x" * size
    kind = "application/x-www-form-urlencoded" if path == "/login" else "application/json"
    answer = ask(served, "POST", path, body, Content_Type=kind)
    assert (answer.status, answer.error["code"]) == (413, "request_too_large")


def test_a_key_is_asked_for_before_the_body_is_read(served: Served) -> None:
    answer = post(served, "/v1/chat/completions", b"{", Authorization="Bearer hn-unknown")
    assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")


def test_a_wrong_password_is_a_401_and_being_locked_out_says_for_how_long(served: Served) -> None:
    form = {"Content_Type": "application/x-www-form-urlencoded", "Accept_Language": "zh"}
    answers = [ask(served, "POST", "/login", b"name=ann&password=wrong-one", **form) for _ in range(6)]
    assert [answer.status for answer in answers] == [401] * 5 + [429]
    assert 0 < int(answers[-1].headers["retry-after"]) <= 900
    assert ask(served, "POST", "/login", b"name=%00&password=x", **form).status == 400


def test_the_setup_page_says_in_chinese_what_a_password_needs(served: Served) -> None:
    token = served.setup_url.rsplit("=", 1)[1]
    form = {"Content_Type": "application/x-www-form-urlencoded", "Accept_Language": "zh"}
    for name, password, said in (("root", "short", "密码至少 8 个字符。"), ("!", "long-enough", "用户名为 2 到 64")):
        body = urllib.parse.urlencode({"token": token, "name": name, "password": password}).encode()
        answer = ask(served, "POST", "/setup", body, **form)
        assert answer.status == 400
        assert said in answer.text


def test_a_title_that_is_empty_or_too_long_is_told_as_such(served: Served) -> None:
    cookie = guest(served)
    asked = post(served, "/api/turns", b'{"text": "Where to?"}', Cookie=cookie)
    path = f"/api/conversations/{json.loads(asked.text)['conversation']['id']}"
    for title, said in ((" ", "标题是空的。"), ("长" * 201, "标题最多 200 个字符。")):
        body = json.dumps({"title": title}).encode()
        answer = ask(served, "PATCH", path, body, Content_Type="application/json", Cookie=cookie, Accept_Language="zh")
        assert (answer.status, answer.error["message"]) == (400, said)


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_open_streams_end_with_the_server_and_without_a_trace(tmp_path: Path, by: signal.Signals) -> None:
    one = start(tmp_path)
    cookie = guest(one)
    asked = post(one, "/api/turns", b'{"text": "hang"}', Cookie=cookie)
    path = f"/turns/{json.loads(asked.text)['turn_id']}/events"
    page = opened(one, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n")
    heartbeat = opened(one, "GET /gradio_api/heartbeat/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
    body = completion(messages=[{"role": "user", "content": "hang"}], stream=True).decode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    program = opened(one, f"{head}Content-Length: {len(body)}\r\n\r\n{body}")
    assert one.stop(by) in ({-signal.SIGTERM} if by is signal.SIGHUP else {0, -by})
    seen = rest(page)
    assert seen.endswith("0\r\n\r\n")
    assert "event: end" not in seen
    assert rest(heartbeat).endswith("0\r\n\r\n")
    assert "server_stopping" in rest(program)
    assert not [line for line in one.output if "Traceback" in line or "Error" in line or "Cancel" in line]


def opened(served: Served, request: str) -> socket.socket:
    """Send a request; return the line when its answer has begun."""
    line = socket.create_connection(("127.0.0.1", served.port), timeout=20)
    line.sendall(request.encode())
    line.recv(1, socket.MSG_PEEK)
    return line


def rest(line: socket.socket) -> str:
    with line:
        return b"".join(iter(lambda: line.recv(65536), b"")).decode()
