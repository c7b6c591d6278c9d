"""Which prompt formats there are, and which one a tokenizer belongs to."""

from collections.abc import Callable, Mapping

from app.domain.errors import InvalidInput
from app.domain.ports import PromptFormat
from prompts.formats import baichuan, baichuan2, chatml
from prompts.formats.tokenizer import Tokenizer

_SMOLLM_SIGN = "<jupyter_script>"
"""A token of SmolLM's vocabulary that the other ChatML models lack. Source: tokenizer.json of SmolLM2-135M-Instruct."""


def load_format(name: str | None, tokenizer: Tokenizer) -> PromptFormat:
    """Return a prompt format by its name, or by what the vocabulary tells where there is no name.

    Raises InvalidInput for a name that is not known, and where neither name nor vocabulary tells.
    """
    name = name or _inferred(tokenizer)
    if name not in _FORMATS:
        raise InvalidInput(f"no prompt format named {name}; there are {', '.join(_FORMATS)}", param="prompt_format")
    return _FORMATS[name](tokenizer)


def _inferred(tokenizer: Tokenizer) -> str:
    if tokenizer.id_of(baichuan.USER_TOKEN) == baichuan.USER_ID:
        return "baichuan"
    if tokenizer.id_of(baichuan2.USER_TOKEN) is not None:
        return "baichuan2"
    if tokenizer.id_of(chatml.START_TOKEN) is not None:
        return "chatml"
    raise InvalidInput("the tokenizer does not tell its model's prompt format; name one", param="prompt_format")


def _chatml(tokenizer: Tokenizer) -> PromptFormat:
    is_smollm = tokenizer.id_of(_SMOLLM_SIGN) is not None
    return chatml.ChatMLFormat(tokenizer, default_system=chatml.SMOLLM_SYSTEM if is_smollm else "")


_FORMATS: Mapping[str, Callable[[Tokenizer], PromptFormat]] = {
    "baichuan": baichuan.BaichuanFormat,
    "baichuan2": baichuan2.Baichuan2Format,
    "chatml": _chatml,
}
