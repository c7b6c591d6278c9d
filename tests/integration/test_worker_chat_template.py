"""A converted model's chat template gives the ids of our own prompt builder, for messages without signs in them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from jinja2.exceptions import TemplateError
from transformers import AutoTokenizer

from app.domain.generation import ChatMessage
from app.domain.models import Role
from app.domain.ports import PromptFormat
from prompts.formats.registry import load_format
from prompts.formats.tokenizer import Tokenizer
from tests.fakes.checkpoints import as_first_generation, converted, folder_of

REAL = Path(__file__).parents[3] / "shared" / "baichuan2" / "tokenizer.model"
ROLES = {"S": Role.SYSTEM, "U": Role.USER, "A": Role.ASSISTANT}
TALKS = [
    ["U你好"],
    ["S你是一个助手。", "Uhello world"],
    ["Uthe dog", "Ait  barks\n", "U 2023年\tand then?"],
    ["S\nbe brief ", "Ua", "A b", "Uc"],
    ["U你好", "A您"],  # to be gone on with
    ["A欢迎", "U你好"],
    ["U", "A", "U"],
    ["S ", "U<b>x</b> 😀 \x00"],
]


def by_template(folder: Path, talk: Sequence[str]) -> list[int]:
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    messages = [{"role": ROLES[line[0]].value, "content": line[1:]} for line in talk]
    ids: list[int] = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    return ids


def by_builder(folder: Path, talk: Sequence[str]) -> list[int]:
    found: PromptFormat = load_format(None, Tokenizer.from_file(folder / "tokenizer.json"))
    messages = [ChatMessage(ROLES[line[0]], line[1:]) for line in talk]
    return list(found.build(messages, context_length=512, max_tokens=16).ids)


@pytest.fixture(scope="module", params=[1, 2])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted model of either generation: of the first one only the tokenizer, which tells the prompt."""
    source = folder_of("tiny-7b-chat", tmp_path_factory.mktemp("models"))
    if request.param == 1:
        as_first_generation(source / "tokenizer.model")
    return converted(source)


@pytest.mark.parametrize("talk", TALKS, ids=str)
def test_it_gives_the_ids_of_the_prompt_builder(talk: list[str], folder: Path) -> None:
    ids = by_template(folder, talk)

    assert ids == by_builder(folder, talk)
    assert ids[-1] == 196 or talk[-1][0] == "A"


@pytest.mark.skipif(not REAL.exists(), reason="Baichuan2's tokenizer.model is not in ../shared")
def test_it_does_so_with_the_real_vocabulary(tmp_path: Path) -> None:
    source = folder_of("tiny-7b-chat", tmp_path)
    (source / "tokenizer.model").write_bytes(REAL.read_bytes())
    folder = converted(source)

    assert by_template(folder, ["U你好", "A您好！", "U2023年"]) == [
        *(195, 16829, 196, 28850, 67, 195, 92338, 92335, 92338, 92354, 92381, 196)  # the official function's own
    ]
    for talk in TALKS:
        assert by_template(folder, talk) == by_builder(folder, talk)


@pytest.mark.parametrize("talk", [["Ua", "Sb", "Uc"], ["Sa", "Sb", "Uc"]], ids=str)
def test_a_system_message_further_on_is_refused(talk: list[str], folder: Path) -> None:
    with pytest.raises(TemplateError, match="must come first"):
        by_template(folder, talk)


def test_a_foreign_role_is_refused(folder: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    with pytest.raises(TemplateError, match="no place for the role tool"):
        tokenizer.apply_chat_template([{"role": "tool", "content": "x"}])
