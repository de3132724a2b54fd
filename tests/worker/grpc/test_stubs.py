"""The generated stubs: what they need, and that they are the contract's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from greenroom import v1
from greenroom.v1 import tts_pb2
from greenroom.worker.grpc import riva_protos
from greenroom.worker.grpc.riva_protos import own_pool, riva_common_pb2, riva_tts_pb2

STUBS = Path(v1.__file__).parent
RIVAS = Path(riva_protos.__file__).parent


@pytest.mark.parametrize(
    "path", [STUBS / "tts_pb2.py", RIVAS / "riva_common_pb2.py", RIVAS / "riva_tts_pb2.py"]
)
def test_they_were_generated_by_protobuf_6_and_so_import_under_6_and_7(path: Path) -> None:
    source = path.read_text()
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
        "GetFigures",
    ]


def test_the_commands_have_the_numbers_of_the_contract() -> None:
    assert dict(tts_pb2.ControlCommand.items()) == {"PAUSE": 0, "RESUME": 1, "STOP": 2, "RELOAD": 3}


def test_rivas_messages_have_its_numbers_and_a_pool_of_their_own() -> None:
    assert riva_tts_pb2.DESCRIPTOR.pool is own_pool.POOL
    assert dict(riva_common_pb2.AudioEncoding.items()) == {
        "ENCODING_UNSPECIFIED": 0,
        "LINEAR_PCM": 1,
        "FLAC": 2,
        "MULAW": 3,
        "OGGOPUS": 4,
        "ALAW": 20,
    }
    assert {f.name: f.number for f in riva_tts_pb2.SynthesizeSpeechRequest.DESCRIPTOR.fields} == {
        "text": 1,
        "language_code": 2,
        "encoding": 3,
        "sample_rate_hz": 4,
        "voice_name": 5,
        "zero_shot_data": 6,
        "custom_dictionary": 7,
        "custom_configuration": 8,
        "enable_word_time_offsets": 9,
        "id": 100,
    }
