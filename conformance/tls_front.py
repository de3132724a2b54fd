"""What ends TLS before a worker, as a proxy does: for clients that speak it unless told not to."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import trustme

AUTHORITY = trustme.CA()


def trust(folder: Path) -> None:
    """Have gRPC in this process, which has made no channel yet, trust the certificates of here."""
    path = folder / "authority.pem"
    AUTHORITY.cert_pem.write_to_path(str(path))
    os.environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] = str(path)


@contextlib.contextmanager
def front_of(target: str) -> Iterator[str]:
    """Pass on what comes by TLS to `target`, and yield the address; in a thread of its own.

    Clients call the worker from the thread of their event loop, and wait.
    """
    address: Future[str] = Future()
    loop = asyncio.new_event_loop()
    serving = loop.create_task(_serve(target, address))
    thread = threading.Thread(target=_run, args=(loop, serving), daemon=True)
    thread.start()
    try:
        yield address.result(timeout=10)
    finally:
        loop.call_soon_threadsafe(serving.cancel)
        thread.join(timeout=10)


def _run(loop: asyncio.AbstractEventLoop, serving: asyncio.Task[None]) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        loop.run_until_complete(serving)
    loop.run_until_complete(_end_connections())
    loop.close()


async def _end_connections() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for connection in left:
        connection.cancel()
    await asyncio.gather(*left, return_exceptions=True)


async def _serve(target: str, address: Future[str]) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    AUTHORITY.issue_cert("localhost").configure_cert(context)
    context.set_alpn_protocols(["h2"])
    host, _, port = target.rpartition(":")

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, to_behind = await asyncio.open_connection(host, int(port))
        await asyncio.gather(_copy(reader, to_behind), _copy(behind, writer))

    server = await asyncio.start_server(pass_on, "127.0.0.1", 0, ssl=context)
    address.set_result(f"localhost:{server.sockets[0].getsockname()[1]}")
    await server.serve_forever()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()
