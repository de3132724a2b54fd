from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TextForm(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AS_CONFIGURED: _ClassVar[TextForm]
    PLAIN: _ClassVar[TextForm]
    MARKDOWN: _ClassVar[TextForm]

class ControlCommand(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PAUSE: _ClassVar[ControlCommand]
    RESUME: _ClassVar[ControlCommand]
    STOP: _ClassVar[ControlCommand]
    RELOAD: _ClassVar[ControlCommand]
AS_CONFIGURED: TextForm
PLAIN: TextForm
MARKDOWN: TextForm
PAUSE: ControlCommand
RESUME: ControlCommand
STOP: ControlCommand
RELOAD: ControlCommand

class StartSessionRequest(_message.Message):
    __slots__ = ("session_id", "model_id", "options", "sample_rate", "pronunciations")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class PronunciationsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_FIELD_NUMBER: _ClassVar[int]
    PRONUNCIATIONS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    model_id: str
    options: _containers.ScalarMap[str, str]
    sample_rate: int
    pronunciations: _containers.ScalarMap[str, str]
    def __init__(self, session_id: _Optional[str] = ..., model_id: _Optional[str] = ..., options: _Optional[_Mapping[str, str]] = ..., sample_rate: _Optional[int] = ..., pronunciations: _Optional[_Mapping[str, str]] = ...) -> None: ...

class StartSessionResponse(_message.Message):
    __slots__ = ("session_id", "model_id", "sample_rate", "idle_limit_ms")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_FIELD_NUMBER: _ClassVar[int]
    IDLE_LIMIT_MS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    model_id: str
    sample_rate: int
    idle_limit_ms: int
    def __init__(self, session_id: _Optional[str] = ..., model_id: _Optional[str] = ..., sample_rate: _Optional[int] = ..., idle_limit_ms: _Optional[int] = ...) -> None: ...

class EndSessionRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class EndSessionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class TextChunk(_message.Message):
    __slots__ = ("session_id", "text", "is_final", "sequence_number", "model_id", "options", "sample_rate", "text_form", "pronunciations", "word_times")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class PronunciationsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IS_FINAL_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FORM_FIELD_NUMBER: _ClassVar[int]
    PRONUNCIATIONS_FIELD_NUMBER: _ClassVar[int]
    WORD_TIMES_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    text: str
    is_final: bool
    sequence_number: int
    model_id: str
    options: _containers.ScalarMap[str, str]
    sample_rate: int
    text_form: TextForm
    pronunciations: _containers.ScalarMap[str, str]
    word_times: bool
    def __init__(self, session_id: _Optional[str] = ..., text: _Optional[str] = ..., is_final: bool = ..., sequence_number: _Optional[int] = ..., model_id: _Optional[str] = ..., options: _Optional[_Mapping[str, str]] = ..., sample_rate: _Optional[int] = ..., text_form: _Optional[_Union[TextForm, str]] = ..., pronunciations: _Optional[_Mapping[str, str]] = ..., word_times: bool = ...) -> None: ...

class WordTime(_message.Message):
    __slots__ = ("text", "start_s", "end_s")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    START_S_FIELD_NUMBER: _ClassVar[int]
    END_S_FIELD_NUMBER: _ClassVar[int]
    text: str
    start_s: float
    end_s: float
    def __init__(self, text: _Optional[str] = ..., start_s: _Optional[float] = ..., end_s: _Optional[float] = ...) -> None: ...

class WordTimes(_message.Message):
    __slots__ = ("words",)
    WORDS_FIELD_NUMBER: _ClassVar[int]
    words: _containers.RepeatedCompositeFieldContainer[WordTime]
    def __init__(self, words: _Optional[_Iterable[_Union[WordTime, _Mapping]]] = ...) -> None: ...

class AudioFrame(_message.Message):
    __slots__ = ("session_id", "audio_data", "sample_rate", "frame_duration_ms", "sequence_number", "is_final", "word_times")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    AUDIO_DATA_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_FIELD_NUMBER: _ClassVar[int]
    FRAME_DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    IS_FINAL_FIELD_NUMBER: _ClassVar[int]
    WORD_TIMES_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    audio_data: bytes
    sample_rate: int
    frame_duration_ms: int
    sequence_number: int
    is_final: bool
    word_times: WordTimes
    def __init__(self, session_id: _Optional[str] = ..., audio_data: _Optional[bytes] = ..., sample_rate: _Optional[int] = ..., frame_duration_ms: _Optional[int] = ..., sequence_number: _Optional[int] = ..., is_final: bool = ..., word_times: _Optional[_Union[WordTimes, _Mapping]] = ...) -> None: ...

class ControlRequest(_message.Message):
    __slots__ = ("session_id", "command")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    command: ControlCommand
    def __init__(self, session_id: _Optional[str] = ..., command: _Optional[_Union[ControlCommand, str]] = ...) -> None: ...

class ControlResponse(_message.Message):
    __slots__ = ("streams",)
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    streams: int
    def __init__(self, streams: _Optional[int] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ("model_id",)
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    def __init__(self, model_id: _Optional[str] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "resident_cap", "footprint_mb", "budget_mb", "capacity_used", "streams_waiting", "idle_processes", "shared", "memory")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_CAP_FIELD_NUMBER: _ClassVar[int]
    FOOTPRINT_MB_FIELD_NUMBER: _ClassVar[int]
    BUDGET_MB_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_USED_FIELD_NUMBER: _ClassVar[int]
    STREAMS_WAITING_FIELD_NUMBER: _ClassVar[int]
    IDLE_PROCESSES_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    resident_cap: int
    footprint_mb: float
    budget_mb: float
    capacity_used: float
    streams_waiting: int
    idle_processes: _containers.RepeatedCompositeFieldContainer[Process]
    shared: _containers.RepeatedCompositeFieldContainer[SharedMemory]
    memory: ProcessMemory
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., resident_cap: _Optional[int] = ..., footprint_mb: _Optional[float] = ..., budget_mb: _Optional[float] = ..., capacity_used: _Optional[float] = ..., streams_waiting: _Optional[int] = ..., idle_processes: _Optional[_Iterable[_Union[Process, _Mapping]]] = ..., shared: _Optional[_Iterable[_Union[SharedMemory, _Mapping]]] = ..., memory: _Optional[_Union[ProcessMemory, _Mapping]] = ...) -> None: ...

class SharedMemory(_message.Message):
    __slots__ = ("name", "size_mb", "device", "model_ids")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_MB_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    MODEL_IDS_FIELD_NUMBER: _ClassVar[int]
    name: str
    size_mb: float
    device: str
    model_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., size_mb: _Optional[float] = ..., device: _Optional[str] = ..., model_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class ProcessMemory(_message.Message):
    __slots__ = ("anonymous_mb", "mapped_mb", "proportional_mb")
    ANONYMOUS_MB_FIELD_NUMBER: _ClassVar[int]
    MAPPED_MB_FIELD_NUMBER: _ClassVar[int]
    PROPORTIONAL_MB_FIELD_NUMBER: _ClassVar[int]
    anonymous_mb: float
    mapped_mb: float
    proportional_mb: float
    def __init__(self, anonymous_mb: _Optional[float] = ..., mapped_mb: _Optional[float] = ..., proportional_mb: _Optional[float] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("model_id", "adapter", "languages", "tags", "aliases", "resident", "explanation", "is_default")
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    LANGUAGES_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    IS_DEFAULT_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    adapter: str
    languages: _containers.RepeatedScalarFieldContainer[str]
    tags: _containers.RepeatedScalarFieldContainer[str]
    aliases: _containers.RepeatedScalarFieldContainer[str]
    resident: Resident
    explanation: str
    is_default: bool
    def __init__(self, model_id: _Optional[str] = ..., adapter: _Optional[str] = ..., languages: _Optional[_Iterable[str]] = ..., tags: _Optional[_Iterable[str]] = ..., aliases: _Optional[_Iterable[str]] = ..., resident: _Optional[_Union[Resident, _Mapping]] = ..., explanation: _Optional[str] = ..., is_default: bool = ...) -> None: ...

class Resident(_message.Message):
    __slots__ = ("state", "refcount", "owners", "pinned", "age_s", "idle_s", "expires_in_s", "footprint_mb", "load_s", "warmup_s", "streams", "device", "mapped_mb", "gaps", "late_s", "process", "yields_to", "shared_mb")
    STATE_FIELD_NUMBER: _ClassVar[int]
    REFCOUNT_FIELD_NUMBER: _ClassVar[int]
    OWNERS_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    AGE_S_FIELD_NUMBER: _ClassVar[int]
    IDLE_S_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_IN_S_FIELD_NUMBER: _ClassVar[int]
    FOOTPRINT_MB_FIELD_NUMBER: _ClassVar[int]
    LOAD_S_FIELD_NUMBER: _ClassVar[int]
    WARMUP_S_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    MAPPED_MB_FIELD_NUMBER: _ClassVar[int]
    GAPS_FIELD_NUMBER: _ClassVar[int]
    LATE_S_FIELD_NUMBER: _ClassVar[int]
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    YIELDS_TO_FIELD_NUMBER: _ClassVar[int]
    SHARED_MB_FIELD_NUMBER: _ClassVar[int]
    state: str
    refcount: int
    owners: _containers.RepeatedScalarFieldContainer[str]
    pinned: bool
    age_s: float
    idle_s: float
    expires_in_s: float
    footprint_mb: float
    load_s: float
    warmup_s: float
    streams: int
    device: str
    mapped_mb: float
    gaps: int
    late_s: float
    process: Process
    yields_to: str
    shared_mb: float
    def __init__(self, state: _Optional[str] = ..., refcount: _Optional[int] = ..., owners: _Optional[_Iterable[str]] = ..., pinned: bool = ..., age_s: _Optional[float] = ..., idle_s: _Optional[float] = ..., expires_in_s: _Optional[float] = ..., footprint_mb: _Optional[float] = ..., load_s: _Optional[float] = ..., warmup_s: _Optional[float] = ..., streams: _Optional[int] = ..., device: _Optional[str] = ..., mapped_mb: _Optional[float] = ..., gaps: _Optional[int] = ..., late_s: _Optional[float] = ..., process: _Optional[_Union[Process, _Mapping]] = ..., yields_to: _Optional[str] = ..., shared_mb: _Optional[float] = ...) -> None: ...

class Process(_message.Message):
    __slots__ = ("name", "pid", "memory_mb", "age_s", "restarts")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MB_FIELD_NUMBER: _ClassVar[int]
    AGE_S_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    pid: int
    memory_mb: float
    age_s: float
    restarts: int
    def __init__(self, name: _Optional[str] = ..., pid: _Optional[int] = ..., memory_mb: _Optional[float] = ..., age_s: _Optional[float] = ..., restarts: _Optional[int] = ...) -> None: ...

class LoadModelRequest(_message.Message):
    __slots__ = ("model_id",)
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    def __init__(self, model_id: _Optional[str] = ...) -> None: ...

class LoadModelResponse(_message.Message):
    __slots__ = ("load_duration_ms", "footprint_mb")
    LOAD_DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    FOOTPRINT_MB_FIELD_NUMBER: _ClassVar[int]
    load_duration_ms: int
    footprint_mb: float
    def __init__(self, load_duration_ms: _Optional[int] = ..., footprint_mb: _Optional[float] = ...) -> None: ...

class UnloadModelRequest(_message.Message):
    __slots__ = ("model_id",)
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    def __init__(self, model_id: _Optional[str] = ...) -> None: ...

class UnloadModelResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PrefetchRequest(_message.Message):
    __slots__ = ("model_id", "within_s")
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    WITHIN_S_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    within_s: float
    def __init__(self, model_id: _Optional[str] = ..., within_s: _Optional[float] = ...) -> None: ...

class PrefetchResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetCapabilitiesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetCapabilitiesResponse(_message.Message):
    __slots__ = ("version", "default_model_id", "resident_models", "languages", "default_sample_rate", "frame_duration_ms", "max_text_chars", "max_sessions", "max_streams", "http_address")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_MODELS_FIELD_NUMBER: _ClassVar[int]
    LANGUAGES_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_SAMPLE_RATE_FIELD_NUMBER: _ClassVar[int]
    FRAME_DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_TEXT_CHARS_FIELD_NUMBER: _ClassVar[int]
    MAX_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    MAX_STREAMS_FIELD_NUMBER: _ClassVar[int]
    HTTP_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    version: str
    default_model_id: str
    resident_models: _containers.RepeatedScalarFieldContainer[str]
    languages: _containers.RepeatedScalarFieldContainer[str]
    default_sample_rate: int
    frame_duration_ms: int
    max_text_chars: int
    max_sessions: int
    max_streams: int
    http_address: str
    def __init__(self, version: _Optional[str] = ..., default_model_id: _Optional[str] = ..., resident_models: _Optional[_Iterable[str]] = ..., languages: _Optional[_Iterable[str]] = ..., default_sample_rate: _Optional[int] = ..., frame_duration_ms: _Optional[int] = ..., max_text_chars: _Optional[int] = ..., max_sessions: _Optional[int] = ..., max_streams: _Optional[int] = ..., http_address: _Optional[str] = ...) -> None: ...

class GetReportRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WorkerReport(_message.Message):
    __slots__ = ("boot_id", "sequence", "catalog", "default_model_id", "places", "free_places", "evictable_places", "free_bytes", "evictable_bytes", "room_in_s", "in_flight", "streams", "streams_waiting", "waiting", "capacity_used", "ready", "draining", "residents", "load_s")
    class LoadSEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CATALOG_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    PLACES_FIELD_NUMBER: _ClassVar[int]
    FREE_PLACES_FIELD_NUMBER: _ClassVar[int]
    EVICTABLE_PLACES_FIELD_NUMBER: _ClassVar[int]
    FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    EVICTABLE_BYTES_FIELD_NUMBER: _ClassVar[int]
    ROOM_IN_S_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    STREAMS_WAITING_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_USED_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    RESIDENTS_FIELD_NUMBER: _ClassVar[int]
    LOAD_S_FIELD_NUMBER: _ClassVar[int]
    boot_id: str
    sequence: int
    catalog: str
    default_model_id: str
    places: int
    free_places: int
    evictable_places: int
    free_bytes: int
    evictable_bytes: int
    room_in_s: float
    in_flight: int
    streams: int
    streams_waiting: int
    waiting: int
    capacity_used: float
    ready: bool
    draining: bool
    residents: _containers.RepeatedCompositeFieldContainer[ReportedModel]
    load_s: _containers.ScalarMap[str, float]
    def __init__(self, boot_id: _Optional[str] = ..., sequence: _Optional[int] = ..., catalog: _Optional[str] = ..., default_model_id: _Optional[str] = ..., places: _Optional[int] = ..., free_places: _Optional[int] = ..., evictable_places: _Optional[int] = ..., free_bytes: _Optional[int] = ..., evictable_bytes: _Optional[int] = ..., room_in_s: _Optional[float] = ..., in_flight: _Optional[int] = ..., streams: _Optional[int] = ..., streams_waiting: _Optional[int] = ..., waiting: _Optional[int] = ..., capacity_used: _Optional[float] = ..., ready: bool = ..., draining: bool = ..., residents: _Optional[_Iterable[_Union[ReportedModel, _Mapping]]] = ..., load_s: _Optional[_Mapping[str, float]] = ...) -> None: ...

class ReportedModel(_message.Message):
    __slots__ = ("model_id", "state", "references", "streams", "idle_s", "left_s", "can_leave", "footprint")
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REFERENCES_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    IDLE_S_FIELD_NUMBER: _ClassVar[int]
    LEFT_S_FIELD_NUMBER: _ClassVar[int]
    CAN_LEAVE_FIELD_NUMBER: _ClassVar[int]
    FOOTPRINT_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    state: str
    references: int
    streams: int
    idle_s: float
    left_s: float
    can_leave: bool
    footprint: int
    def __init__(self, model_id: _Optional[str] = ..., state: _Optional[str] = ..., references: _Optional[int] = ..., streams: _Optional[int] = ..., idle_s: _Optional[float] = ..., left_s: _Optional[float] = ..., can_leave: bool = ..., footprint: _Optional[int] = ...) -> None: ...

class GetFiguresRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetFiguresResponse(_message.Message):
    __slots__ = ("figures", "models")
    FIGURES_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    figures: WorkerFigures
    models: _containers.RepeatedCompositeFieldContainer[Model]
    def __init__(self, figures: _Optional[_Union[WorkerFigures, _Mapping]] = ..., models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ...) -> None: ...

class WorkerFigures(_message.Message):
    __slots__ = ("boot_id", "version", "up_s", "ready", "draining", "sessions", "in_flight", "streams", "streams_waiting", "waiting", "capacity_used", "places", "residents", "footprint", "budget", "window_s", "recent", "models", "ended", "refused", "audio_s", "gaps", "late_s", "crashes", "memory", "shared", "processes")
    class ModelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: SpeechFigures
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[SpeechFigures, _Mapping]] = ...) -> None: ...
    class EndedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class RefusedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class CrashesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    UP_S_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    STREAMS_WAITING_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_USED_FIELD_NUMBER: _ClassVar[int]
    PLACES_FIELD_NUMBER: _ClassVar[int]
    RESIDENTS_FIELD_NUMBER: _ClassVar[int]
    FOOTPRINT_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    WINDOW_S_FIELD_NUMBER: _ClassVar[int]
    RECENT_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    AUDIO_S_FIELD_NUMBER: _ClassVar[int]
    GAPS_FIELD_NUMBER: _ClassVar[int]
    LATE_S_FIELD_NUMBER: _ClassVar[int]
    CRASHES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    PROCESSES_FIELD_NUMBER: _ClassVar[int]
    boot_id: str
    version: str
    up_s: float
    ready: bool
    draining: bool
    sessions: int
    in_flight: int
    streams: int
    streams_waiting: int
    waiting: int
    capacity_used: float
    places: int
    residents: int
    footprint: int
    budget: int
    window_s: float
    recent: SpeechFigures
    models: _containers.MessageMap[str, SpeechFigures]
    ended: _containers.ScalarMap[str, int]
    refused: _containers.ScalarMap[str, int]
    audio_s: float
    gaps: int
    late_s: float
    crashes: _containers.ScalarMap[str, int]
    memory: MemoryFigures
    shared: _containers.RepeatedCompositeFieldContainer[SharedFigures]
    processes: _containers.RepeatedCompositeFieldContainer[ProcessFigures]
    def __init__(self, boot_id: _Optional[str] = ..., version: _Optional[str] = ..., up_s: _Optional[float] = ..., ready: bool = ..., draining: bool = ..., sessions: _Optional[int] = ..., in_flight: _Optional[int] = ..., streams: _Optional[int] = ..., streams_waiting: _Optional[int] = ..., waiting: _Optional[int] = ..., capacity_used: _Optional[float] = ..., places: _Optional[int] = ..., residents: _Optional[int] = ..., footprint: _Optional[int] = ..., budget: _Optional[int] = ..., window_s: _Optional[float] = ..., recent: _Optional[_Union[SpeechFigures, _Mapping]] = ..., models: _Optional[_Mapping[str, SpeechFigures]] = ..., ended: _Optional[_Mapping[str, int]] = ..., refused: _Optional[_Mapping[str, int]] = ..., audio_s: _Optional[float] = ..., gaps: _Optional[int] = ..., late_s: _Optional[float] = ..., crashes: _Optional[_Mapping[str, int]] = ..., memory: _Optional[_Union[MemoryFigures, _Mapping]] = ..., shared: _Optional[_Iterable[_Union[SharedFigures, _Mapping]]] = ..., processes: _Optional[_Iterable[_Union[ProcessFigures, _Mapping]]] = ...) -> None: ...

class MemoryFigures(_message.Message):
    __slots__ = ("anonymous", "mapped", "proportional")
    ANONYMOUS_FIELD_NUMBER: _ClassVar[int]
    MAPPED_FIELD_NUMBER: _ClassVar[int]
    PROPORTIONAL_FIELD_NUMBER: _ClassVar[int]
    anonymous: int
    mapped: int
    proportional: int
    def __init__(self, anonymous: _Optional[int] = ..., mapped: _Optional[int] = ..., proportional: _Optional[int] = ...) -> None: ...

class SharedFigures(_message.Message):
    __slots__ = ("name", "size", "device", "models")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    name: str
    size: int
    device: str
    models: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., size: _Optional[int] = ..., device: _Optional[str] = ..., models: _Optional[_Iterable[str]] = ...) -> None: ...

