"""From Greenroom's values to the messages of `tts.proto`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from google.protobuf import json_format

from greenroom.audio.frames import FRAME_MS, AudioFrame, WordTime
from greenroom.concurrency.in_steps import in_steps
from greenroom.statistics import (
    ProcessMemoryStatistics,
    ProcessStatistics,
    ResidentStatistics,
    SharedMemoryStatistics,
)
from greenroom.v1 import tts_pb2
from greenroom.worker.figures import WorkerFigures, read_figures, written_figures
from greenroom.worker.report import WorkerReport, read_report, written_report

if TYPE_CHECKING:
    from greenroom.adapter import ModelSpec
    from greenroom.model_manager import ModelManager


def frame_message(
    frame: AudioFrame | None, session_id: str, sample_rate: int, number: int, *, final: bool
) -> tts_pb2.AudioFrame:
    """Return the message of a frame, or of the empty one that ends a stopped stream."""
    words = None if frame is None or frame.words is None else word_times_message(frame.words)
    return tts_pb2.AudioFrame(
        session_id=session_id,
        audio_data=b"" if frame is None else frame.pcm,
        sample_rate=sample_rate,
        frame_duration_ms=FRAME_MS,
        sequence_number=number,
        is_final=final,
        word_times=words,
    )


def word_times_message(words: Iterable[WordTime]) -> tts_pb2.WordTimes:
    """Return the message of the words of a frame."""
    return tts_pb2.WordTimes(
        words=[
            tts_pb2.WordTime(text=word.text, start_s=word.start_s, end_s=word.end_s)
            for word in words
        ]
    )


def report_message(report: WorkerReport) -> tts_pb2.WorkerReport:
    """Return the message of a report: its fields are named as those of its JSON."""
    message: tts_pb2.WorkerReport = json_format.ParseDict(
        written_report(report), tts_pb2.WorkerReport()
    )
    return message


def report_in(message: tts_pb2.WorkerReport) -> WorkerReport:
    """Return the report that a worker sent, checked; raises `InvalidInputError`.

    Fields of later versions are ignored.
    """
    given = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    given.setdefault("room_in_s", None)
    return read_report(given)


def figures_message(
    figures: WorkerFigures, residents: Iterable[ResidentStatistics]
) -> tts_pb2.GetFiguresResponse:
    """Return the message of figures, and of the models that are in memory."""
    written = written_figures(figures)
    return tts_pb2.GetFiguresResponse(
        figures=json_format.ParseDict(written, tts_pb2.WorkerFigures()),
        models=[
            tts_pb2.Model(model_id=each.model_id, resident=_resident(each)) for each in residents
        ],
    )


def figures_in(message: tts_pb2.WorkerFigures) -> WorkerFigures:
    """Return the figures that a worker sent, checked; raises `InvalidInputError`.

    Fields of later versions are ignored.
    """
    return read_figures(
        json_format.MessageToDict(
            message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
    )


async def models_message(manager: ModelManager, model_id: str = "") -> tts_pb2.ListModelsResponse:
    """Return the catalog with what is in memory, or one model with an explanation.

    Raises `ModelNotFoundError`.
    """
    totals = manager.statistics()
    residents = {resident.model_id: resident for resident in totals.residents}
    answer = tts_pb2.ListModelsResponse(
        resident_cap=totals.resident_cap,
        footprint_mb=totals.footprint_mb,
        budget_mb=sum(totals.budget_mb.values()),
        capacity_used=totals.capacity_used,
        streams_waiting=totals.streams_waiting,
        idle_processes=[_process(each) for each in totals.processes if each.idle],
        shared=map(_shared_memory, totals.shared),
        memory=None if totals.process_memory is None else _memory(totals.process_memory),
    )
    default = manager.catalog.get(manager.settings.default_model_id).model_id
    specs = [manager.catalog.get(model_id)] if model_id else manager.list_catalog()
    async for spec in in_steps(specs):
        answer.models.append(_model(spec, residents, is_default=spec.model_id == default))
    if model_id:
        answer.models[0].explanation = str(manager.explain(model_id))
    return answer


def _shared_memory(part: SharedMemoryStatistics) -> tts_pb2.SharedMemory:
    return tts_pb2.SharedMemory(
        name=part.name, size_mb=part.size_mb, device=part.device, model_ids=part.model_ids
    )


def _memory(memory: ProcessMemoryStatistics) -> tts_pb2.ProcessMemory:
    return tts_pb2.ProcessMemory(
        anonymous_mb=memory.anonymous_mb,
        mapped_mb=memory.mapped_mb,
        proportional_mb=memory.proportional_mb,
    )


def _model(
    spec: ModelSpec, residents: Mapping[str, ResidentStatistics], *, is_default: bool
) -> tts_pb2.Model:
    resident = residents.get(spec.model_id)
    return tts_pb2.Model(
        model_id=spec.model_id,
        adapter=spec.adapter if isinstance(spec.adapter, str) else spec.adapter.__name__,
        languages=spec.languages,
        tags=spec.tags,
        aliases=spec.aliases,
        resident=None if resident is None else _resident(resident),
        is_default=is_default,
    )


def _resident(resident: ResidentStatistics) -> tts_pb2.Resident:
    return tts_pb2.Resident(
        state=resident.state,
        refcount=resident.refcount,
        owners=resident.owners,
        pinned=resident.pinned,
        age_s=resident.age_s,
        idle_s=resident.idle_s,
        expires_in_s=resident.expires_in_s,
        footprint_mb=resident.footprint_mb,
        load_s=resident.load_s,
        warmup_s=resident.warmup_s,
        streams=resident.streams,
        device=resident.device,
        mapped_mb=resident.mapped_mb,
        gaps=resident.gaps,
        late_s=resident.late_s,
        process=None if resident.process is None else _process(resident.process),
        yields_to=resident.yields_to,
        shared_mb=resident.shared_mb,
    )


def _process(process: ProcessStatistics) -> tts_pb2.Process:
    return tts_pb2.Process(
        name=process.name,
        pid=process.pid,
        memory_mb=process.memory_mb,
        age_s=process.age_s,
        restarts=process.restarts,
    )
