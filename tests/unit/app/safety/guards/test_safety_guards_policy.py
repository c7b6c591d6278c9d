"""Guards in a policy file: read strictly, part of the policy's id, and nothing of them weaker in a layer above."""

from pathlib import Path

import pytest

from app import bootstrap
from app.domain.errors import InvalidPolicy
from app.domain.verdicts import Action, Cut, Stage
from app.safety.filter import ContentFilter
from app.safety.guards.breaker import FAILURES
from app.safety.guards.post import Post, Posts
from app.safety.guards.spec import LOCAL
from app.safety.policy import guarded
from app.safety.policy_file import PolicyFile, lay_over, load_policy, policy_path
from app.safety.shelf import FilterShelf
from app.settings import InvalidSettings, load_settings
from tests.fakes.guards import DEAD, UNSAFE, FakeGuard, guard_spec, guarded_policy

_HEAD = 'name = "site"\n'
_GUARD = """
[[guards]]
name = "qwen"
kind = "qwen3guard"
url = "http://127.0.0.1:8002/v1"
"""
_LABELS = """
[guards.categories]
"Non-violent Illegal Acts" = "violence"
"Sexual Content or Sexual Acts" = "violence"
"PII" = ""
"Suicide & Self-Harm" = "violence"
"Unethical Acts" = ""
"Politically Sensitive Topics" = ""
"Copyright Violation" = ""
"Jailbreak" = "violence"
"*" = "violence"
"""
_RULE = """
[[rules]]
category = "violence"
stages = ["input", "output"]
action = "refuse"
"""


def write(folder: Path, text: str, *, name: str = "site.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def faults(folder: Path, text: str) -> list[str]:
    with pytest.raises(InvalidPolicy) as caught:
        load_policy(write(folder, text))
    return list(caught.value.faults)


def test_a_guard_is_read_with_all_that_it_may_have(tmp_path: Path) -> None:
    write(tmp_path, "sk-123\n", name="judge.key")
    text = """
[[guards]]
name = "judge"
kind = "judge"
url = "https://guard.example.org/v1"
model = "some-model"
stages = ["input", "output", "history", "export"]
mode = "fast"
on_error = "degrade"
input_budget_s = 4
window_budget_s = 0.5
api_key_file = "judge.key"
instructions = ["Knives are fine."]
categories = { drugs = "violence", weapons = "", "*" = "violence" }
"""
    rules = _RULE + "\n".join(
        f'[[rules]]\ncategory = "{category}"\nstages = ["output"]\naction = "flag"'
        for category in ("self_harm", "sexual", "sexual_minors", "hate", "crime", "fraud", "malware")
    )
    personal = '\n[[rules]]\ncategory = "personal_data"\nstages = ["input", "output"]\naction = "mask"\n'
    jailbreak = '\n[[rules]]\ncategory = "jailbreak"\nstages = ["input"]\naction = "flag"\n'
    policy = load_policy(write(tmp_path, _HEAD + text + rules + personal + jailbreak))
    (guard,) = policy.guards
    assert (guard.name, guard.kind, guard.model) == ("judge", "judge", "some-model")
    assert (guard.mode, guard.on_error) == ("fast", "degrade")
    assert (guard.budget_s(Stage.INPUT), guard.budget_s(Stage.EXPORT), guard.budget_s(Stage.OUTPUT)) == (4, 4, 0.5)
    assert guard.stages == frozenset(Stage)
    assert guard.instructions == ("Knives are fine.",)
    assert guard.api_key_file == tmp_path / "judge.key"
    assert guard.labels["drugs"] == "violence"
    assert "weapons" not in guard.found
    assert "sk-123" not in repr(policy)


@pytest.mark.parametrize(
    "change",
    [
        ("8002", "8003"),
        ('"qwen"', '"other"'),
        ("[guards.categories]", 'mode = "fast"\n[guards.categories]'),
        ("[guards.categories]", 'on_error = "degrade"\n[guards.categories]'),
        ("[guards.categories]", "window_budget_s = 3\n[guards.categories]"),
        ("[guards.categories]", 'model = "m"\n[guards.categories]'),
        ("[guards.categories]", 'stages = ["input"]\n[guards.categories]'),
        ('"Unethical Acts" = ""', '"Unethical Acts" = "violence"'),
    ],
)
def test_all_of_a_guard_that_may_change_a_verdict_is_part_of_the_id(tmp_path: Path, change: tuple[str, str]) -> None:
    text = _HEAD + _GUARD + _LABELS + _RULE
    first = load_policy(write(tmp_path, text))
    assert change[0] in text
    assert load_policy(write(tmp_path, text.replace(*change))).id != first.id


def test_the_key_and_the_order_of_labels_are_not_part_of_the_id(tmp_path: Path) -> None:
    write(tmp_path, "sk-123", name="key")
    text = _HEAD + _GUARD + _LABELS + _RULE
    first = load_policy(write(tmp_path, text))
    keyed = text.replace("[guards.categories]", 'api_key_file = "key"\n[guards.categories]')
    assert load_policy(write(tmp_path, keyed)).id == first.id
    moved = text.replace('"PII" = ""\n', "").replace('"*" =', '"PII" = ""\n"*" =')
    assert load_policy(write(tmp_path, moved)).id == first.id
    assert load_policy(write(tmp_path, _HEAD + _RULE.replace("violence", "test"))).id != first.id


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (('kind = "qwen3guard"', 'kind = "qwen"'), "site.toml:5: guards.1.kind: Input should be"),
        (('url = "http', 'ulr = "http'), "site.toml:6: guards.1.ulr: there is no such key"),
        (("http://127.0.0.1:8002/v1", "127.0.0.1:8002"), "site.toml:3: guards.1: url: a guard's address is"),
        (("http://127", "http://me:key@127"), "site.toml:3: guards.1: url: a key does not stand in a policy"),
        (("[guards.categories]", "window_budget_s = 0\n[guards.categories]"), "site.toml:8: guards.1.window_budget_s"),
        (("[guards.categories]", 'mode = "loose"\n[guards.categories]'), "site.toml:8: guards.1.mode"),
        (("[guards.categories]", "stages = []\n[guards.categories]"), "site.toml:8: guards.1.stages"),
        (("[guards.categories]", 'instructions = ["x"]\n[guards.categories]'), "guards.1: instructions: a qwen3guard"),
        (("[guards.categories]", 'api_key_file = "no"\n[guards.categories]'), "site.toml:8: api_key_file: no: No such"),
        (('"*" = "violence"', '"*" = ""'), 'guards.1: categories: "*" stands for labels that nobody knows'),
        (('"PII" = ""', '"PII" = "Personal Data"'), "site.toml:11: guards.1.categories.PII: String should match"),
        (('"PII" = ""', '"PII" = "pii"'), "site.toml:3: guard qwen: no rule speaks of pii"),
        ((_LABELS, ""), "site.toml:3: guard qwen: no rule speaks of copyright, crime, jailbreak, personal_data"),
        ((_LABELS, _LABELS + _GUARD + _LABELS), "site.toml:19: a second guard named qwen"),
        (('action = "refuse"', 'action = "mask"'), "only a guard finds violence, and it cannot say what to mask"),
        (('"violence"\nstages', '"drugs"\nstages'), "nothing finds the category drugs"),
    ],
)
def test_a_wrong_guard_is_told_with_file_line_and_reason(tmp_path: Path, change: tuple[str, str], fault: str) -> None:
    text = _HEAD + _GUARD + _LABELS + _RULE
    assert change[0] in text
    found = faults(tmp_path, text.replace(*change, 1))
    assert any(fault in one for one in found), found


