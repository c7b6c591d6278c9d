"""The least that a web process could do: hand every piece on as it comes. What Haina costs is compared with it.

    python -m tests.bench.passthrough http://127.0.0.1:8001 asyncio

aiohttp alone runs on asyncio's own loop; on uvloop, as Haina does, it costs about half.
"""

import asyncio
import sys

import uvloop
from aiohttp import ClientSession, ClientTimeout, TCPConnector, web


async def _serve(engine: str) -> None:
    async with ClientSession(connector=TCPConnector(limit=0), timeout=ClientTimeout(total=None)) as session:

        async def hand_on(request: web.Request) -> web.StreamResponse:
            async with session.post(engine + request.path, data=await request.read()) as answer:
                response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
                await response.prepare(request)
                async for piece in answer.content.iter_any():
                    await response.write(piece)
                await response.write_eof()
                return response

        app = web.Application()
        app.router.add_post("/{path:.*}", hand_on)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=2048).start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    run = {"asyncio": asyncio.run, "uvloop": uvloop.run}[sys.argv[2]]
    run(_serve(sys.argv[1]))
