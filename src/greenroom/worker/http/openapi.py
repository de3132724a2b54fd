"""What `/openapi.json` says: bodies that routes read themselves, errors, and who needs a key."""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

_REF = "#/components/schemas/{model}"
_ONE_LINE = {"type": "string"}

NOT_BLANK: dict[str, Any] = {"pattern": r"\S"}
"""Said in the document; what is refused is decided by `Synthesis.text`."""

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": _ONE_LINE,
                "type": _ONE_LINE,
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
EVENTS = {"schema": {"type": "object", "properties": {"data": {"type": "string"}}}}
"""Server-sent events, each an object with its fields; `data` is JSON."""

_PLAIN_ERROR = {"type": "object", "required": ["error"], "properties": {"error": _ONE_LINE}}


def _refusals(schema: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    content = {"application/json": {"schema": schema}}
    return {
        "4XX": {"description": "The request cannot be fulfilled as it is.", "content": content},
        "5XX": {"description": "The worker cannot fulfil it now.", "content": content},
    }


REFUSALS = _refusals(_ERROR)
"""The errors of a route, in OpenAI's shape."""

PLAIN_REFUSALS = _refusals({"anyOf": [_PLAIN_ERROR, _ERROR]})
"""The errors of Triton's and KServe's routes; what the whole application refuses has the other."""


def reads(model: type[BaseModel]) -> dict[str, Any]:
    """Return the `openapi_extra` of a route that reads a `model` from the request itself."""
    schema = {"$ref": _REF.format(model=model.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def queries(
    model: type[BaseModel], *, optional: Collection[str], left_out: Collection[str]
) -> dict[str, Any]:
    """Return the `openapi_extra` of a route that reads a `model` from its query parameters.

    Those that are `optional` are text here, whatever else they may be in a body; those `left_out`
    no text can say.
    """
    schema = _schema_of(model)
    parameters = [
        {
            "name": name,
            "in": "query",
            "required": name in schema["required"] and name not in optional,
            "schema": _ONE_LINE if name in optional else each,
        }
        for name, each in schema["properties"].items()
        if name not in left_out
    ]
    return {"parameters": parameters}


@functools.cache
def _schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the schema of a model, not to be changed: each application asks for the same ones."""
    return model.model_json_schema(ref_template=_REF)


def describe(
    app: FastAPI, bodies: list[type[BaseModel]], *, has_keys: bool, public_tags: frozenset[str]
) -> None:
    """Complete the document of `app`.

    `bodies` are the models that `reads` was asked for. Without keys no route needs one, and with
    keys those with one of `public_tags` may be called without.
    """
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        document = made()  # which keeps it as `app.openapi_schema`
        _add_bodies(document, bodies)
        _set_security(document, has_keys=has_keys, public_tags=public_tags)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _add_bodies(document: dict[str, Any], bodies: list[type[BaseModel]]) -> None:
    _, found = models_json_schema([(kind, "validation") for kind in bodies], ref_template=_REF)
    document.setdefault("components", {}).setdefault("schemas", {}).update(found["$defs"])


def _set_security(document: dict[str, Any], *, has_keys: bool, public_tags: frozenset[str]) -> None:
    if not has_keys:
        document["components"].pop("securitySchemes", None)
    for path in document["paths"].values():
        for operation in path.values():
            if not has_keys:
                operation.pop("security", None)
            elif public_tags.intersection(operation.get("tags", ())):
                operation["security"] = [{}, *operation.get("security", [])]
