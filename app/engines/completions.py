"""An engine that takes token ids: our worker, vLLM, SGLang – whatever speaks `/v1/completions`."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.domain.errors import EngineRefused, InvalidInput
from app.domain.generation import Delta, EngineStatus, Finish, GenerationRequest, ModelProfile
from app.domain.ports import PromptFormat
from app.engines.answer_stream import read_answer
from app.engines.sampling_fields import sampling_fields
from app.engines.sse_client import SseClient
from app.engines.status_probe import StatusProbe

PromptFormats = Callable[[str | None, str], PromptFormat]
"""Takes a format's name (None: find out) and the text of a `tokenizer.json`; raises InvalidInput where they do not fit.

It runs in a thread: building a tokenizer takes a good part of a second.
"""

_Key = tuple[str, str, str | None]

_TOKENIZER_TIMEOUT_S = 30.0
_OK = 200


class CompletionsEngine:
    """A client of `/v1/completions`; prompts go as ids, so no engine can build another prompt than we did."""

    def __init__(
        self,
        url: str,
        *,
        formats: PromptFormats,
        api_key: str = "",
        model: str = "default",
        timeout_s: float = 60.0,
        slots: int = 0,
        tokenizer_path: Path | None = None,
        is_local: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`tokenizer_path` is a `tokenizer.json` or its folder, for an engine that does not hand out its own.

        `is_local`: it is the worker that we started, so nobody listening means that it is not up yet.
        """
        self._client = SseClient(url, api_key=api_key, timeout_s=timeout_s, is_local=is_local)
        self._probe = StatusProbe(self._client, model=model, slots=slots, clock=clock)
        self._formats = formats
        self._tokenizer_path = tokenizer_path
        self._building = asyncio.Lock()
        self._built: tuple[_Key, PromptFormat] | None = None

    async def status(self) -> EngineStatus:
        """Return the present state, not older than a second."""
        status = await self._probe.status()
        profile = status.profile
        if profile is None or profile.prompt_format is not None:
            return status
        built = self._built_for(profile)  # the card did not say which format it is, but the tokenizer did
        return status if built is None else replace(status, profile=replace(profile, prompt_format=built.name))

    async def prompt_format(self) -> PromptFormat:
        """Return the default model's format, built once for each model and revision."""
        profile = await self._probe.profile()
        async with self._building:
            built = self._built_for(profile)
            if built is None:
                tokenizer = await self._tokenizer()
                built = await asyncio.to_thread(self._formats, profile.prompt_format, tokenizer)
                self._built = _key(profile), built
            return built

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Delta | Finish, None]:
        """Yield deltas, then one Finish. Raises InvalidInput where there are no ids; see the port for the rest."""
        if not request.prompt_ids:
            raise InvalidInput("this engine takes token ids", param="prompt")
        payload = await self._payload(request)
        events = self._client.events("completions", payload, request_id=request.id)
        async with aclosing(read_answer(events, text_of=_text_of)) as answer:
            async for item in answer:
                yield item

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def _payload(self, request: GenerationRequest) -> dict[str, object]:
        return {
            "model": await self._probe.model_name(request.model),
            "prompt": request.prompt_ids,
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            **sampling_fields(request),
            # vLLM shares cached prefixes between requests of the same salt only: nobody can time another's prompts.
            "cache_salt": request.owner,
        }

    def _built_for(self, profile: ModelProfile) -> PromptFormat | None:
        return self._built[1] if self._built is not None and self._built[0] == _key(profile) else None

    async def _tokenizer(self) -> str:
        if self._tokenizer_path is not None:
            return await asyncio.to_thread(_read_tokenizer, self._tokenizer_path)
        reply = await self._client.get("tokenizer.json", timeout_s=_TOKENIZER_TIMEOUT_S, is_at_root=True)
        if reply.status != _OK:
            raise EngineRefused(
                "the engine hands out no tokenizer.json; name a local one in HAINA_MODEL__TOKENIZER",
                engine_status=reply.status,
            )
        try:
            return reply.body.decode()
        except UnicodeDecodeError as error:
            raise EngineRefused("the engine's tokenizer.json is not text", engine_status=_OK) from error


def _key(profile: ModelProfile) -> _Key:
    return profile.id, profile.revision, profile.prompt_format


def _read_tokenizer(path: Path) -> str:
    file = path / "tokenizer.json" if path.is_dir() else path
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EngineRefused("the tokenizer that HAINA_MODEL__TOKENIZER names cannot be read") from error


def _text_of(choice: dict[str, Any]) -> object:
    return choice.get("text")
