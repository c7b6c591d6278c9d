"""The editor's form: content to fields and back, and the differences of two texts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.errors import InvalidInput
from app.domain.models import Sampling, TemplateDraft, Variable, VariableKind
from ui.admin.call import Fields
from ui.admin.difference import difference
from ui.admin.editor import draft_of, fields_of

texts = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), min_size=1, max_size=40)
lines = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=12)
whole = st.none() | st.integers(0, 2**62)
decimal = st.none() | st.floats(-2, 2, allow_nan=False)
variables = st.builds(
    Variable,
    name=st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True),
    label=st.dictionaries(st.sampled_from(["en", "zh"]), lines, min_size=1),
    kind=st.sampled_from(VariableKind),
    default=st.just("") | texts,
    choices=st.lists(lines, max_size=3).map(tuple),
    is_required=st.booleans(),
)
samplings = st.builds(
    Sampling,
    temperature=decimal,
    top_p=decimal,
    top_k=whole,
    repetition_penalty=decimal,
    presence_penalty=decimal,
    frequency_penalty=decimal,
    seed=whole,
    max_tokens=whole,
    stop=st.lists(texts, max_size=3).map(tuple),
)
drafts = st.builds(
    TemplateDraft,
    system=texts,
    variables=st.lists(variables, max_size=3).map(tuple),
    sampling=samplings,
    examples=st.lists(texts, max_size=3).map(tuple),
)


@settings(max_examples=60, deadline=None)
@given(drafts)
def test_a_draft_comes_back_from_the_form_as_it_was(draft: TemplateDraft) -> None:
    assert draft_of(Fields(fields_of(draft))) == draft


def test_rows_that_were_left_empty_are_no_variables_and_no_examples() -> None:
    fields = fields_of(TemplateDraft(system="Hi", variables=(Variable(name="", label={}),)))
    draft = draft_of(Fields(fields | {"example": ["", "One?", ""], "stop": [""]}))
    assert draft == TemplateDraft(system="Hi", examples=("One?",))


def test_a_row_without_a_name_but_with_a_default_is_kept_for_the_check_to_refuse() -> None:
    fields = fields_of(TemplateDraft(system="Hi", variables=(Variable(name="", label={}, default="x"),)))
    assert len(draft_of(Fields(fields)).variables) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": ["warm"]},
        {"top_k": ["1.5"]},
        {"variable_kind": ["image"]},
        {"variable_name": ["a", "b"]},
    ],
)
def test_what_cannot_be_read_is_refused_in_words(wrong: dict[str, list[str]]) -> None:
    fields = fields_of(TemplateDraft(system="Hi", variables=(Variable(name="a", label={"en": "A"}),)))
    with pytest.raises(InvalidInput):
        draft_of(Fields(fields | wrong))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from("abcd"), max_size=12), st.lists(st.sampled_from("abcd"), max_size=12))
def test_a_difference_has_what_went_and_what_came_in_order(before: list[str], after: list[str]) -> None:
    found = difference("\n".join(before), "\n".join(after))
    assert bool(found) == (before != after)
    removed = [one.text for one in found if one.kind in {"removed", "same"}]
    added = [one.text for one in found if one.kind in {"added", "same"}]
    assert is_within(removed, before)
    assert is_within(added, after)
    assert len(before) - sum(one.kind == "removed" for one in found) == len(after) - sum(
        one.kind == "added" for one in found
    )


def is_within(part: list[str], whole: list[str]) -> bool:
    rest = iter(whole)
    return all(one in rest for one in part)


def test_far_lines_are_left_out_and_a_gap_says_so() -> None:
    before = "\n".join(str(n) for n in range(40))
    after = before.replace("20", "twenty")
    kinds = [line.kind for line in difference(before, after)]
    assert kinds == ["gap", "same", "same", "same", "removed", "added", "same", "same", "same", "gap"]
