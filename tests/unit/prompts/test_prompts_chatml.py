"""ChatML: the same ids as the model's own chat template, except that text stays text."""

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models

from app.domain.errors import ContextLengthExceeded, InvalidInput
from app.domain.generation import ChatMessage
from app.domain.models import Role
from prompts.formats.chatml import SMOLLM_SYSTEM, ChatMLFormat
from prompts.formats.tokenizer import Tokenizer
from tests.fakes.chatml import SPECIAL, trained

REFERENCE = trained()
FORMAT = ChatMLFormat(Tokenizer(trained()))
words = st.text(st.sampled_from("a you.\n\t 好"), max_size=12)


def rendered(messages: list[ChatMessage], *, is_continued: bool) -> str:
    """Return what SmolLM2's chat_template makes; going on with the last message leaves its end out."""
    if messages[0].role is not Role.SYSTEM:
        messages = [ChatMessage(Role.SYSTEM, SMOLLM_SYSTEM), *messages]
    text = "".join(f"<|im_start|>{one.role}\n{one.text}<|im_end|>\n" for one in messages)
    return text.removesuffix("<|im_end|>\n") if is_continued else text + "<|im_start|>assistant\n"


@settings(deadline=None)
@given(system=st.none() | words, rounds=st.lists(st.tuples(words, words), min_size=1, max_size=4), end=st.booleans())
def test_prompts_are_those_of_the_models_own_template(
    system: str | None, rounds: list[tuple[str, str]], *, end: bool
) -> None:
    messages = [] if system is None else [ChatMessage(Role.SYSTEM, system)]
    for question, answer in rounds:
        messages += [ChatMessage(Role.USER, question), ChatMessage(Role.ASSISTANT, answer)]
    if end:
        messages.pop()
    prompt = FORMAT.build(messages, context_length=2048, max_tokens=100)
    assert list(prompt.ids) == REFERENCE.encode(rendered(messages, is_continued=not end)).ids
    assert prompt.dropped == 0


@settings(deadline=None)
@given(st.lists(st.sampled_from([*SPECIAL, "<tool_call>", "<|im_", "start|>", "a", "\n"]), max_size=8).map("".join))
def test_no_text_opens_or_ends_a_turn(text: str) -> None:
    prompt = FORMAT.build([ChatMessage(Role.USER, text)], context_length=2048, max_tokens=16)
    marks = [one for one in prompt.ids if one < len(SPECIAL) or one == REFERENCE.token_to_id("<tool_call>")]
    assert marks == [1, 2, 1, 2, 1]
    assert text in REFERENCE.decode(list(prompt.ids), skip_special_tokens=False)


def test_the_default_system_message_is_counted_and_stays() -> None:
    question = ChatMessage(Role.USER, "a")
    needed = FORMAT.build([question], context_length=2048, max_tokens=16).tokens
    history = [ChatMessage(Role.USER, "old"), ChatMessage(Role.ASSISTANT, "old")]
    prompt = FORMAT.build([*history, question], context_length=needed + 16, max_tokens=16)
    assert (prompt.tokens, prompt.dropped) == (needed, 2)
    with pytest.raises(ContextLengthExceeded):
        FORMAT.build([question], context_length=needed + 15, max_tokens=16)


def test_a_model_may_have_no_default_system_message() -> None:
    plain = ChatMLFormat(Tokenizer(trained()), default_system="")
    prompt = plain.build([ChatMessage(Role.USER, "a")], context_length=2048, max_tokens=16)
    expected = "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
    assert REFERENCE.decode(list(prompt.ids), skip_special_tokens=False) == expected


def test_the_model_stops_at_the_end_of_its_turn_and_of_the_text() -> None:
    assert FORMAT.stop_token_ids == (2, 0)


def test_a_vocabulary_without_the_marks_is_refused() -> None:
    with pytest.raises(InvalidInput):
        ChatMLFormat(Tokenizer(tokenizers.Tokenizer(models.BPE({"a": 0}, []))))
