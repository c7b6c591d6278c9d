"""The prompt of Baichuan-13B-Chat, the first generation.

    195 question | 196 answer </s> | 195 question | 196

The ids are Baichuan2's, the names of the tokens are not; and an answer has an end mark. The official function refuses a
system message; here it stands bare at the beginning, as Baichuan2 has it. What this builder does otherwise than the
official one (no cut inside a question, the last 196 counted) is as in `baichuan2`.

Source: `_build_chat_input` in modeling_baichuan.py of baichuan-inc/Baichuan-13B-Chat.
"""

from prompts.formats.baichuan2 import Baichuan2Format

USER_TOKEN = "<reserved_102>"  # noqa: S105 - a token of a vocabulary
ASSISTANT_TOKEN = "<reserved_103>"  # noqa: S105 - as above
USER_ID = 195
"""Where the first generation has its user token. Baichuan2 has a token of that name too, at 191, without a meaning."""


class BaichuanFormat(Baichuan2Format):
    """Builds prompts for the first generation."""

    name = "baichuan"
    user_token = USER_TOKEN
    assistant_token = ASSISTANT_TOKEN
    ends_answers = True
