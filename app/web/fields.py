"""Kinds of fields that both APIs share: what cannot be stored, or sent back, is refused at the border."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError


def require_storable(text: str) -> str:
    """Return a text without half characters and NUL: no database keeps them, and no answer could quote them.

    Raises PydanticCustomError.
    """
    if "\x00" in text or (not text.isascii() and _has_half_characters(text)):
        raise PydanticCustomError("text_broken", "the text holds half of a character, or NUL")
    return text


def _has_half_characters(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


Text = Annotated[str, AfterValidator(require_storable)]
Name = Annotated[Text, Field(max_length=200)]
Id = Annotated[Text, Field(max_length=64)]


class TextPart(BaseModel):
    """A part of a content in OpenAI's shape; only text is taken."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["text"]
    text: str
