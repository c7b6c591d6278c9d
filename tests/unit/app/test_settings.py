import pytest

from app.bootstrap import check_door, engine_of, policy_of
from app.domain.verdicts import Action, Stage
from app.settings import InvalidSettings, load_settings


def test_a_misspelt_setting_is_an_error_that_names_the_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAINA_SERVER__PROT", "8000")
    with pytest.raises(InvalidSettings, match="HAINA_SERVER__PORT"):
        load_settings()


def test_a_value_that_cannot_be_is_one_line_without_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAINA_SERVER__PORT", "many")
    with pytest.raises(InvalidSettings) as caught:
        load_settings()
    assert str(caught.value).startswith("HAINA_SERVER__PORT: ")
    assert "many" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "public_url", "has_guests"),
    [
        ("127.0.0.1", "", True),
        ("localhost", "", True),
        ("0.0.0.0", "", False),
        ("127.0.0.1", "https://chat.example.org", False),
    ],
)
def test_guests_come_in_on_loopback_only(
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    public_url: str,
    has_guests: bool,  # noqa: FBT001 - a column
) -> None:
    monkeypatch.setenv("HAINA_SERVER__HOST", host)
    monkeypatch.setenv("HAINA_SERVER__PUBLIC_URL", public_url)
    assert load_settings().has_guests is load_settings().has_shares is has_guests


@pytest.mark.parametrize(("wish", "has_shares"), [("on", True), ("off", False)])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_links_may_be_switched_on_and_off_wherever_the_server_is(
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    wish: str,
    has_shares: bool,  # noqa: FBT001 - a column
) -> None:
    monkeypatch.setenv("HAINA_SERVER__HOST", host)
    monkeypatch.setenv("HAINA_ACCESS__SHARES", wish)
    assert load_settings().has_shares is has_shares


@pytest.mark.parametrize("name", ["", " ", "two\nlines", "x" * 101, " Ops", "a\u202eb"])
def test_an_operators_name_is_one_line(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("HAINA_SERVER__OPERATOR", name)
    with pytest.raises(InvalidSettings, match="HAINA_SERVER__OPERATOR: "):
        load_settings()
    monkeypatch.setenv("HAINA_SERVER__OPERATOR", "某某 公司")
    assert load_settings().server.operator == "某某 公司"


@pytest.mark.parametrize("secret", ["", "changeme", "short", "a" * 64])
def test_a_server_that_others_reach_refuses_a_weak_secret(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.setenv("HAINA_SERVER__HOST", "0.0.0.0")
    monkeypatch.setenv("HAINA_SERVER__SECRET_KEY", secret)
    with pytest.raises(InvalidSettings, match="SECRET_KEY"):
        check_door(load_settings())
    monkeypatch.setenv("HAINA_SERVER__SECRET_KEY", "q8Zr-2mVw_7LkXb9TnYc4PdHs6JfGe3A")
    check_door(load_settings())


@pytest.mark.parametrize("url", ["127.0.0.1:9", "ftp://guard/v1", "http://key@guard/v1", "http://gu ard/v1"])
def test_a_guard_without_a_proper_address_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("HAINA_SAFETY__GUARD_URL", url)
    with pytest.raises(InvalidSettings, match="GUARD_URL"):
        load_settings()


def test_a_guard_that_nobody_is_asked_at_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAINA_SAFETY__GUARD_API_KEY", "secret")
    with pytest.raises(InvalidSettings, match="GUARD_URL says where"):
        load_settings()


def test_the_guard_that_is_set_joins_the_policy_and_its_key_stays_out_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = policy_of(load_settings())
    monkeypatch.setenv("HAINA_SAFETY__GUARD_URL", "http://127.0.0.1:9/v1")
    without_key = policy_of(load_settings())
    monkeypatch.setenv("HAINA_SAFETY__GUARD_API_KEY", "very-secret")
    policy = policy_of(load_settings())
    (guard,) = policy.guards
    assert (guard.name, guard.kind, guard.mode, guard.on_error) == ("guard", "qwen3guard", "strict", "refuse")
    assert policy.id == without_key.id
    assert policy.id != bare.id
    assert "very-secret" not in repr((policy, load_settings()))
    for category in guard.found:
        assert policy.action(category, stage=Stage.OUTPUT) > Action.ALLOW
    assert policy.action("politics", stage=Stage.INPUT) is Action.REFUSE
    assert policy.action("politics", stage=Stage.INPUT, score=0.5) is Action.FLAG
    assert policy.action("violence", stage=Stage.INPUT) is Action.REFUSE


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8001/v1",
        "https://user:word@gpu.example.org/v1",
        "http://[::1]:8001/v1",
        "HTTP://gpu_1:80",
        "http://模型.example/v1",
        "scripted:",
        "scripted:/a, b.toml",
        "",
    ],
)
def test_an_engine_has_an_address(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("HAINA_ENGINE__URL", url)
    assert load_settings().engine.url == url


@pytest.mark.parametrize(
    "url",
    [
        "notaurl",
        "127.0.0.1:8001",
        "ftp://x",
        "http:",
        "http://",
        "http://:8001/v1",
        "http:///v1",
        "http://secret:99999/v1",
        "http://secret:0/v1",
        "http://secret:port/v1",
        "http://[::1",
        "http://[secret]/v1",
        "http://se cret/v1",
        "http://secret\n/v1",
        "http://secret/v1 ",
        "http://a..secret/v1",
        "http://a,http://secret",
        " http://secret",
    ],
)
def test_what_is_no_address_of_an_engine_is_refused_without_repeating_it(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("HAINA_ENGINE__URL", url)
    with pytest.raises(InvalidSettings) as caught:
        load_settings()
    assert str(caught.value).startswith("HAINA_ENGINE__URL: ")
    assert "secret" not in str(caught.value)
    assert "Value error" not in str(caught.value)


@pytest.mark.parametrize("host", ["a..b", "x" * 300, "a b", "a\tb", "\udcff"])
def test_a_host_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("HAINA_SERVER__HOST", host)
    with pytest.raises(InvalidSettings, match="HAINA_SERVER__HOST"):
        load_settings()


async def test_the_set_number_of_slots_holds_for_the_scripted_engine_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAINA_ENGINE__URL", "scripted:")
    monkeypatch.setenv("HAINA_ENGINE__SLOTS", "3")
    engine = engine_of(load_settings(), supervisor=None)
    assert (await engine.status()).slots == 3
    await engine.close()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (0, 0)),
        ({"HAINA_SERVER__HOST": "0.0.0.0"}, (3, 5)),
        ({"HAINA_SERVER__PUBLIC_URL": "https://chat.example.org"}, (3, 5)),
        ({"HAINA_SERVER__HOST": "0.0.0.0", "HAINA_SAFETY__STRIKES_IN_ROW": "0"}, (0, 5)),
        ({"HAINA_SAFETY__STRIKES_PER_DAY": "7"}, (0, 7)),
    ],
)
def test_strikes_are_counted_where_others_come_in_or_where_it_is_set(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], expected: tuple[int, int]
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert load_settings().strikes == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EVIDENCE", "on"),
        ("EVIDENCE_DAYS", "0"),
        ("STRIKES_IN_ROW", "-1"),
        ("STRIKES_PER_DAY", "x"),
        ("SUSPENSION_H", "0"),
    ],
)
def test_what_follows_a_hit_has_possible_values(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"HAINA_SAFETY__{name}", value)
    with pytest.raises(InvalidSettings, match=name):
        load_settings()
