"""The one door to the console's handlers: nothing behind it runs for anybody but an admin.

Gradio checks nothing about who calls a function of a page, so this does, at every call. The services behind check the
role once more.
"""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

import gradio as gr
import structlog

from app.domain.errors import AccessDenied, ChatError
from app.domain.words import LANGUAGE_COOKIE, Language, describe, preferred_language
from app.services.accounts import require_admin
from ui.admin.call import Call, Reply, Visitor

log = structlog.get_logger()

Answer = Callable[[Visitor, Call], Awaitable[Reply]]
"""A handler: it may raise any ChatError."""
Endpoint = Callable[[Any, gr.Request], Awaitable[dict[str, object]]]
"""A function as Gradio calls it: JSON in, JSON out."""


def for_admins(answer: Answer) -> Endpoint:
    """Return the handler as an endpoint: it checks the account, and turns errors into words, never into a trace."""

    # Not functools.wraps: Gradio looks through it, and would not see that `request` is wanted.
    async def ask(call: Any, request: gr.Request) -> dict[str, object]:
        language = language_of(request)
        try:
            visitor = Visitor(account=require_admin(getattr(request.state, "account", None)), language=language)
            reply = await answer(visitor, Call.parse(call))
        except ChatError as error:
            must_sign_in = isinstance(error, AccessDenied) and error.reason == "sign_in"
            reply = Reply(said=describe(error, language), is_error=True, must_sign_in=must_sign_in)
        except Exception as error:  # noqa: BLE001 - the outermost edge: a fault of ours becomes a sentence
            # The fault's own message may quote what somebody wrote, so only its kind is logged.
            log.error("console_faulted", error=type(error).__name__)  # noqa: TRY400
            reply = Reply(said=describe(ChatError(), language), is_error=True)
        return asdict(reply)

    return ask


def language_of(request: gr.Request) -> Language:
    """Return the reader's language: the cookie that the page's switch sets, else what the browser prefers."""
    return preferred_language(request.cookies.get(LANGUAGE_COOKIE), request.headers.get("accept-language", ""))
