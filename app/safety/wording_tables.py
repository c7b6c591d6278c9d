"""`[[replies]]` and `[[answers]]` as TOML has them, in a policy file or in a file of their own.

[[replies]]
category = "fraud"                    # or a class (a1_d), a group of classes (a2); left out: all without their own
stage = "input"                       # a question, or "output", an answer; left out: both
zh = "…"                              # Markdown
en = "…"

[[answers]]
name = "got-scammed"
categories = ["fraud"]                # what the question was refused for; left out: anything
all = ["bank account"]                # phrases that are all there
any = ["was scammed", "被骗了"]        # and one of these
zh = "…"
en = "…"
"""

from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from app.domain.verdicts import Stage
from app.safety.answers import Answer
from app.safety.replies import Reply

MAX_TEXT: Final = 2000
"""Characters of a reply or an answer."""


def _sound(text: str) -> str:
    stripped = text.strip()
    if not stripped:
        raise ValueError("the text is empty")
    if any(char < " " and char != "\n" for char in stripped) or "\x7f" in stripped:
        raise ValueError("the text holds control characters")
    return stripped


_Text = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(_sound)]
_Category = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
_Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReplyTable(_Table):
    """A reply."""

    category: _Category | None = None
    stage: Literal["input", "output"] | None = None
    zh: _Text
    en: _Text

    def reply(self, *, place: str, is_shipped: bool) -> Reply:
        """Return it typed, with where it stands."""
        return Reply(
            category=self.category or "",
            stage=Stage(self.stage) if self.stage else None,
            zh=self.zh,
            en=self.en,
            place=place,
            is_shipped=is_shipped,
        )


class AnswerTable(_Table):
    """An approved answer."""

    name: _Name
    categories: list[_Category] = []
    all: list[str] = []
    any: list[str] = []
    zh: _Text
    en: _Text

    @model_validator(mode="after")
    def _is_for_something(self) -> Self:
        if not self.all and not self.any:
            raise ValueError("an answer needs phrases, in all or any; for every question of a category write a reply")
        return self

    def answer(self, *, place: str) -> Answer:
        """Return it typed, with where it stands."""
        return Answer(
            name=self.name,
            categories=frozenset(self.categories),
            all=tuple(self.all),
            any=tuple(self.any),
            zh=self.zh,
            en=self.en,
            place=place,
        )


class WordingFile(_Table):
    """A file of both."""

    replies: list[ReplyTable] = []
    answers: list[AnswerTable] = []
