"""`schemathesis`: requests made from the OpenAPI document, valid and invalid ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.started import HERE, started

pytestmark = [pytest.mark.client("schemathesis"), pytest.mark.timeout(300)]

RUN_S = 240.0
KEY = "an-admin-key"
KEYS = f'[{{"key": "{KEY}", "role": "admin"}}]'


@pytest.mark.parametrize(("keys", "examples"), [("", 25), (KEYS, 8)], ids=["open", "keys"])
def test_no_request_breaks_the_worker_and_answers_are_as_documented(
    cache: Path, tmp_path: Path, keys: str, examples: int
) -> None:
    """An event stream has no end, so it is left out.

    `positive_data_acceptance` too: an unknown voice is well-formed and still a 400, as with OpenAI.
    """
    more = {"worker__api_keys": keys} if keys else {}
    with started(cache, model_manager__default_model_id="tone-440", **more) as worker:
        command = [
            str(Path(sys.executable).with_name("schemathesis")),
            "run",
            f"{worker.http}/openapi.json",
            "--exclude-path=/api/events",
            "--exclude-checks=positive_data_acceptance",
            "--continue-on-failure",
            f"--max-examples={examples}",
            "--generation-deterministic",
            "--request-timeout=20",
            "--no-color",
            *([f"--header=Authorization: Bearer {KEY}"] if keys else []),
        ]
        hooks = {"SCHEMATHESIS_HOOKS": "known_names", "PYTHONPATH": str(HERE)}
        run = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, **hooks},
            capture_output=True,
            text=True,
            timeout=RUN_S,
        )
    assert run.returncode == 0, run.stdout[-6_000:] + run.stderr[-2_000:]
