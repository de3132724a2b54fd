"""What answers in a cluster's place is believed only as far as it can be read."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from greenroom.cli import main
from greenroom.cli.workers_table import reports_of_cluster


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """Answer every request so, and give the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


ANSWERS: tuple[tuple[int, object], ...] = (
    (200, []),
    (200, {}),
    (200, 7),
    (200, None),
    (200, {"replicas": 3, "silent": 0}),
    (200, {"replicas": [{}], "silent": 0}),
    (200, {"replicas": [], "silent": "many"}),
    (200, {"replicas": [], "silent": None}),
    (500, []),
    (500, {"error": "gone"}),
    (500, {"error": {"message": ["\x1b[2J"]}}),
)


@pytest.mark.parametrize(("status", "body"), ANSWERS)
def test_what_is_no_cluster_is_an_error_of_one_line(
    status: int, body: object, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(status, json.dumps(body).encode()) as url:
        assert main(["ps", "--cluster", url]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") <= 2  # a narrow terminal breaks it
    assert "\x1b" not in said


def test_a_refusal_is_told_in_the_clusters_words(capsys: pytest.CaptureFixture[str]) -> None:
    refusal = {"error": {"message": "this needs a key"}}
    with answering(401, json.dumps(refusal).encode()) as url:
        assert main(["ps", "--cluster", url]) == 1
    assert "this needs a key" in capsys.readouterr().err


def test_a_worker_next_door_is_asked_past_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with answering(200, b'{"replicas": [], "silent": 2}') as url:
        assert reports_of_cluster(url, None) == [("?", "does not answer")] * 2
