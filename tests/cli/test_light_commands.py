"""A command imports what it needs: who asks a worker does not wait for what serves one."""

from __future__ import annotations

import subprocess
import sys

import pytest

RUN = """
import sys

from greenroom.cli import main

main(sys.argv[1:])
print(*sys.modules, file=sys.stderr)
"""

ENGINES = {"onnx", "onnxruntime", "piper", "openvino"}
SERVING = {"fastapi", "starlette", "uvicorn", "prometheus_client", "opentelemetry", "av"}
SCREENS = {"textual", "markdown_it", "httpx"}
OF_MANAGERS = {"greenroom.model_manager", "greenroom.hosts", "greenroom.catalog.catalog"}
LIBRARIES = {"grpc", "numpy", "pydantic", "soxr", "rapidfuzz", "psutil", "yaml", "asyncio"}


def imported(*arguments: str) -> set[str]:
    """Return the modules that a command has imported at its end."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return set(done.stderr.splitlines()[-1].split())


def test_to_find_a_command_none_is_imported() -> None:
    found = imported("--version")
    assert "greenroom.cli.app" in found
    assert not found & (ENGINES | SERVING | SCREENS | OF_MANAGERS | LIBRARIES)
    assert not found & {"greenroom.cli.ls", "greenroom.cli.serve", "greenroom.config.schema"}


@pytest.mark.parametrize("command", ["ps", "top --once"])
def test_what_asks_a_worker_imports_nothing_that_serves_speaks_or_draws(command: str) -> None:
    found = imported(*command.split(), "--address", "127.0.0.1:9")
    assert "grpc" in found
    assert not found & (ENGINES | SERVING | SCREENS | OF_MANAGERS)


def test_what_looks_at_models_imports_nothing_that_serves_or_speaks() -> None:
    found = imported("ls")
    assert "greenroom.catalog.catalog" in found
    assert not found & (ENGINES | SERVING | SCREENS | {"grpc", "greenroom.model_manager"})


def test_a_worker_imports_no_engine_and_no_other_command() -> None:
    found = imported("serve", "--set", "worker.no_such_key=1")
    assert {"greenroom.worker.app", "fastapi"} <= found
    assert not found & (ENGINES | {"textual", "httpx", "greenroom.cli.say", "greenroom.simulation"})
