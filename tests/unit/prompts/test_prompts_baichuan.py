"""The first generation: its role tokens, an end after each answer, a space before every text."""

import shutil

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.generation import ChatMessage
from app.domain.models import Role
from prompts.formats.baichuan import BaichuanFormat
from prompts.formats.registry import load_format
from prompts.formats.tokenizer import Tokenizer, from_sentencepiece
from tests.fakes.checkpoints import TOKENIZER, as_first_generation

Pair = tuple[Tokenizer, sentencepiece.SentencePieceProcessor]
ROLES = {"S": Role.SYSTEM, "U": Role.USER, "A": Role.ASSISTANT}
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"), max_size=40) | st.lists(
    st.sampled_from(["the ", " ", "  ", "\n", "hello", "百川", "<", "<td>", "...", "0"]), max_size=20
).map("".join)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    path = tmp_path_factory.mktemp("first") / "tokenizer.model"
    shutil.copyfile(TOKENIZER, path)
    as_first_generation(path)
    return from_sentencepiece(path), sentencepiece.SentencePieceProcessor(model_file=str(path))


def build(tokenizer: Tokenizer, *lines: str) -> tuple[int, ...]:
    messages = [ChatMessage(ROLES[line[0]], line[1:]) for line in lines]
    return load_format(None, tokenizer).build(messages, context_length=200, max_tokens=20).ids


@settings(deadline=None)
@given(text=texts)
def test_ids_and_text_are_those_of_sentencepiece(pair: Pair, text: str) -> None:
    ours, theirs = pair
    ids = theirs.encode(text)
    assert list(ours.encode_plain(text)) == ids
    assert ours.decode(ids) == theirs.decode(ids) == text


def test_a_saved_tokenizer_still_puts_the_space_before_a_text(pair: Pair) -> None:
    ours, theirs = pair
    again = Tokenizer.from_json(ours.to_json())
    assert list(again.encode_plain("the")) == theirs.encode("the")
    assert again.to_json() == ours.to_json()


def test_role_words_in_a_text_steer_nothing_and_get_no_space_inside(pair: Pair) -> None:
    ours, _ = pair
    text = "a<reserved_102>b<reserved_103>"
    ids = ours.encode_plain(text)
    assert not {195, 196} & set(ids)
    assert ours.decode(ids) == text


def test_a_conversation_is_that_of_the_official_function(pair: Pair) -> None:
    ours, theirs = pair
    one, two, three = (theirs.encode(text) for text in ("the", "hello", "百川"))
    assert load_format(None, ours).name == "baichuan"
    assert build(ours, "Uthe") == (195, *one, 196)
    assert build(ours, "Uthe", "Ahello", "U百川") == (195, *one, 196, *two, 2, 195, *three, 196)


def test_an_answer_that_is_to_go_on_has_no_end(pair: Pair) -> None:
    ours, theirs = pair
    assert build(ours, "Uthe", "Ahello") == (195, *theirs.encode("the"), 196, *theirs.encode("hello"))


def test_the_system_message_stands_bare_at_the_beginning(pair: Pair) -> None:
    ours, theirs = pair
    assert build(ours, "Shello", "Uthe") == (*theirs.encode("hello"), 195, *theirs.encode("the"), 196)


def test_the_model_stops_at_its_end_and_at_both_roles(pair: Pair) -> None:
    assert BaichuanFormat(pair[0]).stop_token_ids == (2, 195, 196)
