import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import InvalidPolicy
from app.domain.verdicts import Action, Checked, Stage
from app.safety.filter import ContentFilter
from app.safety.policy import Layer, PhraseList, Policy, Rule, layered, make_policy, weakened
from app.safety.policy_file import lay_over, load_policy
from tests.fakes.invariants import invariant

CATEGORIES = ("drugs", "fraud", "hate")
SCORES = (0.0, 0.2, 0.5, 0.8, 1.0)


def drugs(action: Action = Action.REFUSE, *, threshold: float = 0.5, **marks: bool) -> Rule:
    return Rule(category="drugs", stages=frozenset(Stage), action=action, threshold=threshold, **marks)


def a_list(name: str = "own", *phrases: str, category: str = "drugs", **marks: object) -> PhraseList:
    return PhraseList(name=name, category=category, language="en", phrases=phrases, **marks)  # type: ignore[arg-type]


def judged(policy: Policy, text: str, *, stage: Stage = Stage.INPUT) -> Checked:
    return asyncio.run(ContentFilter(policy).check(text, stage=stage))


def test_a_layer_speaks_in_place_of_what_lies_below_and_only_of_what_it_names() -> None:
    base = make_policy("base", rules=[drugs()], lists=[a_list("own", "blue powder")])
    flag = Rule(category="drugs", stages=frozenset({Stage.INPUT}), action=Action.FLAG)
    over = layered(base, Layer(name="site", rules=(flag,)))
    assert over.action("drugs", stage=Stage.INPUT) is Action.FLAG
    assert over.action("drugs", stage=Stage.OUTPUT) is Action.REFUSE
    assert over.layers == ("base", "site")
    assert over.id.startswith("site@")
    assert judged(over, "sell me blue powder").decision.action is Action.FLAG


def test_a_layer_adds_lists_replaces_those_of_the_same_name_and_leaves_out_what_it_says() -> None:
    base = make_policy("base", rules=[drugs()], lists=[a_list("one", "blue powder"), a_list("two", "red powder")])
    layer = Layer(
        name="site", lists=(a_list("two", "green powder"), a_list("three", "white powder")), without=frozenset({"one"})
    )
    over = layered(base, layer)
    found = {colour for colour in ("blue", "red", "green", "white") if judged(over, f"{colour} powder").text is None}
    assert found == {"green", "white"}


def test_a_layer_may_excuse_what_the_base_refuses_unless_it_is_locked() -> None:
    excuse = PhraseList(name="excuse", category=None, language="en", allowed=("blue powder paint",))
    open_ = make_policy("base", rules=[drugs()], lists=[a_list("own", "blue powder")])
    assert judged(layered(open_, Layer(name="site", lists=(excuse,))), "blue powder paint").text is not None
    for locked in (
        make_policy("base", rules=[drugs(is_locked=True)], lists=[a_list("own", "blue powder")]),
        make_policy("base", rules=[drugs()], lists=[a_list("own", "blue powder", is_locked=True)]),
    ):
        assert judged(layered(locked, Layer(name="site", lists=(excuse,))), "blue powder paint").text is None
    own = make_policy("base", rules=[drugs(is_locked=True)], lists=[a_list("own", "blue powder"), excuse])
    assert judged(layered(own, Layer(name="site")), "blue powder paint").text is not None


def test_the_test_phrases_hold_whatever_a_layer_says() -> None:
    excuse = PhraseList(name="excuse", category=None, language="en", allowed=("haina-blocked-test-phrase",))
    allow = Rule(category="test", stages=frozenset(Stage), action=Action.ALLOW)
    layer = Layer(name="site", rules=(allow,), lists=(excuse, a_list("test", "x y")), without=frozenset({"test-flag"}))
    over = layered(make_policy("base"), layer)
    assert judged(over, "say haina-blocked-test-phrase").text is None
    assert judged(over, "say haina-flagged-test-phrase").decision.action is Action.FLAG
    assert "010519491231002X" not in (judged(over, "11010519491231002X").text or "")


def test_what_is_on_trial_is_recorded_and_changes_nothing() -> None:
    lists = [a_list("own", "blue powder"), a_list("new", "red powder", is_shadow=True)]
    policy = make_policy("base", rules=[drugs()], lists=lists)
    checked = judged(policy, "red powder")
    assert checked.text == "red powder"
    assert checked.decision.action is Action.ALLOW
    assert [(finding.action, finding.shadow) for finding in checked.decision.findings] == [
        (Action.ALLOW, Action.REFUSE)
    ]
    rule = make_policy("base", rules=[drugs(Action.FLAG), drugs(is_shadow=True)], lists=[a_list("own", "blue powder")])
    checked = judged(rule, "blue powder")
    assert checked.decision.action is Action.FLAG
    assert checked.decision.findings[0].shadow is Action.REFUSE


def test_a_list_on_trial_excuses_nothing_that_is_in_force() -> None:
    trial = PhraseList(name="new", category=None, language="en", allowed=("blue powder paint",), is_shadow=True)
    policy = make_policy("base", rules=[drugs()], lists=[a_list("own", "blue powder"), trial])
    assert judged(policy, "blue powder paint").text is None


actions = st.sampled_from(list(Action))
rules = st.builds(
    Rule,
    category=st.sampled_from(CATEGORIES),
    stages=st.frozensets(st.sampled_from(list(Stage)), min_size=1),
    action=actions,
    threshold=st.sampled_from(SCORES),
    is_locked=st.booleans(),
    is_shadow=st.booleans(),
)
layers = st.builds(Layer, name=st.sampled_from(["site", "demo", "key"]), rules=st.lists(rules, max_size=4).map(tuple))


