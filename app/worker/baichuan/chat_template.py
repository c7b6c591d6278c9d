"""The official prompts as chat templates, for programs that read `tokenizer_config.json`.

They give the ids that `prompts/formats` gives for the same messages (`test_worker_chat_template.py`), with two limits.
A template cannot cut a conversation that is too long. And it cannot keep text from being read as a sign:
`<reserved_107>` in a message becomes the assistant's token. Only our own builder sees to that.
"""

from collections.abc import Mapping

_TEMPLATE = """\
{%- for message in messages -%}
{%- set text = PREFIX -%}
{%- if message['role'] == 'system' -%}
{%- if not loop.first -%}{{ raise_exception('a system message must come first') }}{%- endif -%}
{{ text }}
{%- elif message['role'] == 'user' -%}
{{ 'USER' + text }}
{%- elif message['role'] == 'assistant' -%}
{{ 'ASSISTANT' + text }}END
{%- else -%}
{{ raise_exception('no place for the role ' + message['role']) }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt and messages[-1]['role'] != 'assistant' -%}{{ 'ASSISTANT' }}{%- endif -%}
"""
"""A last message of the assistant stays open, as in the official code: the model goes on with it."""


def _filled(**words: str) -> str:
    """Put words into the template; its own white space counts for nothing."""
    text = "".join(_TEMPLATE.splitlines())
    for name, word in words.items():
        text = text.replace(name, word)
    return text


TEMPLATES: Mapping[str, str] = {
    "baichuan2": _filled(PREFIX="message['content']", USER="<reserved_106>", ASSISTANT="<reserved_107>", END=""),
    # The tokenizer puts a space before a text; inside a prompt, where it does not know of texts, it has to be written.
    "baichuan": _filled(
        PREFIX="(' ' if message['content'] else '') + message['content']",
        USER="<reserved_102>",
        ASSISTANT="<reserved_103>",
        END="{%- if not loop.last -%}</s>{%- endif -%}",
    ),
}
"""By the prompt format's name."""