class SpeechFigures(_message.Message):
    __slots__ = ("ended", "failed", "first_audio_p50_s", "first_audio_p95_s", "real_time_factor", "audio_s", "gaps", "late_s")
    ENDED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    FIRST_AUDIO_P50_S_FIELD_NUMBER: _ClassVar[int]
    FIRST_AUDIO_P95_S_FIELD_NUMBER: _ClassVar[int]
    REAL_TIME_FACTOR_FIELD_NUMBER: _ClassVar[int]
    AUDIO_S_FIELD_NUMBER: _ClassVar[int]
    GAPS_FIELD_NUMBER: _ClassVar[int]
    LATE_S_FIELD_NUMBER: _ClassVar[int]
    ended: int
    failed: int
    first_audio_p50_s: float
    first_audio_p95_s: float
    real_time_factor: float
    audio_s: float
    gaps: int
    late_s: float
    def __init__(self, ended: _Optional[int] = ..., failed: _Optional[int] = ..., first_audio_p50_s: _Optional[float] = ..., first_audio_p95_s: _Optional[float] = ..., real_time_factor: _Optional[float] = ..., audio_s: _Optional[float] = ..., gaps: _Optional[int] = ..., late_s: _Optional[float] = ...) -> None: ...

class ProcessFigures(_message.Message):
    __slots__ = ("name", "pid", "age_s", "memory", "restarts", "idle")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    AGE_S_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    IDLE_FIELD_NUMBER: _ClassVar[int]
    name: str
    pid: int
    age_s: float
    memory: int
    restarts: int
    idle: bool
    def __init__(self, name: _Optional[str] = ..., pid: _Optional[int] = ..., age_s: _Optional[float] = ..., memory: _Optional[int] = ..., restarts: _Optional[int] = ..., idle: bool = ...) -> None: ...
