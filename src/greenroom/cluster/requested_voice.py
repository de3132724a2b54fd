"""Which model a request is about, and which session: read on the way into a cluster.

Nothing is refused here: what cannot be read goes to any worker, which refuses it in the words of
its protocol.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any
from urllib.parse import unquote

from greenroom.catalog.catalog import Catalog
from greenroom.config.schema import Config
from greenroom.errors import InvalidInputError, ModelNotFoundError
from greenroom.voice import ModelNames
from greenroom.worker.http.voice_names import VoiceNames

_SPEECH = ("/audio/speech", "/dev/captioned_speech", "/synthesize")
"""Ends of the paths whose requests without a name are spoken with the default voice."""


class RequestedVoice:
    """Finds the model that a request means, as the workers of the same configuration would."""

    def __init__(self, config: Config, catalog: Catalog) -> None:
        self._catalog = catalog
        self.default = catalog.get(config.model_manager.default_model_id).model_id
        self._names = VoiceNames(ModelNames(catalog, config.worker.aliases, self.default))

    def of_http(self, method: str, path: str, body: bytes) -> str:
        """Return the model that a request over HTTP is about; empty: none, or one not known."""
        asked = _fields(body) if method == "POST" else {}
        model, voice = _name(asked.get("model")), _name(asked.get("voice"))
        if model and voice:
            with contextlib.suppress(ModelNotFoundError, InvalidInputError):
                return self._names.model_id(model, voice)
        if model or voice:
            return self._of_name(voice or model)
        if method == "POST" and (path == "/" or path.rstrip("/").endswith(_SPEECH)):
            return self.default
        parts = (unquote(part) for part in path.split("/"))
        return next((self._of_name(part) for part in parts if part in self._catalog), "")

    def of_name(self, name: str) -> str:
        """Return the model that a name means; empty is the default, and when it is not known."""
        return self._of_name(name) if name else self.default

    def _of_name(self, name: str) -> str:
        """Return the model that a name means; empty when it is not known: any worker says so.

        Else whoever asks for names that do not exist would have routers expect them everywhere.
        """
        with contextlib.suppress(ModelNotFoundError, InvalidInputError):
            return self._names.models.find(name)
        return ""


def session_key(caller: str, session_id: str) -> str:
    """Return what stands for a caller's session in a cluster: each caller has ids of their own."""
    return blake2b(f"{caller}\0{session_id}".encode("utf-8", "replace"), digest_size=8).hexdigest()


def _fields(body: bytes) -> Mapping[str, Any]:
    with contextlib.suppress(ValueError, RecursionError):
        said = json.loads(body)
        if isinstance(said, dict):
            return said
    return {}


def _name(given: object) -> str:
    """Return a name in a body: a text, or an object with its id, as OpenAI's clients send it."""
    if isinstance(given, dict):
        given = given.get("id")
    return given if isinstance(given, str) else ""
