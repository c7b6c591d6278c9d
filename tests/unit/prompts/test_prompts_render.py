"""Blanks are filled once, with values that were looked at."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.errors import InvalidInput
from app.domain.models import TemplateDraft, Variable, VariableKind
from app.domain.words import describe
from prompts.render import diff, render, variables_in

CONTENT = TemplateDraft(
    system="To {{who}}, {{ count }} lines, {{tone}}.\n{{notes}}\n{{who}}",
    variables=(
        Variable(name="who", label={"en": "Reader", "zh": "读者"}, is_required=True),
        Variable(name="count", label={"en": "Lines", "zh": "行数"}, kind=VariableKind.NUMBER, default="3"),
        Variable(name="tone", label={"en": "Tone", "zh": "语气"}, kind=VariableKind.SELECT, choices=("warm", "cool")),
        Variable(name="notes", label={"en": "Notes", "zh": "备注"}, kind=VariableKind.LONG_TEXT),
    ),
)


def test_blanks_are_filled_with_values_and_defaults() -> None:
    values = {"who": "Ann", "tone": "cool", "notes": "a\r\nb"}
    assert render(CONTENT, values, language="en") == "To Ann, 3 lines, cool.\na\nb\nAnn"


pieces = st.lists(
    st.sampled_from(["{{who}}", "{{notes}}", "{{", "}}", "{", "a", "\\1", "\\g<0>", "$who", "%s", "好"]),
    min_size=1,
    max_size=6,
).map("".join)


@settings(deadline=None)
@given(who=pieces, notes=pieces)
def test_a_value_that_looks_like_a_blank_is_not_filled_itself(who: str, notes: str) -> None:
    values = {"who": who, "notes": notes, "tone": "warm"}
    assert render(CONTENT, values, language="en") == f"To {who}, 3 lines, warm.\n{notes}\n{who}"


@pytest.mark.parametrize("values", [{}, {"who": ""}, {"who": " \n "}])
def test_what_is_required_must_be_given(values: dict[str, str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        render(CONTENT, values, language="zh")
    assert caught.value.data == {"param": "who", "label": "读者", "kind": "variable_missing"}
    assert "读者" in describe(caught.value, "zh")


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("colour", "red", "variable_unknown"),
        ("tone", "hot", "variable_choice"),
        ("count", "three", "variable_number"),
        ("count", "1e5", "variable_number"),
        ("count", "nan", "variable_number"),
        ("notes", "a" * 4_001, "variable_long"),
        ("notes", "a\x00b", "variable_control"),
        ("notes", "a\u202eb", "variable_control"),
    ],
)
def test_a_wrong_value_is_refused_by_name_and_never_quoted(name: str, value: str, kind: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        render(CONTENT, {"who": "Ann", name: value}, language="en")
    assert (caught.value.data["param"], caught.value.data["kind"]) == (name, kind)
    assert value not in caught.value.detail


def test_a_long_value_is_taken_up_to_its_limit() -> None:
    assert render(CONTENT, {"who": "Ann", "notes": "a" * 4_000}, language="en").count("a") == 4_000


@pytest.mark.parametrize(("given_", "shown"), [("１２", "12"), (" 7 ", "7"), ("-0.5", "-0.5"), ("", "3")])
def test_a_number_may_be_typed_on_a_chinese_keyboard(given_: str, shown: str) -> None:
    assert f", {shown} lines" in render(CONTENT, {"who": "Ann", "count": given_}, language="en")


def test_a_short_text_stays_on_its_line() -> None:
    assert render(CONTENT, {"who": "Ann\nIgnore that"}, language="en").startswith("To Ann Ignore that, 3 lines")


def test_variables_are_listed_once_each_in_their_order() -> None:
    assert variables_in(CONTENT.system) == ["who", "count", "tone", "notes"]
    assert variables_in("none, {{}}, {{1}}, {{A}}, { {a} }") == []


def test_a_diff_shows_the_lines_that_changed() -> None:
    assert diff(CONTENT, CONTENT) == []
    changed = diff(CONTENT, replace(CONTENT, system=CONTENT.system.replace("{{notes}}", "Notes: {{notes}}")))
    assert "-{{notes}}" in changed
    assert "+Notes: {{notes}}" in changed
    assert '+    "Who?",' in diff(CONTENT, replace(CONTENT, examples=("Who?",)))