@pytest.mark.parametrize("key", ["", "two keys", "line\nline"])
def test_a_file_that_holds_no_key_is_told(tmp_path: Path, key: str) -> None:
    write(tmp_path, key, name="key")
    text = _HEAD + _GUARD + 'api_key_file = "key"\n' + _LABELS + _RULE
    assert faults(tmp_path, text) == ["site.toml:7: api_key_file: key: there is not one key in it"]


def test_a_layer_adds_guards_drops_none_and_one_that_is_no_file_has_none(tmp_path: Path) -> None:
    base = load_policy(write(tmp_path, _HEAD + _GUARD + _LABELS + _RULE, name="base.toml"))
    second = _GUARD.replace('"qwen"', '"more"')
    above = load_policy(write(tmp_path, 'name = "above"\nbase = "base.toml"\n' + second + _LABELS, name="above.toml"))
    assert [guard.name for guard in above.guards] == ["qwen", "more"]
    assert "a second guard named qwen" in str(faults(tmp_path, 'name = "x"\nbase = "base.toml"\n' + _GUARD + _LABELS))
    with pytest.raises(InvalidPolicy, match="guards: stand in files of the site only"):
        lay_over(base, _GUARD, name="key")


def test_a_guard_of_the_settings_gets_rules_for_what_no_rule_speaks_of_and_changes_no_other() -> None:
    policy = guarded(load_policy(), guard_spec(categories=()))
    assert policy.action("weapons", stage=Stage.OUTPUT) is Action.REFUSE
    assert policy.action("personal_data", stage=Stage.OUTPUT) is Action.MASK
    assert policy.action("copyright", stage=Stage.OUTPUT) is Action.REFUSE
    assert policy.action("copyright", stage=Stage.OUTPUT, score=0.5) is Action.FLAG
    assert policy.action("copyright", stage=Stage.EXPORT) is Action.ALLOW
    assert policy.action("jailbreak", stage=Stage.INPUT) is Action.FLAG


