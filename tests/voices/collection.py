"""A collection of voices as Piper's project keeps it, and a server of it that misbehaves on demand.

A fault answers one request in the place of the server; those of a path are used up one by one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from greenroom.voices.partial_file import Patience

KEYS = ("en_US-amy-low", "de_DE-thorsten-medium", "pt_PT-tugão-medium")
LANGUAGES = {
    "en_US": ("English", "English", "United States"),
    "de_DE": ("Deutsch", "German", "Germany"),
    "pt_PT": ("Português", "Portuguese", "Portugal"),
}
MODEL_BYTES = 300_000
CARD = "# Model card\n\n* Speakers: 1\n\n## Dataset\n\n* URL: there\n* License: CC0 (of {key})\n"

QUICK = Patience(tries=3, pause_s=0.001, window_s=5.0)


def path_of(key: str, name: str) -> str:
    code, speaker, quality = key.split("-")
    return f"{code[:2]}/{code}/{speaker}/{quality}/{name}"


def files_of(key: str) -> dict[str, bytes]:
    """Return the files of one voice, by their paths below the index."""
    model = random.Random(key).randbytes(MODEL_BYTES)
    settings = json.dumps({"audio": {"sample_rate": 22050}, "key": key}).encode()
    card = CARD.format(key=key).encode()
    names = {f"{key}.onnx": model, f"{key}.onnx.json": settings, "MODEL_CARD": card}
    return {path_of(key, name): content for name, content in names.items()}


def entry_of(key: str, files: dict[str, bytes]) -> dict[str, Any]:
    """Return what `voices.json` says of one voice."""
    code, speaker, quality = key.split("-")
    native, english, country = LANGUAGES[code]
    names = {"name_native": native, "name_english": english, "country_english": country}
    return {
        "key": key,
        "name": speaker,
        "language": {"code": code, "family": code[:2], "region": code[3:], **names},
        "quality": quality,
        "num_speakers": 1,
        "speaker_id_map": {},
        "files": {
            path: {"size_bytes": len(content), "md5_digest": hashlib.md5(content).hexdigest()}
            for path, content in files.items()
        },
        "aliases": [f"{code[:2]}-{speaker}-{quality}"],
    }


@dataclass
class Collection:
    """Files by path; the index is made of them."""

    files: dict[str, bytes] = field(default_factory=dict)
    index: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, *keys: str) -> Collection:
        made = cls()
        for key in keys or KEYS:
            files = files_of(key)
            made.files |= files
            made.index[key] = entry_of(key, files)
        return made

    @property
    def content(self) -> dict[str, bytes]:
        return {"voices.json": json.dumps(self.index).encode(), **self.files}


Fault = Callable[["Handler", bytes], None]


class Server(ThreadingHTTPServer):
    """Serves a collection below `/v/`, with ranges and entity tags, and records what was asked."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, collection: Collection) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.collection = collection
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.always: dict[str, Fault] = {}
        self.asked: list[tuple[str, str | None, str | None]] = []
        """Path, `Range` and `If-Range` of each request."""
        self.sent = 0
        self.released = threading.Event()
        self.stalled = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients leave in the middle here."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.removeprefix("/v/")
        from urllib.parse import unquote

        path = unquote(path)
        asked = (path, self.headers.get("Range"), self.headers.get("If-Range"))
        self.server.asked.append(asked)
        content = self.server.collection.content.get(path)
        faults = self.server.faults[path]
        fault = faults.pop(0) if faults else self.server.always.get(path)
        if fault is not None:
            fault(self, content or b"")
        elif content is None:
            self.send_error(404)
        else:
            self.serve(content)

    def serve(self, content: bytes, *, cut: int | None = None) -> None:
        """Answer as a good server does; with `cut` break off after so many bytes."""
        tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        wanted = self.headers.get("Range")
        first = 0
        if wanted is not None and self.headers.get("If-Range") in (None, tag):
            first = int(wanted.removeprefix("bytes=").rstrip("-"))
        body = content[first:]
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", tag)
        self.send_header("Content-Length", f"{len(body)}")
        self.end_headers()
        self.send(body if cut is None else body[:cut])
        if cut is not None:
            self.close_connection = True

    def send(self, body: bytes) -> None:
        self.wfile.write(body)
        self.server.sent += len(body)

    def log_message(self, *args: Any) -> None: ...


def cut(after: int) -> Fault:
    """Break off after so many bytes."""
    return lambda handler, content: handler.serve(content, cut=after)


def stall(after: int) -> Fault:
    """Say nothing more after so many bytes, until the test ends."""

    def fault(handler: Handler, content: bytes) -> None:
        handler.serve(content, cut=after)
        handler.server.stalled.set()
        handler.server.released.wait(30)

    return fault


def whole(body: bytes, status: int = 200, **headers: str) -> Fault:
    """Answer with this body, whatever was asked."""

    def fault(handler: Handler, content: bytes) -> None:
        handler.send_response(status)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in {"Content-Length": f"{len(body)}", **named}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.send(body)

    return fault


def status(code: int, **headers: str) -> Fault:
    """Answer with a status and nothing else."""
    return whole(b"", code, **headers)


def endless(handler: Handler, content: bytes) -> None:
    """Send a gigabyte without saying how much there is."""
    handler.send_response(200)
    handler.end_headers()
    handler.close_connection = True
    with contextlib.suppress(OSError):
        for _ in range(1024):
            handler.send(b" " * 1024**2)


@contextlib.contextmanager
def serving(collection: Collection) -> Iterator[Server]:
    """Serve a collection on this machine during the block."""
    server = Server(collection)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join(30)
