"""The messages of `inference.GRPCInferenceService` that Greenroom answers, by their wire numbers.

They live in a descriptor pool of their own: in one process with Triton's or KServe's client, which
brings messages of the same names, generated ones would collide. A field is written as the name of
its type, `[]` before it for a repeated one; fields are numbered from 1.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

PACKAGE = "inference"
_SERVICE_NAME = "GRPCInferenceService"
SERVICE = f"{PACKAGE}.{_SERVICE_NAME}"
CALLS = (
    "ServerLive",
    "ServerReady",
    "ModelReady",
    "ServerMetadata",
    "ModelMetadata",
    "RepositoryIndex",
    "RepositoryModelLoad",
    "RepositoryModelUnload",
)
"""Each takes the message of its name with `Request` behind it, and returns the `Response`."""

_FILE_NAME = "greenroom/inference.proto"

_FIELDS: dict[str, dict[str, str]] = {
    "ServerLiveRequest": {},
    "ServerLiveResponse": {"live": "bool"},
    "ServerReadyRequest": {},
    "ServerReadyResponse": {"ready": "bool"},
    "ModelReadyRequest": {"name": "string", "version": "string"},
    "ModelReadyResponse": {"ready": "bool"},
    "ServerMetadataRequest": {},
    "ServerMetadataResponse": {"name": "string", "version": "string", "extensions": "[]string"},
    "ModelMetadataRequest": {"name": "string", "version": "string"},
    "ModelMetadataResponse": {"name": "string", "versions": "[]string", "platform": "string"},
    "RepositoryIndexRequest": {"repository_name": "string", "ready": "bool"},
    "ModelIndex": {
        "name": "string",
        "version": "string",
        "state": "string",
        "reason": "string",
    },
    "RepositoryIndexResponse": {"models": "[]ModelIndex"},
    "RepositoryModelLoadRequest": {
        "repository_name": "string",
        "model_name": "string",
        "parameters": "[]bytes",
    },
    "RepositoryModelLoadResponse": {},
    "RepositoryModelUnloadRequest": {
        "repository_name": "string",
        "model_name": "string",
        "parameters": "[]bytes",
    },
    "RepositoryModelUnloadResponse": {},
}
"""`parameters` is a map whose entries nobody here reads: it only matters whether there are any."""

_Kind = descriptor_pb2.FieldDescriptorProto
_KINDS = {"bool": _Kind.TYPE_BOOL, "string": _Kind.TYPE_STRING, "bytes": _Kind.TYPE_BYTES}


def _pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(name=_FILE_NAME, package=PACKAGE, syntax="proto3")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for number, (field, written) in enumerate(fields.items(), 1):
            kind = written.removeprefix("[]")
            made = message.field.add(name=field, number=number)
            made.label = _Kind.LABEL_REPEATED if kind != written else _Kind.LABEL_OPTIONAL
            made.type = _KINDS.get(kind, _Kind.TYPE_MESSAGE)
            if kind not in _KINDS:
                made.type_name = f".{PACKAGE}.{kind}"
    service = file.service.add(name=_SERVICE_NAME)
    for call in CALLS:
        service.method.add(
            name=call,
            input_type=f".{PACKAGE}.{call}Request",
            output_type=f".{PACKAGE}.{call}Response",
        )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool


_POOL = _pool()
DESCRIPTOR: Any = _POOL.FindFileByName(_FILE_NAME)
"""The file that the messages and the service would be in."""


def message(name: str) -> type[Message]:
    """Return the class of a message."""
    descriptor: Any = _POOL.FindMessageTypeByName(f"{PACKAGE}.{name}")
    return message_factory.GetMessageClass(descriptor)
