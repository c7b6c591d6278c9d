import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.errors import InvalidInput
from app.domain.generation import ChatMessage, Delta, Finish, GenerationRequest
from app.domain.models import Role
from app.engines.script_file import load_script, read_script
from app.engines.scripted import Fault, Rule, Script, ScriptedEngine

WHOLE = """
tokens_per_s = 20.5
tokens_per_delta = [1, 3]
seed = 7
default = "I do not know."

[[rules]]
pattern = "(?i)hello"
reply = "Hello!"
fault = "busy"
fault_after = 1
hang_after = 2
first_token_s = 0.5
"""


def ask(text: str) -> GenerationRequest:
    messages = (ChatMessage(Role.USER, "first"), ChatMessage(Role.ASSISTANT, "hello"), ChatMessage(Role.USER, text))
    return GenerationRequest(id="turn", owner="ann", messages=messages)


async def reply_to(text: str, script: Script | None = None) -> str:
    items = [item async for item in ScriptedEngine(script).generate(ask(text))]
    return "".join(item.text for item in items if isinstance(item, Delta))


class Time:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


async def test_the_first_rule_found_in_the_newest_question_answers() -> None:
    rules = (
        Rule(pattern=re.compile("hello"), reply="old"),
        Rule(pattern=re.compile("b+"), reply="B"),
        Rule(pattern=re.compile("ab"), reply="AB"),
    )
    assert await reply_to("abc", Script(rules=rules, default="none")) == "B"
    assert await reply_to("xyz", Script(rules=rules, default="none")) == "none"


@pytest.mark.parametrize(("question", "word"), [("Who are you?", "script"), ("你是谁？", "脚本")])
async def test_the_built_in_reply_says_in_the_questions_language_that_it_is_no_model(question: str, word: str) -> None:
    reply = await reply_to(question)
    assert word in reply[:80]
    for part in ("```python", "$$", "1. ", "| ---"):
        assert part in reply


async def test_the_pace_is_kept_without_drift_and_the_first_token_may_take_longer() -> None:
    time = Time()
    rule = Rule(pattern=re.compile(""), reply="a b c d", first_token_s=2.0)
    engine = ScriptedEngine(Script(rules=(rule,), tokens_per_s=4.0), clock=time.clock, sleep=time.sleep)
    times = [(time.now, item) async for item in engine.generate(ask("x"))]
    assert [at for at, item in times if isinstance(item, Delta)] == [2.25, 2.5, 2.75, 3.0]


@settings(max_examples=50)
@given(reply=st.text(), most=st.integers(1, 5), seed=st.integers(0, 9))
async def test_every_cut_of_a_reply_joins_to_the_reply_and_is_the_same_again(reply: str, most: int, seed: int) -> None:
    script = Script(default=reply, tokens_per_delta=(1, most), seed=seed)
    items = [item async for item in ScriptedEngine(script).generate(ask("x"))]
    again = [item async for item in ScriptedEngine(script).generate(ask("x"))]
    deltas = [item for item in items if isinstance(item, Delta)]
    assert "".join(delta.text for delta in deltas) == reply
    assert isinstance(items[-1], Finish)
    assert items[-1].completion_tokens == sum(delta.tokens for delta in deltas)
    assert items == again


def test_a_file_is_read_whole() -> None:
    script = read_script(WHOLE)
    rule = Rule(
        pattern=re.compile("(?i)hello"),
        reply="Hello!",
        fault=Fault.BUSY,
        fault_after=1,
        hang_after=2,
        first_token_s=0.5,
    )
    assert script == Script(rules=(rule,), default="I do not know.", tokens_per_s=20.5, tokens_per_delta=(1, 3), seed=7)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("rules = [", "not TOML"),
        ("speed = 1", "speed"),
        ('[[rules]]\npattern = "("\nreply = ""', "rules.0.pattern"),
        ('[[rules]]\npattern = "a"', "rules.0.reply"),
        ('[[rules]]\npattern = "a"\nreply = ""\nfault = "odd"', "rules.0.fault"),
        ("tokens_per_s = -1", "tokens_per_s"),
        ("tokens_per_delta = [0, 1]", "tokens_per_delta"),
        ("tokens_per_delta = [3, 1]", "tokens_per_delta"),
    ],
)
def test_a_wrong_file_is_an_error_that_names_the_place(text: str, named: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(named)):
        read_script(text)


def test_an_address_names_the_built_in_script_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "script.toml"
    file.write_text(WHOLE, encoding="utf-8")
    assert load_script("scripted:") == Script()
    assert load_script(f"scripted:{file}") == read_script(WHOLE)
    with pytest.raises(InvalidInput, match="cannot be read"):
        load_script(f"scripted:{tmp_path / 'none.toml'}")
