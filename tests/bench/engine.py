"""The scripted engine's HTTP server, which also remembers when it began which question: so every token has a due time.

    python -m tests.bench.engine script.toml

It prints its address; when its input ends it prints the beginnings as JSON, question by question, and ends.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator
from time import monotonic

import orjson
import uvloop

from app.domain.generation import Delta, Finish, GenerationRequest
from app.engines.script_file import load_script
from app.engines.scripted import Script, ScriptedEngine
from app.engines.scripted_server import serve_scripted


class RememberingEngine(ScriptedEngine):
    """A scripted engine that remembers the moment of each question's first work."""

    def __init__(self, script: Script) -> None:
        super().__init__(script)
        self.began: dict[str, float] = {}

    def generate(self, request: GenerationRequest) -> AsyncGenerator[Delta | Finish, None]:
        """Answer as the script says."""
        self.began[request.messages[-1].text] = monotonic()
        return super().generate(request)


async def _serve(script: str) -> None:
    engine = RememberingEngine(load_script(f"scripted:{script}"))
    async with serve_scripted(engine) as address:
        print(address.removesuffix("/v1"), flush=True)
        await asyncio.to_thread(sys.stdin.read)
    print(orjson.dumps(engine.began).decode(), flush=True)


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1]))
