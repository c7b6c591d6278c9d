import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.errors import StorageCorrupt
from app.domain.models import Receipt, Sampling, TemplateDraft, Variable, VariableKind
from storage import codec

texts = st.text(st.characters(codec="utf-8"), max_size=20)
numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
counts = st.none() | st.integers(-1, 2**63)
samplings = st.builds(
    Sampling,
    temperature=numbers,
    top_p=numbers,
    top_k=counts,
    repetition_penalty=numbers,
    presence_penalty=numbers,
    frequency_penalty=numbers,
    seed=counts,
    max_tokens=counts,
    stop=st.lists(texts, max_size=3).map(tuple),
)
receipts = st.builds(
    Receipt,
    model=texts,
    template_version_id=st.none() | texts,
    sampling=samplings,
    prompt_tokens=st.integers(0, 10**6),
    queued_s=st.floats(0, 1e6),
    first_token_s=st.none() | st.floats(0, 1e6),
    finish_reason=texts,
)
variables = st.builds(
    Variable,
    name=texts,
    label=st.dictionaries(texts, texts, max_size=2),
    kind=st.sampled_from(VariableKind),
    default=texts,
    choices=st.lists(texts, max_size=3).map(tuple),
    is_required=st.booleans(),
)
drafts = st.builds(
    TemplateDraft,
    system=texts,
    variables=st.lists(variables, max_size=2).map(tuple),
    sampling=samplings,
    examples=st.lists(texts, max_size=2).map(tuple),
)


@settings(max_examples=60)
@given(receipts)
def test_a_receipt_comes_back_as_it_was(receipt: Receipt) -> None:
    assert codec.decode(Receipt, codec.encode(Receipt, receipt)) == receipt


@settings(max_examples=60)
@given(drafts)
def test_a_template_s_content_comes_back_as_it_was(draft: TemplateDraft) -> None:
    assert codec.decode(TemplateDraft, codec.encode(TemplateDraft, draft)) == draft


@settings(max_examples=60)
@given(st.dictionaries(st.text(), st.text()))
def test_a_mapping_comes_back_as_it_was_unless_no_database_could_hold_it(values: Mapping[str, str]) -> None:
    try:
        text = codec.encode(dict[str, str], values)
        text.encode()
    except UnicodeEncodeError:
        return  # lone surrogates: storage.rows replaces them before they are written
    assert codec.decode(dict[str, str], text) == values


def test_a_key_of_a_later_version_is_left_out() -> None:
    text = json.dumps({"model": "m", "carbon_g": 3, "sampling": {"seed": 1, "mirostat": 2}})
    assert codec.decode(Receipt, text) == Receipt(model="m", sampling=Sampling(seed=1))


def test_a_key_of_a_later_version_that_is_missing_gets_its_default() -> None:
    assert codec.decode(Receipt, '{"model":"m"}') == Receipt(model="m")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Receipt, "{}"),
        (Receipt, '{"model": 7}'),
        (Receipt, '{"model": "m", "prompt_tokens": "secret"}'),
        (Receipt, "secret"),
        (Receipt, "null"),
        (tuple[str, ...], '{"a": 1}'),
        (dict[str, str], '{"a": 1}'),
        (TemplateDraft, '{"system": "", "variables": [{"name": "n", "label": {}, "kind": "secret"}]}'),
    ],
)
def test_what_is_no_value_is_a_damaged_row_and_is_not_quoted(kind: Any, text: str) -> None:
    with pytest.raises(StorageCorrupt) as caught:
        codec.decode(kind, text)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
