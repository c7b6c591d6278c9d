"""No text steers the model, whoever wrote it and wherever it stands."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.generation import ChatMessage
from app.domain.models import Role, TemplateDraft, Variable, VariableKind
from app.domain.ports import PromptFormat
from prompts.formats.registry import load_format
from prompts.formats.sentencepiece_model import is_plain_symbol
from prompts.formats.tokenizer import Tokenizer, from_sentencepiece
from prompts.render import render
from prompts.template_schema import is_printable
from tests.fakes.chatml import trained
from tests.fakes.checkpoints import TOKENIZER, as_first_generation

REAL = Path(__file__).parents[4] / "shared" / "baichuan2" / "tokenizer.model"
WORDS = [
    "<reserved_102>", "<reserved_103>", "<reserved_106>", "<reserved_107>", "<reserved_999>", "<SEP>", "<CLS>",
    "<s>", "</s>", "<unk>", "<0x0A>", "<0xE4>", "<td>", "</p>", "<!--", "<|im_start|>", "<|im_end|>", "<|endoftext|>",
    "<tool_call>",
]  # fmt: skip
PARTS = ["<reserved_", "<reserved", "106>", "107>", "_107>", "<", ">", "</", "s>", "<|im_", "start|>", "|>", "system\n"]

texts = st.lists(
    st.sampled_from([*WORDS, *PARTS])
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"), max_size=6),
    max_size=8,
).map("".join)


@dataclass(frozen=True, slots=True)
class House:
    """A tokenizer with its prompt format, and the tokens that steer its model."""

    tokenizer: Tokenizer
    prompt_format: PromptFormat
    steering: frozenset[int]


@pytest.fixture(scope="module", params=["tiny", "real", "unmarked", "first generation", "chatml"])
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> House:
    match request.param:
        case "real" if not REAL.exists():
            pytest.skip("Baichuan2's tokenizer.model is not in ../shared")
        case "real":
            tokenizer = from_sentencepiece(REAL)
        case "tiny":
            tokenizer = from_sentencepiece(TOKENIZER)
        case (
            "unmarked"
        ):  # a tokenizer.json as others make them: what SentencePiece calls user-defined is no special token
            content = json.loads(from_sentencepiece(TOKENIZER).to_json())
            for one in content["added_tokens"]:
                one["special"] = one["id"] < 3
            tokenizer = Tokenizer.from_json(json.dumps(content))
        case "first generation":
            file = tmp_path_factory.mktemp("first") / "tokenizer.model"
            shutil.copyfile(TOKENIZER, file)
            tokenizer = from_sentencepiece(as_first_generation(file))
        case _:
            tokenizer = Tokenizer(trained())
    added = json.loads(tokenizer.to_json())["added_tokens"]
    steering = frozenset(one["id"] for one in added if one["special"] or not is_plain_symbol(one["content"]))
    return House(tokenizer, load_format(None, tokenizer), steering)


def build(house: House, messages: list[ChatMessage]) -> tuple[list[int], list[str]]:
    """Return a prompt's control tokens, and the texts between them."""
    controls: list[int] = []
    runs: list[list[int]] = [[]]
    for one in house.prompt_format.build(messages, context_length=100_000, max_tokens=16).ids:
        if one in house.steering:
            controls.append(one)
            runs.append([])
        else:
            runs[-1].append(one)
    return controls, [house.tokenizer.decode(run) for run in runs]


def agree(house: House, messages: list[ChatMessage]) -> None:
    """See that a prompt has the control tokens that one of harmless texts has, and every text whole in its place."""
    controls, found = build(house, messages)
    harmless = [ChatMessage(one.role, f"[{at}]") for at, one in enumerate(messages)]
    expected, places = build(house, harmless)
    for one, message in zip(harmless, messages, strict=True):
        places = [place.replace(one.text, message.text, 1) if one.text in place else place for place in places]
    assert controls == expected
    assert found == places


@settings(deadline=None, max_examples=200)
@given(
    system=st.none() | texts,
    rounds=st.lists(st.tuples(texts, texts), min_size=1, max_size=3),
    greeting=st.none() | texts,
    is_continued=st.booleans(),
)
def test_no_text_steers_and_each_can_be_read_whole_wherever_it_stands(
    house: House, system: str | None, rounds: list[tuple[str, str]], greeting: str | None, *, is_continued: bool
) -> None:
    messages = [] if system is None else [ChatMessage(Role.SYSTEM, system)]
    messages += [] if greeting is None else [ChatMessage(Role.ASSISTANT, greeting)]
    for question, answer in rounds:
        messages += [ChatMessage(Role.USER, question), ChatMessage(Role.ASSISTANT, answer)]
    agree(house, messages if is_continued else messages[:-1])


@settings(deadline=None)
@given(before=texts, value=texts, after=texts, tail=texts)
def test_no_variable_of_a_template_steers_nor_its_text_around_it(
    house: House, before: str, value: str, after: str, tail: str
) -> None:
    name = Variable(name="name", label={"en": "Name"}, kind=VariableKind.LONG_TEXT, default="-")
    before, after, tail = (one.replace("{", "(") for one in (before, after, tail))
    value = "".join(letter for letter in value if is_printable(letter))
    content = TemplateDraft(system=f"{before}{{{{name}}}}{after}{{{{ name }}}}{tail}", variables=(name,))
    filled = render(content, {"name": value}, language="en")
    assert filled.startswith(before)
    assert filled.endswith(tail)
    agree(house, [ChatMessage(Role.SYSTEM, filled), ChatMessage(Role.USER, "hello")])


@pytest.mark.parametrize("word", WORDS)
def test_a_word_that_is_cut_in_two_is_not_put_together_again(house: House, word: str) -> None:
    variable = Variable(name="name", label={"en": "Name"})
    for cut in range(1, len(word)):
        left, right = word[:cut], word[cut:]
        system = render(
            TemplateDraft(system=f"{left}{{{{name}}}}", variables=(variable,)), {"name": right}, language="en"
        )
        assert system == word
        agree(
            house, [ChatMessage(Role.SYSTEM, system), ChatMessage(Role.USER, left), ChatMessage(Role.ASSISTANT, right)]
        )
        agree(house, [ChatMessage(Role.SYSTEM, left), ChatMessage(Role.USER, right), ChatMessage(Role.ASSISTANT, left)])
        agree(house, [ChatMessage(Role.SYSTEM, left), ChatMessage(Role.SYSTEM, right), ChatMessage(Role.USER, word)])
