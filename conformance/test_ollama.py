"""`ollama`'s client: what is in memory, load and unload by `keep_alive`."""

from __future__ import annotations

import ollama
import pytest

from conformance.started import Started

pytestmark = pytest.mark.client("ollama")


def test_models_are_listed_and_loaded_and_kept_and_unloaded(worker: Started) -> None:
    client = ollama.Client(host=worker.http)
    assert "tone-330" in {model.model for model in client.list().models}
    client.generate("tone-330", keep_alive="5m")
    (found,) = [model for model in client.ps().models if model.model == "tone-330"]
    assert found.expires_at is not None
    client.generate("tone-330", keep_alive=0)
    assert "tone-330" not in {model.model for model in client.ps().models}


def test_an_unknown_model_is_a_response_error(worker: Started) -> None:
    with pytest.raises(ollama.ResponseError, match="catalog") as missing:
        ollama.Client(host=worker.http).generate("llama3")
    assert missing.value.status_code == 404
