"""A prompt format is found by name or by vocabulary."""

from pathlib import Path

import pytest
import tokenizers
from tokenizers import models

from app.domain.errors import InvalidInput
from app.domain.generation import ChatMessage
from app.domain.models import Role
from app.domain.ports import PromptFormat
from prompts.formats.chatml import SMOLLM_SYSTEM
from prompts.formats.registry import load_format
from prompts.formats.tokenizer import Tokenizer, from_sentencepiece

TINY = Path(__file__).parents[2] / "data" / "tiny-tokenizer.model"


def letters(*special: str) -> Tokenizer:
    alphabet = sorted(set(SMOLLM_SYSTEM) | set("user\n assistant system"))
    tokenizer = tokenizers.Tokenizer(models.BPE({letter: at for at, letter in enumerate(alphabet)}, []))
    tokenizer.add_special_tokens(list(special))
    return Tokenizer(tokenizer)


def text_of(prompt_format: PromptFormat, tokenizer: Tokenizer) -> str:
    prompt = prompt_format.build([ChatMessage(Role.USER, "is")], context_length=1000, max_tokens=16)
    return tokenizer.decode(prompt.ids).replace(" ", "")


@pytest.mark.parametrize("name", [None, "", "baichuan2"])
def test_baichuan2_is_known_by_its_role_tokens(name: str | None) -> None:
    assert load_format(name, from_sentencepiece(TINY)).name == "baichuan2"


def test_smollm_gets_the_system_message_that_its_own_template_has() -> None:
    tokenizer = letters("<|im_start|>", "<|im_end|>", "<jupyter_script>")
    prompt_format = load_format(None, tokenizer)
    assert prompt_format.name == "chatml"
    assert SMOLLM_SYSTEM.replace(" ", "") in text_of(prompt_format, tokenizer)


def test_another_chatml_model_is_not_told_that_it_is_smollm() -> None:
    tokenizer = letters("<|im_start|>", "<|im_end|>")
    assert "SmolLM" not in text_of(load_format("chatml", tokenizer), tokenizer)


def test_a_vocabulary_that_tells_nothing_is_refused() -> None:
    with pytest.raises(InvalidInput, match="does not tell"):
        load_format(None, letters())


def test_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(InvalidInput, match="llama; there are baichuan, baichuan2, chatml"):
        load_format("llama", letters())


def test_chatml_for_a_vocabulary_without_it_is_refused() -> None:
    with pytest.raises(InvalidInput):
        load_format("chatml", from_sentencepiece(TINY))
