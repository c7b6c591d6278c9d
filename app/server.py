"""The web process: takes the port, wires the application, says where it is, and serves until it is told to stop."""

import errno
import gc
import ipaddress
import signal
import socket
import sys

import structlog
import uvicorn
import uvloop

from app.bootstrap import Haina, build
from app.settings import Settings
from app.web.closing import Closing

log = structlog.get_logger()

_STREAMS_MAY_END_S = 3


class _AddressTaken(Exception):
    pass


def run(settings: Settings) -> int:
    """Serve; return the exit code."""
    try:
        listener = _listen(settings)
    except _AddressTaken as error:
        sys.stderr.write(f"haina: {error}\n")
        return 3
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # it is ignored under nohup, and stays so
        signal.signal(signal.SIGHUP, _terminate)
    with listener:
        try:
            return uvloop.run(_serve(settings, listener))
        except KeyboardInterrupt:  # uvicorn has shut down cleanly and sends itself the signal again
            return 0


def _terminate(*_: object) -> None:
    """Take a closed terminal for what uvicorn knows as the wish to stop."""
    signal.raise_signal(signal.SIGTERM)


class _Server(uvicorn.Server):
    """Tells the application that it goes down before it waits for the open connections."""

    def __init__(self, config: uvicorn.Config, closing: Closing) -> None:
        super().__init__(config)
        self._closing = closing

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._closing.begin()
        await super().shutdown(sockets)


async def _serve(settings: Settings, listener: socket.socket) -> int:
    async with build(settings) as haina:
        config = uvicorn.Config(
            haina.app,
            log_level="warning",
            access_log=False,
            http="httptools",
            timeout_graceful_shutdown=_STREAMS_MAY_END_S,
            server_header=False,
            proxy_headers=bool(settings.server.trusted_proxies),
            forwarded_allow_ips=settings.server.trusted_proxies or "127.0.0.1",
        )
        server = _Server(config, haina.closing)
        _settle_memory()
        await _announce(haina, listener)  # the port is open already: who comes now waits a moment
        await server.serve(sockets=[listener])
        return 0


def _settle_memory() -> None:
    """Leave what was loaded out of garbage collection: it stays, and each full collection would walk through it.

    From here on garbage is collected, however it was while all this was loaded. What is garbage now is kept, for
    finding it would take a tenth of the start.
    """
    gc.freeze()
    gc.enable()


async def _announce(haina: Haina, listener: socket.socket) -> None:
    """Print the address, and the one-time link while there is no admin."""
    host, port = listener.getsockname()[:2]
    address = ipaddress.ip_address(host)
    shown = "localhost" if address.is_loopback or address.is_unspecified else host
    base = haina.settings.server.public_url.rstrip("/") or f"http://{shown}:{port}"
    lines = [f"Haina is at {base}/"]
    if token := await haina.services.accounts.setup_token():
        lines.append(f"Set up the admin, once: {base}/setup?token={token}")
    lines.append("Ctrl-C stops it.")
    print("\n" + "\n".join(lines) + "\n", flush=True)  # noqa: T201 - for the person at the terminal, not for the log


def _listen(settings: Settings) -> socket.socket:
    """Take the port before anything slow is done.

    Raises _AddressTaken with one clear line.
    """
    host, port = settings.server.host, settings.server.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            reason = f"port {port} is in use; choose another with --port or HAINA_SERVER__PORT"
        else:
            reason = f"cannot listen on {host}:{port}: {error.strerror}"
        raise _AddressTaken(reason) from error
    except OverflowError as error:
        listener.close()
        raise _AddressTaken(f"{port} is not a port") from error
    return listener
