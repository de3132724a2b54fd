"""The generated stubs: what they need, and that they are the contract's."""

from __future__ import annotations

import re
from pathlib import Path

from greenroom import v1
from greenroom.v1 import tts_pb2

STUBS = Path(v1.__file__).parent


def test_they_were_generated_by_protobuf_6_and_so_import_under_6_and_7() -> None:
    source = (STUBS / "tts_pb2.py").read_text()
    found = re.search(r"ValidateProtobufRuntimeVersion\(\s*\S+,\s*(\d+),", source)
    assert found is not None
    assert int(found[1]) == 6


def test_they_need_no_newer_grpc_than_the_project_asks_for() -> None:
    source = (STUBS / "tts_pb2_grpc.py").read_text()
    project = (STUBS.parents[2] / "pyproject.toml").read_text()
    made_by = re.search(r"GRPC_GENERATED_VERSION = '(\d+)\.(\d+)", source)
    asked_for = re.search(r'"grpcio>=(\d+)\.(\d+)', project)
    assert made_by is not None
    assert asked_for is not None
    assert tuple(map(int, made_by.groups())) <= tuple(map(int, asked_for.groups()))


def test_the_service_has_the_calls_of_the_contract_and_those_that_came_later() -> None:
    service = tts_pb2.DESCRIPTOR.services_by_name["TTSService"]
    assert [method.name for method in service.methods] == [
        "StartSession",
        "Synthesize",
        "Control",
        "EndSession",
        "ListModels",
        "LoadModel",
        "UnloadModel",
        "GetCapabilities",
        "Prefetch",
        "GetReport",
    ]


def test_the_commands_have_the_numbers_of_the_contract() -> None:
    assert dict(tts_pb2.ControlCommand.items()) == {"PAUSE": 0, "RESUME": 1, "STOP": 2, "RELOAD": 3}