async def test_a_shelf_of_filters_asks_one_guard_for_all_of_them_and_keeps_it_over_a_change_of_layers() -> None:
    spec, guard = guard_spec(categories=()), FakeGuard()
    posts = Posts()
    posts.add(Post(spec, guard))
    shelf = FilterShelf(PolicyFile(guard=spec), posts=posts)
    assert shelf.site.health()[-1].name == "guard"
    assert (await shelf.site.check(UNSAFE, stage=Stage.INPUT)).text is None
    flag = '[[rules]]\ncategory = "violence"\nstages = ["input"]\naction = "flag"\n'
    draft = await shelf.draft("key", flag)
    assert (await draft.check(UNSAFE, stage=Stage.INPUT)).text == UNSAFE
    await shelf.restock(layers={"key": flag})
    assert (await shelf.site.check(UNSAFE, stage=Stage.INPUT)).text is None
    assert (await (await shelf.over("key")).check(UNSAFE, stage=Stage.INPUT)).text == UNSAFE
    for _ in range(FAILURES):
        await shelf.site.check(DEAD, stage=Stage.INPUT)
    assert (await (await shelf.over("key")).check("rivers", stage=Stage.INPUT)).decision.is_degraded
    await shelf.close()
    assert guard.is_closed


def test_a_shelf_refuses_a_file_whose_guard_has_the_name_of_the_one_that_is_set(tmp_path: Path) -> None:
    path = write(tmp_path, _HEAD + _GUARD.replace('"qwen"', '"guard"') + _LABELS + _RULE)
    with pytest.raises(InvalidPolicy, match="a guard named guard"):
        FilterShelf(PolicyFile(path, guard=guard_spec()))


def test_replies_and_approved_answers_are_read_without_a_guard() -> None:
    spec, guard = guard_spec(categories=()), FakeGuard()
    posts = Posts()
    posts.add(Post(spec, guard))
    FilterShelf(PolicyFile(guard=spec), posts=posts)
    assert guard.asked == []


def test_where_a_policy_goes_by_class_so_do_its_guards(tmp_path: Path) -> None:
    policy = guarded(load_policy(policy_path("builtin:gb45654")), guard_spec(categories=()))
    (guard,) = policy.guards
    assert guard.labels["violent"] == "a1_f"
    assert guard.labels["copyright violation"] == "copyright"
    assert guard.labels["suicide & self-harm"] in {"self_harm", "a4_a"}
    text = 'name = "site"\nbase = "builtin:gb45654"\n' + _GUARD + _LABELS
    (own,) = load_policy(write(tmp_path, text)).guards
    assert own.found == {"a1_f"}


async def test_what_a_guard_cut_an_answer_for_is_kept_to_the_end_of_its_window_and_no_further() -> None:
    spec = guard_spec()
    posts = Posts()
    posts.add(Post(spec, FakeGuard()))
    gate = ContentFilter(guarded_policy(spec), detectors=[], posts=posts).open(stage=Stage.OUTPUT)
    first, bad = "All the rivers run into the sea, yet it is not full. ", f"Now {UNSAFE}, and so on and on. "
    await gate.feed(first + bad + "And more.")
    (_, cut) = await gate.finish()
    assert isinstance(cut, Cut)
    assert gate.heard.unsealed() == first + bad


LOCAL_GUARD = """
name = "site"
base = "builtin:general"

[[guards]]
name = "own"
kind = "classify"
url = "local"
categories = {"bad" = "hate", "good" = ""}
"""


def test_a_classifier_may_be_the_server_s_own_and_nothing_else_may(tmp_path: Path) -> None:
    (guard,) = load_policy(write(tmp_path, LOCAL_GUARD)).guards
    assert guard.url == LOCAL
    (fault,) = faults(tmp_path, LOCAL_GUARD.replace("classify", "moderations"))
    assert "a guard's address is http://HOST:PORT/v1" in fault


def test_the_server_s_own_classifier_and_the_guard_that_asks_it_need_each_other(tmp_path: Path) -> None:
    classifier = load_settings({}, model={"classifier": "/models/bert"})
    asking, other = load_policy(write(tmp_path, LOCAL_GUARD)), load_policy()
    bootstrap._check_classifier(classifier, asking)
    bootstrap._check_classifier(load_settings({}), other)
    with pytest.raises(InvalidSettings, match="nothing asks it"):
        bootstrap._check_classifier(classifier, other)
    with pytest.raises(InvalidSettings, match="set HAINA_MODEL__CLASSIFIER"):
        bootstrap._check_classifier(load_settings({}), asking)


async def test_where_the_server_has_no_classifier_nothing_passes_by_its_guard(tmp_path: Path) -> None:
    filters = FilterShelf(PolicyFile(write(tmp_path, LOCAL_GUARD)))
    checked = await filters.site.check("hello", stage=Stage.INPUT)
    assert (checked.text, checked.decision.is_degraded) == (None, True)
    await filters.close()