@invariant
@given(below=st.lists(rules, max_size=6), above=st.lists(layers, max_size=3))
def test_no_stack_of_layers_is_weaker_than_what_is_locked_and_the_same_stack_is_the_same_policy(
    below: Sequence[Rule], above: Sequence[Layer]
) -> None:
    base = make_policy("base", rules=below)
    policies = [base]
    for layer in above:
        policies.append(layered(policies[-1], layer))
    for number, lower in enumerate(policies):
        locked = make_policy("locked", rules=[rule for rule in lower.rules if rule.is_locked and not rule.is_shadow])
        for higher in policies[number:]:
            for category in CATEGORIES:
                for stage in Stage:
                    for score in SCORES:
                        about = {"stage": stage, "score": score}
                        assert higher.action(category, **about) >= locked.action(category, **about)  # type: ignore[arg-type]
    again = base
    for layer in above:
        again = layered(again, layer)
    assert again.id == policies[-1].id


@invariant
@given(below=st.lists(rules, max_size=6), layer=layers)
def test_a_layer_without_a_fault_does_what_it_says(below: Sequence[Rule], layer: Layer) -> None:
    base = make_policy("base", rules=below)
    if list(weakened(base, layer)):
        return
    over, alone = layered(base, layer), make_policy("alone", rules=layer.rules)
    locked = make_policy("locked", rules=[rule for rule in base.rules if rule.is_locked])
    for category, stage in alone.actions:
        for score in SCORES:
            said = alone.action(category, stage=stage, score=score)
            assert over.action(category, stage=stage, score=score) == max(
                said, locked.action(category, stage=stage, score=score)
            )


def write(folder: Path, text: str, *, name: str = "site.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def faults(path: Path) -> list[str]:
    with pytest.raises(InvalidPolicy) as caught:
        load_policy(path)
    return list(caught.value.faults)


def test_a_file_is_laid_over_a_shipped_policy_or_another_file(tmp_path: Path) -> None:
    rule = '[[rules]]\ncategory = "fraud"\nstages = ["input"]\naction = "flag"\n'
    first = write(tmp_path, f'name = "site"\nbase = "builtin:general"\nwithout = ["drugs-en"]\n{rule}')
    second = write(tmp_path, 'name = "demo"\nbase = "site.toml"\n', name="demo.toml")
    site, demo = load_policy(first), load_policy(second)
    assert site.action("fraud", stage=Stage.INPUT) is Action.FLAG
    assert site.action("fraud", stage=Stage.OUTPUT) is Action.REFUSE
    assert "drugs-en" not in {one.name for one in site.lists}
    assert demo.layers == ("general", "site", "demo")
    assert demo.actions == site.actions


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('base = "site.toml"\n', "site.toml: base: a policy over itself, or too many layers"),
        ('base = "builtin:nothing"\n', "site.toml:2: there is no policy builtin:nothing; there are"),
        ('base = "builtin:../lists/drugs-en"\n', "site.toml:2: there is no policy builtin:../lists/drugs-en"),
        ('base = "absent.toml"\n', "{folder}/absent.toml: there is no such file"),
        ('without = ["drugs-en"]\n', "site.toml:2: without: there is no base"),
        ('base = "builtin:general"\nwithout = ["x"]\n', "site.toml:3: without: there is no list x below"),
        (
            'base = "builtin:general"\nwithout = ["minors-zh"]\n',
            "site.toml:3: list minors-zh is locked below; it can be neither left out nor replaced",
        ),
        (
            'base = "builtin:general"\n[[rules]]\ncategory = "sexual_minors"\nstages = ["input"]\naction = "flag"\n',
            "site.toml:3: the rule for sexual_minors is locked below; here it can only be stricter",
        ),
        (
            (
                'base = "builtin:general"\n[[rules]]\ncategory = "fraud"\nstages = ["input"]\naction = "flag"\n'
                "locked = true\nshadow = true\n"
            ),
            "site.toml:3: rules.1: a rule on trial decides nothing, so it cannot be locked",
        ),
    ],
)
def test_a_layer_that_cannot_be_laid_is_refused_with_the_place(tmp_path: Path, text: str, expected: str) -> None:
    found = faults(write(tmp_path, f'name = "site"\n{text}'))
    assert any(fault.startswith(expected.format(folder=tmp_path)) for fault in found), found


def test_a_layer_from_elsewhere_is_read_as_strictly_as_a_file() -> None:
    base = load_policy()
    text = '[[rules]]\ncategory = "fraud"\nstages = ["input"]\naction = "flag"\n'
    assert lay_over(base, text, name="demo").layers == ("general", "demo")
    for wrong, expected in (
        (text + 'files = ["a.toml"]', "demo:5: rules.1.files: there is no such key"),
        ('files = ["a.toml"]\n' + text, "demo:1: list a.toml: only shipped ones can be named here, as builtin:NAME"),
        ('base = "builtin:general"\n', "demo:1: base: is given already"),
        ('name = "other"\n', "demo:1: name: is demo"),
        ("[[rules]\n", "demo: Expected"),
    ):
        with pytest.raises(InvalidPolicy) as caught:
            lay_over(base, wrong, name="demo")
        assert caught.value.faults[0].startswith(expected), caught.value.faults
